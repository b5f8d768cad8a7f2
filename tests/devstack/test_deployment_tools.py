# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The snippets for deployment tools give what the sample nova.conf gives."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

import pytest
import yaml
from oslo_config import cfg

from tests.devstack.conftest import ROOT

EXAMPLES = ROOT / "doc" / "source" / "_examples"
Sections = dict[str, dict[str, list[str]]]


def parse(paths: Iterable[pathlib.Path]) -> Sections:
    """Merge files as kolla-ansible does: the values of a later file replace an option's."""
    merged: Sections = {}
    for path in paths:
        sections: Sections = {}
        cfg.ConfigParser(str(path), sections).parse()
        for name, values in sections.items():
            merged.setdefault(name, {}).update(values)
    return merged


@pytest.fixture
def sample() -> Sections:
    return parse([ROOT / "etc" / "nova-devcompat" / "nova.conf"])


def test_kolla_ansible(sample):
    kolla = EXAMPLES / "kolla"

    merged = parse([kolla / "nova.conf", *sorted(kolla.glob("nova/*.conf"))])

    assert merged["DEFAULT"] == sample["DEFAULT"]
    assert merged["filter_scheduler"] == sample["filter_scheduler"]
    # The others have defaults.
    assert merged["devcompat"].items() <= sample["devcompat"].items()


def test_openstack_ansible(sample):
    variables = yaml.safe_load((EXAMPLES / "osa" / "user_variables.yml").read_text())
    overrides = variables["nova_nova_conf_overrides"]

    def lines(value: object) -> list[str]:
        """As config_template writes an override."""
        if isinstance(value, dict) and not any(value.values()):
            return list(value)
        return [",".join(value)] if isinstance(value, list) else [str(value)]

    written = {
        section: {option: lines(value) for option, value in options.items()}
        for section, options in overrides.items()
    }
    assert [variables["nova_compute_driver"]] == sample["DEFAULT"]["compute_driver"]
    # The role puts these behind all others, which deployment-tools.rst tells of.
    enabled = sample["filter_scheduler"].pop("enabled_filters")[0].split(",")
    assert set(variables["nova_scheduler_extra_filters"]) == {"DeviceCompatFilter"} & set(enabled)
    assert written["filter_scheduler"] == sample["filter_scheduler"]
    assert written["devcompat"].items() <= sample["devcompat"].items()
