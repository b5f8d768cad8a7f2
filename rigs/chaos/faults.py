# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What goes wrong: made before the operations of a step, meanwhile, and undone after them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from rigs.chaos.access import Access
from rigs.chaos.model import Versions
from rigs.chaos.plan import Fault
from rigs.cloud import fleet
from rigs.cloud.configuration import Files
from rigs.cloud.layout import CONTROLLER, CloudError, write
from rigs.cloud.packages import Debian
from rigs.cloud.processes import Process, Service, Supervisor
from rigs.cloud.provision import Setup
from rigs.cloud.services import Services

#: Services by the word that faults have for them; '' for the compute of the fault's host.
SERVICES = {
    "compute": "",
    "scheduler": "nova-scheduler",
    "conductor": "nova-conductor-cell1",
    "super-conductor": "nova-conductor",
    "api": "nova-api",
    "placement": "placement",
    "broker": "rabbitmq",
    "database": "mariadb",
}
#: Those during which all is known and published: whatever fits must be accepted.
SETTLED = ("none", "versions-waited", "catalog-broken")
#: Those in which no service is interrupted: Nova has no reason to leave anything behind.
GENTLE = (*SETTLED, "versions-at-once", "versions-meanwhile", "catalog-other")
#: Seconds that a slow service stands still, and goes on, in turn.
_STILL, _GOES = 0.25, 0.1
_BROKEN = "meta: {schema_version: '1.0'}\nfamilies:\n  mlx5_vf: [this is no family\n"
#: How far a clock is off.
_CLOCK = "-7m"
_FULL = pathlib.Path("/dev/full")
_LATE = pathlib.Path(__file__).with_name("late.py")


@dataclasses.dataclass(kw_only=True)
class Faults:
    """Makes faults in a cloud.

    :param access: to the cloud
    :param versions: what hosts have, by host; kept up to date
    :param settle: waits until hosts publish what they have
    """

    access: Access
    versions: dict[str, Versions]
    settle: Callable[[], None]

    def __post_init__(self) -> None:
        cloud = self.access.cloud
        self._supervisor = Supervisor(cloud)
        debian = Debian(cloud)
        self._services = Services(cloud, debian)
        self._setup = Setup(cloud, self._services, debian, self._supervisor)
        self._hosts = list(self.access.cells)

    def possible(self, name: str) -> bool:
        """Whether a fault can be made here."""
        if name in ("plugin-absent", "catalog-broken-at-start") and self.access.stock:
            return False
        if name == "clock-off":
            return self._faketime() is not None
        return name != "log-full" or _FULL.exists()

    def host(self, fault: Fault) -> str:
        """The host that a fault is about."""
        return self._hosts[fault.host % len(self._hosts)]

    @contextlib.contextmanager
    def around(self, fault: Fault) -> Iterator[None]:
        """What is so from before the operations to after them."""
        host = self.host(fault)
        if fault.name == "versions-waited":
            self._change(host, fault.versions)
            self.settle()
        elif fault.name == "versions-at-once":
            self._change(host, fault.versions)
        elif fault.name in ("catalog-broken", "catalog-other"):
            with self._catalog(host, self._text(fault.name)):
                yield
            return
        elif fault.name == "plugin-absent":
            with self._without(host):
                yield
            return
        elif fault.name == "log-full":
            with self._otherwise(host, _into_full):
                yield
            return
        elif fault.name == "clock-off":
            with self._otherwise(host, self._clock_off):
                yield
            return
        yield

    def happen(self, fault: Fault) -> None:
        """What goes wrong while the operations go on."""
        what, _, how = fault.name.rpartition("-")
        time.sleep(fault.delay)
        if fault.name == "versions-meanwhile":
            self._change(self.host(fault), fault.versions)
        elif fault.name == "catalog-broken-at-start":
            self._cannot_start(self.host(fault))
        elif how == "stopped":
            with self._still(what, fault):
                time.sleep(fault.seconds)
        elif how == "slow":
            end = time.monotonic() + fault.seconds * 2
            while time.monotonic() < end:
                with self._still(what, fault):
                    time.sleep(_STILL)
                time.sleep(_GOES)
        elif fault.name.startswith("kill-"):
            self._kill(fault.name.removeprefix("kill-"), fault)

    # --- versions and catalogs ------------------------------------------------------------------

    def _change(self, host: str, versions: Versions) -> None:
        self.access.set_versions(host, versions)
        self.versions[host] = versions

    def _text(self, name: str) -> str:
        # A slip of the pen: no function is of the family.
        return _BROKEN if name == "catalog-broken" else fleet.CATALOG.replace("101e", "101f")

    @contextlib.contextmanager
    def _catalog(self, host: str, text: str) -> Iterator[None]:
        """Give a host a catalog of its own."""
        path = fleet.catalog_path(self.access.cloud, host)
        path.unlink(missing_ok=True)
        write(path, text)
        try:
            yield
        finally:
            path.unlink()
            Files(self.access.cloud).write()

    # --- services -------------------------------------------------------------------------------

    def _service(self, name: str) -> Service:
        return next(one for one in self._services.all() if one.name == name)

    def _name(self, what: str, fault: Fault) -> str:
        return SERVICES[what] or f"nova-compute-{self.host(fault)}"

    def _process(self, name: str) -> Process:
        process = self._supervisor.find(name)
        if process is None or not process.alive():
            raise CloudError(f"{name} has ended by itself; see {self._supervisor.log(name)}")
        return process

    @contextlib.contextmanager
    def _still(self, what: str, fault: Fault) -> Iterator[None]:
        """Have a service stand still with all its processes."""
        members = self._process(self._name(what, fault)).members()
        try:
            _signal(members, signal.SIGSTOP)
            yield
        finally:
            _signal(members, signal.SIGCONT)

    def _kill(self, what: str, fault: Fault) -> None:
        name = self._name(what, fault)
        self._supervisor.stop([self._process(name)], kill=True)
        time.sleep(fault.seconds)
        self._start(self._service(name))

    def _start(self, service: Service) -> None:
        self._supervisor.start([service], kill=True)
        self._supervisor.wait([service])
        self._setup.wait_for_reports([service.name])

    def _cannot_start(self, host: str) -> None:
        """Kill a compute, have it fail to start for its catalog, and mend that."""
        service = self._service(f"nova-compute-{host}")
        self._supervisor.stop([self._process(service.name)], kill=True)
        with self._catalog(host, _BROKEN):
            self._supervisor.start([service])
            end = time.monotonic() + service.limit
            while (process := self._supervisor.find(service.name)) and process.alive():
                if time.monotonic() > end:
                    raise CloudError(f"{service.name} goes on with a catalog that is no YAML")
                time.sleep(0.2)
        self._start(service)

    @contextlib.contextmanager
    def _without(self, host: str) -> Iterator[None]:
        """Have a host's compute run without nova-devcompat."""
        cloud = self.access.cloud
        service = self._service(f"nova-compute-{host}")
        with self._settings([CONTROLLER, *(one for one in self._hosts if one != host)]):
            Files(cloud).write()
            self._start(self._service(service.name))
            yield
        Files(cloud).write()
        self._start(self._service(service.name))

    @contextlib.contextmanager
    def _settings(self, devcompat: list[str]) -> Iterator[None]:
        settings = self.access.cloud.settings
        before, settings.devcompat = settings.devcompat, devcompat
        try:
            yield
        finally:
            settings.devcompat = before

    def _faketime(self) -> pathlib.Path | None:
        """The library that tells a process another time, the one for threads."""
        pattern = "usr/lib/*/faketime/libfaketimeMT.so.1"
        roots = (self.access.cloud / "debian", pathlib.Path("/"))
        return next((path for root in roots for path in root.glob(pattern)), None)

    def _clock_off(self, service: Service) -> Service:
        """A service whose clock is off; how long it waits is as ever."""
        environ = {
            **service.environ,
            "LD_PRELOAD": str(self._faketime()),
            "FAKETIME": _CLOCK,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        command = [self.access.cloud.program("python"), str(_LATE), *service.command]
        return dataclasses.replace(service, command=command, environ=environ)

    @contextlib.contextmanager
    def _otherwise(self, host: str, change: Callable[[Service], Service]) -> Iterator[None]:
        """Have a host's compute run in another way."""
        service = self._service(f"nova-compute-{host}")
        self._supervisor.start([change(service)], kill=True)
        # Its log may say nothing of it.
        self.access.cycle([host])
        try:
            yield
        finally:
            self._start(service)


def _into_full(service: Service) -> Service:
    """A service whose log is on a disk that is full."""
    command = ["/bin/sh", "-c", f'exec "$@" >{_FULL} 2>&1', "sh", *service.command]
    return dataclasses.replace(service, command=command)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
