# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The commands of ``tools/cloud``."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from rigs import interrupts
from rigs.chaos import command as chaos
from rigs.cloud import packages
from rigs.cloud.configuration import Files
from rigs.cloud.kinds import hosts_of
from rigs.cloud.layout import (
    ADDRESS,
    CONTROLLER,
    DEFAULT_COMPUTES,
    DEFAULT_PORT_BASE,
    LISTENERS,
    ROOT,
    CannotInstall,
    Cloud,
    CloudError,
)
from rigs.cloud.packages import Debian
from rigs.cloud.processes import Process, Service, Supervisor, locked, programs_locked
from rigs.cloud.provision import Setup
from rigs.cloud.services import Services

#: What ``down --wipe`` leaves of a folder, beside programs.
_KEPT = ("cloud.lock", "programs.lock", "libvirt")
#: What ``--devcompat`` means when nothing follows it.
ALL = "all"
_EPILOG = """\
The first 'up' fetches what it needs, which takes a few minutes; later ones take seconds. Then:

  . .cloud/openrc
  openstack server create --flavor vf --image playground --no-network --wait guest
  openstack server migrate --live-migration --wait guest
  tools/cloud logs nova-scheduler

Exit status: 0, 1 for a failure, 69 if programs cannot be installed here, for 'status' also 3 if
nothing was started, for 'test' that of pytest.

What a host has stands in .cloud/hosts/HOST/inventory.yaml: change a version while the cloud runs.

With --libvirt, a command is about another cloud, in .cloud/libvirt: two hosts, each with a real
libvirtd and QEMU of Debian's in namespaces of its own. It needs root, and can run beside the
first.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :returns: the exit status, see :data:`_EPILOG`
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows "test" is pytest's, options too, which argparse would take for its own.
    here = given.index("test") + 1 if "test" in given else len(given)
    here += given[here : here + 1] == ["--libvirt"]
    arguments = _parser().parse_args(given[:here], argparse.Namespace(rest=given[here:]))
    # For this process alone: what it starts finds its modules by itself.
    os.environ.pop("PYTHONPATH", None)
    # A run that is ended half-way leaves a cloud that 'up' completes and 'down' stops.
    interrupts.catch_sigterm()
    try:
        cloud = Cloud(arguments.data.resolve(), libvirt=arguments.libvirt)
        status: int = arguments.run(cloud, arguments)
        return status
    except CloudError as error:
        print(f"tools/cloud: {error}", file=sys.stderr)
        return os.EX_UNAVAILABLE if isinstance(error, CannotInstall) else 1
    except KeyboardInterrupt:
        print("\nInterrupted; what was started goes on: see 'tools/cloud status'", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/cloud",
        description="A small OpenStack cloud of real processes on 127.0.0.1, with nova-devcompat.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        default=pathlib.Path(os.environ.get("DEVCOMPAT_CLOUD") or ROOT / ".cloud"),
        metavar="FOLDER",
        help="where everything is kept (default: $DEVCOMPAT_CLOUD, else .cloud in the tree)",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    up = _command(commands, "up", _up, "make and start it, or whatever of it is missing")
    up.add_argument(
        "--computes",
        metavar="N[,N...]",
        type=_numbers,
        help="computes of each cell (default: as before, at first "
        f"{','.join(map(str, DEFAULT_COMPUTES))})",
    )
    up.add_argument(
        "--port-base",
        metavar="PORT",
        type=int,
        help="first of the ports (default: as before, at first "
        f"{DEFAULT_PORT_BASE} or the next hundred that is free)",
    )
    which = up.add_mutually_exclusive_group()
    which.add_argument("--stock", action="store_true", help="Nova without nova-devcompat")
    which.add_argument(
        "--devcompat",
        metavar="HOST[,HOST...]",
        nargs="?",
        const=ALL,
        help=f"with it again, or only on these hosts, {CONTROLLER} being one",
    )
    up.add_argument("--mode", choices=["report", "enforce"], help="of nova-devcompat")
    up.add_argument(
        "--unfit",
        choices=["stop-and-copy", "pre-check", "never"],
        help="when the pretended hardware notices a device that does not fit",
    )
    up.add_argument(
        "--backports",
        metavar="HOST[,HOST...]",
        help="with --libvirt, the hosts whose libvirt and QEMU are of Debian's backports",
    )
    up.add_argument("--kill", action="store_true", help="restart with SIGKILL what is out of date")

    status = _command(commands, "status", _status, "what runs, since when, in how much memory")
    status.add_argument("-q", "--quiet", action="store_true", help="only the exit status")

    logs = _command(commands, "logs", _logs, "show the end of logs")
    logs.add_argument("names", metavar="NAME", nargs="*", help="services (default: all)")
    logs.add_argument("-n", "--lines", type=int, default=20, metavar="N")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")

    down = _command(commands, "down", _down, "stop it; data stay")
    down.add_argument("--kill", action="store_true", help="with SIGKILL")
    down.add_argument(
        "--wipe", action="store_true", help="remove all but the programs, for a cloud made anew"
    )

    for name, run, text in (
        ("start", _start, "start services that were stopped"),
        ("stop", _stop, "stop services"),
        ("restart", _restart, "stop services and start them again"),
    ):
        command = _command(commands, name, run, text)
        command.add_argument("names", metavar="NAME", nargs="+", help="as 'status' shows them")
        if name != "start":
            command.add_argument("--kill", action="store_true", help="with SIGKILL")

    _command(commands, "install", _install, "fetch the programs that it needs, and start nothing")
    _command(
        commands,
        "test",
        _test,
        "run tests/e2e, or tests/libvirt with --libvirt first; what follows is for pytest",
    )
    text = "random operations and faults, checked by a model of the pretended hardware"
    chaos.add_arguments(_command(commands, "chaos", _chaos, text))
    on = _command(commands, "on", _on, "run a command on a host")
    on.add_argument("host", metavar="HOST")
    on.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    _command(commands, "freeze", _freeze, "print constraints of what is installed")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[Cloud, argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    command.add_argument(
        "--libvirt", action="store_true", help="the cloud whose hosts have a real libvirt and QEMU"
    )
    return command


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not numbers from 1 on with commas between")
    return numbers


class _Clock:
    """Tells what is being done, and after how long."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:5.0f} s  {text}", flush=True)


def _up(cloud: Cloud, arguments: argparse.Namespace) -> int:
    clock = _Clock()
    with locked(cloud):
        _choose(cloud, arguments)
        debian = Debian(cloud)
        _programs(cloud, debian, clock)
        Files(cloud).write()
        supervisor = Supervisor(cloud)
        services = Services(cloud, debian)
        setup = Setup(cloud, services, debian, supervisor)

        clock.say("database, broker and cache")
        setup.database_folder()
        setup.broker_folder()
        infrastructure = services.infrastructure()
        _start_all(supervisor, infrastructure[:1])
        supervisor.wait(infrastructure[:1])
        # Erlang's start fits beside the tables.
        _start_all(supervisor, infrastructure[1:])
        clock.say("tables and cells")
        setup.tables()
        supervisor.wait(infrastructure[1:])

        clock.say("keystone, glance, neutron, placement")
        apis = services.apis()
        _start_all(supervisor, apis)
        supervisor.wait(apis[:1])
        setup.identities()
        supervisor.wait(apis[1:])

        nova, computes = services.nova(), services.computes()
        clock.say(f"nova, with {len(computes)} computes")
        # Computes wait for a conductor by themselves.
        _start_all(supervisor, nova, kill=arguments.kill)
        for beneath in services.hosts():
            _start_all(supervisor, beneath, kill=arguments.kill)
            supervisor.wait(beneath)
        _start_all(supervisor, computes, kill=arguments.kill)
        supervisor.wait(nova)
        setup.contents()
        setup.hosts()
        _stop_leftovers(supervisor, services)
        setup.forget_hosts()
    clock.say(
        f"ready, with {_variant(cloud)}. For the openstack client: . {_short(cloud / 'openrc')}"
    )
    return 0


def _variant(cloud: Cloud) -> str:
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


def _programs(cloud: Cloud, debian: Debian, clock: _Clock) -> None:
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


def _start_all(supervisor: Supervisor, services: Sequence[Service], *, kill: bool = False) -> None:
    started = supervisor.start(services, kill=kill)
    if started:
        print(f"         started {', '.join(started)}", flush=True)


def _stop_leftovers(supervisor: Supervisor, services: Services) -> None:
    """Computes that the cloud does not have any more."""
    names = {service.name for service in services.all()}
    supervisor.stop([process for process in supervisor.known() if process.name not in names])


def _status(cloud: Cloud, arguments: argparse.Namespace) -> int:
    supervisor = Supervisor(cloud)
    processes = {process.name: process for process in supervisor.known()}
    if not cloud.exists or not processes:
        if not arguments.quiet:
            print(f"No cloud runs in {cloud.data}")
        return 3
    expected = [service.name for service in Services(cloud, Debian(cloud)).all()]
    dead = [name for name in expected if name not in processes or not processes[name].alive()]
    if arguments.quiet:
        return 1 if dead else 0
    print(f"{'service':<24}{'pid':>9}{'memory':>10}{'up':>10}")
    total = 0
    for name in [*expected, *sorted(processes.keys() - set(expected))]:
        process = processes.get(name)
        if process is None or not process.alive():
            print(f"{name:<24}{'stopped' if process is None else 'has ended':>9}")
            continue
        memory = process.memory()
        total += memory
        print(f"{name:<24}{process.pid:>9}{memory / 2**20:>6.0f} MiB{process.age():>8.0f} s")
    print(f"{'all':<33}{total / 2**20:>6.0f} MiB    {_variant(cloud)}")
    return 1 if dead else 0


def _logs(cloud: Cloud, arguments: argparse.Namespace) -> int:
    supervisor = Supervisor(cloud)
    names = arguments.names or sorted(path.stem for path in (cloud / "log").glob("*.log"))
    paths = [supervisor.log(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if not path.exists():
            known = ", ".join(sorted(path.stem for path in (cloud / "log").glob("*.log")))
            raise CloudError(f"no log of {name}; there are: {known or 'none'}")
    options = ["-n", str(arguments.lines), *(["-F"] if arguments.follow else [])]
    if not paths:
        raise CloudError(f"no logs in {cloud.data}")
    return subprocess.run(["tail", *options, "--", *map(str, paths)]).returncode


def _down(cloud: Cloud, arguments: argparse.Namespace) -> int:
    clock = _Clock()
    if not cloud.data.exists():
        print(f"No cloud in {cloud.data}")
        return 0
    with locked(cloud):
        supervisor = Supervisor(cloud)
        processes = supervisor.known()
        # What was started last needs the others: computes, then what they talk to.
        computes = [p for p in processes if p.name.startswith("nova-compute")]
        openstack = [
            p for p in processes if p.name.startswith(("nova-", "keystone", "glance", "neutron"))
        ]
        openstack += [p for p in processes if p.name == "placement"]
        for group in (
            computes,
            [p for p in openstack if p not in computes],
            [p for p in processes if p not in openstack and p.name != "epmd"],
            [p for p in processes if p.name == "epmd"],
        ):
            supervisor.stop(list(reversed(group)), kill=arguments.kill)
        if arguments.wipe:
            for path in cloud.data.iterdir():
                # Programs, and the other cloud of the folder.
                if path.name.startswith(("cloud-3.", "debian")) or path.name in _KEPT:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    clock.say(f"{len(processes)} processes stopped" if processes else "nothing ran")
    return 0


def _named(cloud: Cloud, names: Sequence[str]) -> list[Service]:
    """Services by name; a host's name stands for its nova-compute."""
    known = {service.name: service for service in Services(cloud, Debian(cloud)).all()}
    found = []
    for name in names:
        service = known.get(name) or known.get(f"nova-compute-{name}")
        if service is None:
            raise CloudError(f"no service {name}; there are: {', '.join(known)}")
        found.append(service)
    return found


def _start(cloud: Cloud, arguments: argparse.Namespace) -> int:
    with locked(cloud):
        supervisor = Supervisor(cloud)
        services = _named(cloud, arguments.names)
        _start_all(supervisor, services)
        supervisor.wait(services)
        debian = Debian(cloud)
        setup = Setup(cloud, Services(cloud, debian), debian, supervisor)
        setup.wait_for_reports([service.name for service in services])
    return 0


def _stop(cloud: Cloud, arguments: argparse.Namespace) -> int:
    with locked(cloud):
        supervisor = Supervisor(cloud)
        found = [supervisor.find(service.name) for service in _named(cloud, arguments.names)]
        processes: list[Process] = [process for process in found if process is not None]
        supervisor.stop(processes, kill=arguments.kill)
    return 0


def _restart(cloud: Cloud, arguments: argparse.Namespace) -> int:
    return _stop(cloud, arguments) or _start(cloud, arguments)


def _install(cloud: Cloud, arguments: argparse.Namespace) -> int:
    with locked(cloud):
        _programs(cloud, Debian(cloud), _Clock())
    return 0


def _test(cloud: Cloud, arguments: argparse.Namespace) -> int:
    _install(cloud, arguments)
    python = cloud.program("python")
    # Of the other suites nothing could be imported here.
    folder = "tests/libvirt" if cloud.libvirt else "tests/e2e"
    options = ["-o", f"testpaths={folder}", "-o", "faulthandler_timeout=1800"]
    command = [python, "-m", "pytest", *options, *arguments.rest]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "DEVCOMPAT_CLOUD": str(cloud.programs)}
    ).returncode


def _on(cloud: Cloud, arguments: argparse.Namespace) -> int:
    if arguments.host not in dict(cloud.hosts()):
        raise CloudError(f"no host {arguments.host}; there are: {', '.join(dict(cloud.hosts()))}")
    if not arguments.command:
        raise CloudError("which command?")
    # What the machine lacks is where its administrator's programs are.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return subprocess.run(
        [*hosts_of(cloud).enter(arguments.host), *arguments.command],
        env={**os.environ, "PATH": path},
    ).returncode


def _chaos(cloud: Cloud, arguments: argparse.Namespace) -> int:
    if cloud.libvirt:
        raise CloudError("chaos knows what pretended hosts do, so leave out --libvirt")
    ran = cloud.exists and _status(cloud, argparse.Namespace(quiet=True)) == 0
    before = dataclasses.replace(cloud.settings)
    settled = {"computes": None, "port_base": None, "kill": True, "backports": None}
    changed = False

    def become(stock: bool) -> None:
        nonlocal changed
        changed = True
        # The hardware does not object, so that a guest shows where it should not be.
        chosen = {"devcompat": None if stock else ALL, "mode": "enforce", "unfit": "never"}
        _up(cloud, argparse.Namespace(stock=stock, **chosen, **settled))

    try:
        return chaos.run(cloud, arguments, become)
    finally:
        if changed and ran:
            cloud.settings = before
            cloud.save()
            nothing = {"stock": False, "devcompat": None, "mode": None, "unfit": None}
            _up(cloud, argparse.Namespace(**nothing, **settled))
        elif changed:
            _down(cloud, argparse.Namespace(kill=True, wipe=False))


def _freeze(cloud: Cloud, arguments: argparse.Namespace) -> int:
    print(packages.freeze(cloud), end="")
    return 0


def _short(path: pathlib.Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(pathlib.Path.cwd()) else str(path)
