# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""nova-devcompat comes to one host after the other, while guests are restarted and moved."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Collection, Iterator

import pytest

from tests.e2e.playground import Cloud, until, values

pytestmark = pytest.mark.slow

FLAVORS = ("vf", "vgpu", "vf-vgpu")


class Load:
    """What users and operators do to guests meanwhile.

    A guest of which nothing is recorded yet is not live migrated: what it depends on then is known
    to nobody, and what it is adopted with is an assumption.

    :param cloud: the cloud
    :param servers: the guests
    :ivar done: what was done, with the guest
    :ivar errors: what ended a thread of it
    """

    def __init__(self, cloud: Cloud, servers: Collection[str]) -> None:
        self._cloud = cloud
        self._ours: set[str] = set()
        self._known: set[str] = set()
        self._ending = threading.Event()
        # Held by each operation that goes on.
        self._gates = {server: threading.Lock() for server in servers}
        self.done: list[tuple[str, str]] = []
        self.errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(server, seed))
            for seed, server in enumerate(servers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait until what was begun has ended."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is begun, and what was has ended: Nova loses what a restart interrupts."""
        with contextlib.ExitStack() as held:
            for gate in self._gates.values():
                held.enter_context(gate)
            yield

    def goes_on(self, operations: int) -> None:
        """Wait until so many more are done."""
        wanted = len(self.done) + operations
        until("guests to be moved", lambda: self.errors or len(self.done) >= wanted, 300)

    def comes_to(self, host: str) -> None:
        """A host looks at its guests from now on."""
        self._ours.add(host)

    def _run(self, server: str, seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not self._ending.wait(chance.random()):
                with self._gates[server]:
                    self._do(server, chance.choice(["reboot", "cold", "live", "live"]))
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            self.errors.append(error)

    def _do(self, server: str, what: str) -> None:
        host = self._cloud.host_of(server)
        if host in self._ours:
            self._known.add(server)
        if what == "live":
            if server not in self._known:
                return
            self._cloud.live_migrate(server)
        else:
            begun_with = set(self._ours)
            if what == "reboot":
                self._cloud.reboot(server)
            else:
                self._cloud.cold_migrate(server)
            if self._cloud.host_of(server) not in begun_with:
                self._known.discard(server)
        self.done.append((what, server))


def expected(state: dict[str, dict[str, str]]) -> dict[str, dict[str, list[str]]]:
    """What is to be recorded of devices that hold such a state."""
    needs = {}
    for device in state.values():
        for attribute, version in device.items():
            if attribute == "fw_version":
                needs["mlx5_vf"] = {attribute: [".".join(version.split(".")[:2])]}
            else:
                needs["nvidia_vgpu"] = {attribute: [version.lower()]}
    return needs


def test_under_load(stock: Cloud) -> None:
    cloud = stock
    hosts = cloud.hosts()
    servers = [
        cloud.boot(f"guest{number}", FLAVORS[number % 3], host)
        for number, host in enumerate(hosts)
    ]
    load = Load(cloud, servers)
    load.start()
    try:
        for number, host in enumerate(hosts):
            load.goes_on(len(servers))
            with load.paused():
                cloud.tool("up", "--devcompat", ",".join(hosts[: number + 1]), "--mode", "report")
            cloud.cycle(host)
            load.comes_to(host)
        load.goes_on(len(servers))
    finally:
        load.end()
    assert not load.errors
    assert {what for what, _ in load.done} == {"reboot", "cold", "live"}
    cloud.cycle()
    cloud.cycle()
    assert [cloud.show(server)["status"] for server in servers] == ["ACTIVE"] * len(servers)
    records = {server: cloud.record(server) for server in servers}
    recorded = {server: values(record) for server, record in records.items()}
    assert recorded == {server: expected(cloud.remembered(server)) for server in servers}
    assert all(one["address"] for record in records.values() for one in record)
    # And nothing is stale: all are of the host that the guest is on.
    cloud.tool("up", "--devcompat", "--mode", "enforce")
    cloud.settle()
    logs = cloud.logs()
    for server in servers:
        cloud.live_migrate(server)
    assert not logs.lines("nova-*", "record-stale")
