# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``tools/cloud up``: what is chosen of a cloud, and the start of all of it."""

from __future__ import annotations

import argparse
import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Sequence

from rigs.cloud import packages
from rigs.cloud.configuration import Files
from rigs.cloud.kinds import hosts_of
from rigs.cloud.layout import (
    ADDRESS,
    CONTROLLER,
    LISTENERS,
    CannotInstall,
    Cloud,
    CloudError,
)
from rigs.cloud.packages import Debian
from rigs.cloud.processes import Service, Supervisor, locked, programs_locked
from rigs.cloud.provision import Setup
from rigs.cloud.services import Services

#: What ``--devcompat`` means when nothing follows it.
ALL = "all"


class Clock:
    """Tells what is being done, and after how long."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:5.0f} s  {text}", flush=True)


def bring_up(cloud: Cloud, arguments: argparse.Namespace) -> int:
    """Make and start a cloud, or whatever of it is missing.

    :returns: exit status
    :raises CloudError: it cannot be started
    :raises CannotInstall: it cannot be had here
    """
    clock = Clock()
    with locked(cloud):
        _choose(cloud, arguments)
        debian = Debian(cloud)
        ensure_programs(cloud, debian, clock)
        Files(cloud).write()
        supervisor = Supervisor(cloud)
        services = Services(cloud, debian)
        setup = Setup(cloud, services, debian, supervisor)

        clock.say("database, broker and cache")
        setup.database_folder()
        setup.broker_folder()
        infrastructure = services.infrastructure()
        start_all(supervisor, infrastructure[:1])
        supervisor.wait(infrastructure[:1])
        # Erlang's start fits beside the tables.
        start_all(supervisor, infrastructure[1:])
        clock.say("tables and cells")
        setup.tables()
        supervisor.wait(infrastructure[1:])

        clock.say("keystone, glance, neutron, placement")
        apis = services.apis()
        start_all(supervisor, apis)
        supervisor.wait(apis[:1])
        setup.identities()
        supervisor.wait(apis[1:])

        nova, computes = services.nova(), services.computes()
        clock.say(f"nova, with {len(computes)} computes")
        # Computes wait for a conductor by themselves.
        start_all(supervisor, nova, kill=arguments.kill)
        for beneath in services.hosts():
            start_all(supervisor, beneath, kill=arguments.kill)
            supervisor.wait(beneath)
        start_all(supervisor, computes, kill=arguments.kill)
        supervisor.wait(nova)
        setup.contents()
        setup.hosts()
        _stop_leftovers(supervisor, services)
        setup.forget_hosts()
    clock.say(
        f"ready, with {variant(cloud)}. For the openstack client: . {short(cloud / 'openrc')}"
    )
    return 0


def variant(cloud: Cloud) -> str:
    """What Nova of a cloud it is, in words."""
    chosen = cloud.settings.devcompat
    if chosen == []:
        return "stock Nova"
    where = "" if chosen is None else f" on {', '.join(chosen)}"
    return f"nova-devcompat{where}, mode {cloud.settings.mode}"


def _choose(cloud: Cloud, arguments: argparse.Namespace) -> None:
    settings = cloud.settings
    running = [process.name for process in Supervisor(cloud).known() if process.alive()]
    if arguments.port_base and arguments.port_base != settings.port_base:
        if running:
            raise CloudError("It runs: 'tools/cloud down' before you change --port-base")
        # URLs with ports are in databases.
        if cloud.exists:
            raise CloudError("'tools/cloud down --wipe' before you change --port-base")
        settings.port_base = arguments.port_base
    elif not cloud.exists:
        settings.port_base = _free_ports(cloud.first_port)
    if arguments.computes:
        before = dict(cloud.hosts()) if cloud.exists else {}
        settings.computes = arguments.computes
        moved = [host for host, cell in cloud.hosts() if before.get(host, cell) != cell]
        if moved:
            raise CloudError(
                f"{', '.join(moved)} would change the cell: 'tools/cloud down --wipe' first"
            )
    if arguments.stock:
        settings.devcompat = []
    elif arguments.devcompat == ALL:
        settings.devcompat = None
    elif arguments.devcompat:
        hosts = [CONTROLLER, *(name for name, _ in cloud.hosts())]
        settings.devcompat = arguments.devcompat.split(",")
        if unknown := sorted(set(settings.devcompat) - set(hosts)):
            raise CloudError(f"no host {', '.join(unknown)}; there are: {', '.join(hosts)}")
    if arguments.backports is not None:
        settings.backports = [name for name in arguments.backports.split(",") if name]
        if unknown := sorted(set(settings.backports) - dict(cloud.hosts()).keys()):
            raise CloudError(f"no host {', '.join(unknown)}, so none of --backports")
    if arguments.mode:
        settings.mode = arguments.mode
    if arguments.unfit:
        settings.unfit = arguments.unfit
    cloud.save()


def _free_ports(first: int) -> int:
    """First of ports that nobody listens on.

    :param first: where to look first
    :raises CloudError: there are no such ports where we look
    """
    bases = range(first, first + 1000, 100)
    for base in bases:
        try:
            for port in range(base, base + len(LISTENERS)):
                with socket.socket() as listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((ADDRESS, port))
        except OSError:
            continue
        if base != first:
            print(f"Ports from {first} on are taken: these are from {base} on.")
        return base
    raise CloudError(f"{len(LISTENERS)} ports in a row are not free from any of {list(bases)} on")


def ensure_programs(cloud: Cloud, debian: Debian, clock: Clock) -> None:
    """Have all programs that a cloud needs.

    :raises CannotInstall: they cannot be had here
    """
    hosts = hosts_of(cloud)
    why_not = hosts.why_not()
    if why_not:
        raise CannotInstall(f"The hosts of this cloud cannot be had here: {why_not}")
    clock.say(f"programs, in {cloud.programs}")
    with programs_locked(cloud):
        _both(debian.ensure, lambda: packages.ensure_venv(cloud))
        hosts.install()


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    """Run two things at the same time; raise what either raises."""
    errors: list[CloudError] = []

    def run() -> None:
        try:
            first()
        except CloudError as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    second()
    thread.join()
    if errors:
        raise errors[0]


def start_all(supervisor: Supervisor, services: Sequence[Service], *, kill: bool = False) -> None:
    """Start what does not run as it should, and say so."""
    started = supervisor.start(services, kill=kill)
    if started:
        print(f"         started {', '.join(started)}", flush=True)


def _stop_leftovers(supervisor: Supervisor, services: Services) -> None:
    """Computes that the cloud does not have any more."""
    names = {service.name for service in services.all()}
    supervisor.stop([process for process in supervisor.known() if process.name not in names])


def short(path: pathlib.Path) -> str:
    """A path as it is typed from where we are."""
    return os.path.relpath(path) if path.is_relative_to(pathlib.Path.cwd()) else str(path)
