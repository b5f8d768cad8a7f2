# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What tools/cloud runs its services with, and what makes it restart them."""

from __future__ import annotations

import pathlib

import pytest

from rigs.cloud.configuration import Files
from rigs.cloud.layout import Cloud, write
from rigs.cloud.packages import PROGRAMS, Debian
from rigs.cloud.processes import Service
from rigs.cloud.services import Services


@pytest.fixture
def cloud(tmp_path: pathlib.Path) -> Cloud:
    """Never started, with programs that are nothing but names."""
    for name in PROGRAMS:
        folder = "usr/lib/rabbitmq/bin" if name == "rabbitmq-server" else "usr/bin"
        write(tmp_path / "debian" / folder / name, "#!/bin/sh\n", mode=0o755)
    cloud = Cloud(tmp_path)
    write(cloud.venv / "etc/nova/api-paste.ini", "")
    Files(cloud).write()
    return cloud


def services(cloud: Cloud) -> dict[str, Service]:
    return {service.name: service for service in Services(cloud, Debian(cloud)).all()}


def test_another_shell_restarts_nothing(cloud, monkeypatch):
    """Its PATH is for what is typed there."""

    def digests() -> dict[str, str]:
        return {name: service.digest() for name, service in services(cloud).items()}

    before = digests()
    monkeypatch.setenv("PATH", "/somewhere/else")
    assert digests() == before
    monkeypatch.delenv("PATH")
    assert digests() == before


def test_a_service_finds_the_clouds_programs_before_the_machines(cloud):
    found = services(cloud)
    paths = {name: service.environ["PATH"].split(":") for name, service in found.items()}
    assert paths["nova-compute-cmp1"][0] == str(cloud.venv / "bin")
    assert paths["rabbitmq"][0] == str(cloud / "debian/usr/sbin")
    for path in paths.values():
        assert {"/usr/sbin", "/usr/bin", "/bin"} <= set(path)


def test_what_a_service_reads_restarts_it(cloud):
    before = {name: service.digest() for name, service in services(cloud).items()}
    path = cloud / "etc/hosts/cmp1.conf"
    path.write_text(path.read_text() + "\n[other]\nname = value\n")
    after = {name: service.digest() for name, service in services(cloud).items()}
    assert {name for name in before if before[name] != after[name]} == {"nova-compute-cmp1"}
