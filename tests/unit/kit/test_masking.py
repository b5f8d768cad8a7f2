# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Secrets are found by their names and in URLs, and are gone wherever they stand."""

import pytest

from nova_devcompat.kit.masking import masked, secrets_in

CONF = """\
[DEFAULT]
transport_url = rabbit://nova:rabbit-s3cret@mq1:5672,nova:other-s3cret@mq2:5672/
# password = of-a-comment
[api_database]
connection = mysql+pymysql://nova:p%40ss-w%2Frd@db/nova_api?charset=utf8
[placement]
auth_url = http://keystone/v3
username = nova
password = placement-s3cret
[neutron]
metadata_proxy_shared_secret="sh@red s3cret"
[pci]
device_spec = {"vendor_id": "15b3"}
[api]
enforce_token = true
password_length = 12
[vmware]
host_password = ab
"""
SECRETS = {
    "rabbit-s3cret",
    "other-s3cret",
    "p%40ss-w%2Frd",
    "p@ss-w/rd",
    "placement-s3cret",
    "sh@red s3cret",
}


def test_they_are_found():
    assert secrets_in(CONF) == SECRETS


def test_they_are_gone():
    found = masked(CONF)
    assert not any(secret in found for secret in SECRETS - {"p@ss-w/rd"})
    assert "host_password = ***" in found
    for kept in ("rabbit://***@mq2:5672/", "auth_url = http://keystone/v3", "username = nova"):
        assert kept in found
    assert 'device_spec = {"vendor_id": "15b3"}' in found
    # Nothing is left to be found.
    assert masked(found) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it said p@ss-w/rd to me", "it said *** to me"),
        ('x {"a": 1, "admin_pass": "s3cr et", "b": 2}', 'x {"a": 1, "admin_pass": ***, "b": 2}'),
        ("a: 1 auth_token=gAAAA, b=2", "a: 1 auth_token=***, b=2"),
        ("to amqp://u:p@w@h:5672 and http://h/x", "to amqp://***@h:5672 and http://h/x"),
        ("1: X-Auth-Token: gAAAA", "1: X-Auth-Token: ***"),
        ("pci_passthrough:alias = vf:1", "pci_passthrough:alias = vf:1"),
        ("compass: north, no passthrough = here", "compass: north, no passthrough = here"),
        ("mail to a@b.c about gpu://x", "mail to a@b.c about gpu://x"),
    ],
)
def test_in_a_line(text, expected):
    assert masked(text, SECRETS) == expected


def test_one_that_is_a_part_of_another():
    assert masked("longer-s3cret s3cret", {"s3cret", "longer-s3cret"}) == "*** ***"
