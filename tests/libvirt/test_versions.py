# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Two versions of libvirt and QEMU: Debian's, and those of its backports on cmp3."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.e2e.playground import CYCLE
from tests.libvirt.hosts import Cloud, trait

pytestmark = pytest.mark.slow

#: What the operator knows of two versions of QEMU: guests of a machine type before 8.0 with PCI
#: Express ports have what the entry is about.
KNOWN_BAD = """\
meta:
  schema_version: '1.0'

known_bad:
  - name: our-qemu-10
    family: qemu
    need: {pcie_unc_mask: '<8'}
    offer: {qemu_version: '>=10'}
    message: our own experience
    url: https://example.org/our-qemu-10
"""


@pytest.fixture
def versions(cloud: Cloud) -> Iterator[Cloud]:
    """The cloud with a third host."""
    done = cloud.try_up("--computes", "3", "--backports", "cmp3")
    if done.returncode == os.EX_UNAVAILABLE:
        pytest.skip(f"needs Debian's backports: {done.stdout}")
    assert done.returncode == 0, done.stdout
    assert cloud.qemu_version("cmp1") != cloud.qemu_version("cmp3")
    yield cloud
    cloud.delete(*cloud.servers())


@contextlib.contextmanager
def catalog(cloud: Cloud, text: str) -> Iterator[None]:
    """Have hosts read another catalog, beside the packs; in the end the one from before."""
    path = cloud.data / "etc/devcompat.yaml"
    before, logs = path.read_text(), cloud.logs()
    path.write_text(text)
    try:
        for host in cloud.hosts():
            # With the next cycle; nova-scheduler does with the next request.
            assert logs.wait_for(f"nova-compute-{host}", "In force now: qemu:", seconds=CYCLE)
        yield
    finally:
        path.write_text(before)


def refused(cloud: Cloud, server: str, host: str, *words: str) -> None:
    """A host refuses a guest for a reason, and the guest has not noticed anything."""
    ran, was = cloud.domain_id(server), cloud.host_of(server)
    logs = cloud.logs()
    moved = cloud.live_migrate(server, host)
    assert (moved.status, moved.host, moved.tried) == ("error", was, [])
    (line,) = logs.wait_for("nova-scheduler", moved.request, "No host accepts")
    assert all(word in line for word in words), line
    assert cloud.show(server)["status"] == "ACTIVE"
    assert cloud.domain_id(server) == ran


def test_to_a_newer_qemu_and_back(versions: Cloud) -> None:
    """The packs accept both ways, and both work; started anew there, a guest cannot go back."""
    cloud, old, new = versions, versions.qemu_version("cmp1"), versions.qemu_version("cmp3")
    server = cloud.boot("traveller", "plain", "cmp1")
    machine = cloud.machine_type(server)
    for host in ("cmp3", "cmp2", "cmp3"):
        moved = cloud.live_migrate(server, host)
        assert (moved.status, moved.host) == ("completed", host)
        cloud.check(server, old)

    cloud.act(server, {"reboot": {"type": "SOFT"}})
    # Launched again as it is defined: the same machine, by another QEMU.
    assert cloud.machine_type(server) == machine
    cloud.check(server, new)
    assert cloud.live_migrate(server, "cmp1").status == "completed"
    cloud.check(server, new)
    assert cloud.live_migrate(server, "cmp3").status == "completed"

    cloud.act(server, {"reboot": {"type": "HARD"}})
    newer = cloud.machine_type(server)
    assert newer != machine
    cloud.check(server, new)
    assert trait(newer) in cloud.our_traits("cmp3") - cloud.our_traits("cmp1")
    refused(cloud, server, "cmp1", f"cmp1: qemu_machine.machine_types: needs {newer}")


def test_a_version_that_is_known_not_to_work(versions: Cloud) -> None:
    cloud = versions
    server = cloud.boot("before", "plain", "cmp1")
    with catalog(cloud, KNOWN_BAD):
        refused(cloud, server, "cmp3", "cmp3: qemu", "our-qemu-10")
        assert cloud.live_migrate(server, "cmp2").status == "completed"
