# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is published while a source or placement takes its time."""

import threading
import uuid

import pytest
from nova.compute.provider_tree import ProviderTree

from nova_devcompat.catalog import packs
from nova_devcompat.compute.publish import Publisher
from nova_devcompat.host.devices import HostDevice, HostDevices
from nova_devcompat.service import load_catalog

CATALOG = load_catalog(packs.catalog_paths(["mlx5_vf"]))
PF = "0000:82:00.0"


class Slow:
    """Reads devices and stands for placement; each question waits until it may be answered."""

    def __init__(self):
        self.psid = "one"
        self.asked = threading.Semaphore(0)
        self.may = threading.Event()
        self.may.set()

    def _wait(self):
        self.asked.release()
        assert self.may.wait(10)

    def read(self, nodename):
        self._wait()
        attributes = {"fw_psid": self.psid, "fw_version": "28.39.1002"}
        offer = CATALOG.families["mlx5_vf"].family.offer(attributes)
        return HostDevices(CATALOG, [HostDevice(PF, offer, facts=attributes)])

    def known_atoms(self, *, associated=False):
        self._wait()
        return frozenset()

    def providers_of(self, nodename):
        self._wait()
        return {}


@pytest.fixture
def tree():
    made = ProviderTree()
    made.new_root("cmp1", str(uuid.uuid4()))
    return made


def ours(tree):
    return {name for name in tree.data("cmp1").traits if "PSID" in name}


def test_nothing_is_asked_for_a_claim(tree):
    """Nova wants the traits under the lock that each claim of the host takes."""
    slow = Slow()
    publisher = Publisher(slow, slow)
    publisher.update_root_traits(tree, "cmp1")
    assert not ours(tree), "nothing is known before the first cycle, and nobody is asked"
    assert not slow.asked.acquire(blocking=False)
    assert publisher.stats("cmp1")
    publisher.update_root_traits(tree, "cmp1")
    before = ours(tree)
    assert before == {"CUSTOM_DEVCOMPAT_MLX5_VF__FW_PSID__ONE"}
    while slow.asked.acquire(blocking=False):
        pass
    slow.psid = "two"
    slow.may.clear()
    cycle = threading.Thread(target=publisher.stats, args=("cmp1",))
    cycle.start()
    assert slow.asked.acquire(timeout=10), "the cycle has begun to ask"
    claim = threading.Thread(target=publisher.update_root_traits, args=(tree, "cmp1"))
    claim.start()
    claim.join(5)
    assert not claim.is_alive(), "a claim waits for a source"
    assert ours(tree) == before
    assert publisher.devices("cmp1") is not None
    slow.may.set()
    cycle.join(10)
    publisher.update_root_traits(tree, "cmp1")
    assert ours(tree) == {"CUSTOM_DEVCOMPAT_MLX5_VF__FW_PSID__TWO"}
