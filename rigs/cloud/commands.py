# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The commands of ``tools/cloud``."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from rigs import interrupts
from rigs.chaos import command as chaos
from rigs.cloud import packages
from rigs.cloud.kinds import hosts_of
from rigs.cloud.layout import (
    CONTROLLER,
    DEFAULT_COMPUTES,
    DEFAULT_PORT_BASE,
    ROOT,
    CannotInstall,
    Cloud,
    CloudError,
)
from rigs.cloud.packages import Debian
from rigs.cloud.processes import Process, Service, Supervisor, locked
from rigs.cloud.provision import Setup
from rigs.cloud.services import Services
from rigs.cloud.starting import ALL, Clock, bring_up, ensure_programs, start_all, variant

#: What ``down --wipe`` leaves of a folder, beside programs.
_KEPT = ("cloud.lock", "programs.lock", "libvirt", "machines")
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
first. With --machines it is about a third, in .cloud/machines, whose two hosts are virtual
machines that have mediated devices.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :returns: the exit status, see :data:`_EPILOG`
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows "test" is pytest's, options too, which argparse would take for its own.
    here = given.index("test") + 1 if "test" in given else len(given)
    here += given[here : here + 1] in (["--libvirt"], ["--machines"])
    arguments = _parser().parse_args(given[:here], argparse.Namespace(rest=given[here:]))
    # For this process alone: what it starts finds its modules by itself.
    os.environ.pop("PYTHONPATH", None)
    # A run that is ended half-way leaves a cloud that 'up' completes and 'down' stops.
    interrupts.catch_sigterm()
    try:
        cloud = Cloud(
            arguments.data.resolve(), libvirt=arguments.libvirt, machines=arguments.machines
        )
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

    up = _command(commands, "up", bring_up, "make and start it, or whatever of it is missing")
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
        "run tests/e2e, tests/libvirt with --libvirt first, or tests/machines with --machines; "
        "what follows is for pytest",
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
    kind = command.add_mutually_exclusive_group()
    kind.add_argument(
        "--libvirt", action="store_true", help="the cloud whose hosts have a real libvirt and QEMU"
    )
    kind.add_argument(
        "--machines", action="store_true", help="the cloud whose hosts are virtual machines"
    )
    return command


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not numbers from 1 on with commas between")
    return numbers


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
    print(f"{'all':<33}{total / 2**20:>6.0f} MiB    {variant(cloud)}")
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
    clock = Clock()
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
        start_all(supervisor, services)
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
        ensure_programs(cloud, Debian(cloud), Clock())
    return 0


def _test(cloud: Cloud, arguments: argparse.Namespace) -> int:
    _install(cloud, arguments)
    python = cloud.program("python")
    # Of the other suites nothing could be imported here.
    options = ["-o", f"testpaths={hosts_of(cloud).tests}", "-o", "faulthandler_timeout=1800"]
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
        raise CloudError("chaos knows what pretended hosts do: no --libvirt, no --machines")
    ran = cloud.exists and _status(cloud, argparse.Namespace(quiet=True)) == 0
    before = dataclasses.replace(cloud.settings)
    settled = {"computes": None, "port_base": None, "kill": True, "backports": None}
    changed = False

    def become(stock: bool) -> None:
        nonlocal changed
        changed = True
        # The hardware does not object, so that a guest shows where it should not be.
        chosen = {"devcompat": None if stock else ALL, "mode": "enforce", "unfit": "never"}
        bring_up(cloud, argparse.Namespace(stock=stock, **chosen, **settled))

    try:
        return chaos.run(cloud, arguments, become)
    finally:
        if changed and ran:
            cloud.settings = before
            cloud.save()
            nothing = {"stock": False, "devcompat": None, "mode": None, "unfit": None}
            bring_up(cloud, argparse.Namespace(**nothing, **settled))
        elif changed:
            _down(cloud, argparse.Namespace(kill=True, wipe=False))


def _freeze(cloud: Cloud, arguments: argparse.Namespace) -> int:
    print(packages.freeze(cloud), end="")
    return 0
