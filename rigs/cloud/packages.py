# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where the programs come from: Debian's packages and a virtual environment.

Debian's packages are unpacked into the cloud's folder and not installed: nothing on the machine
changes, no service of Debian's own is started, and no root is needed.
"""

from __future__ import annotations

import getpass
import os
import pathlib
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from rigs import releases, venvs
from rigs.cloud.layout import SYSTEM_PATH, CannotInstall, Cloud, CloudError, write

#: What is run, and the package that has it.
PROGRAMS = {
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
    "memcached": "memcached",
    "epmd": "erlang-base",
    "erl": "erlang-base",
    "rabbitmq-server": "rabbitmq-server",
    # The library that comes with it: "chaos" has clocks that are off.
    "faketime": "faketime",
}
#: Seconds that a command may take that sets something up.
LIMIT = 300
#: Large packages, and tests, that no service imports: not compiled before they are needed.
_UNUSED = (
    *("tests?", "networkx", "numpy", "os_ken", "paramiko", "pip", "prompt_toolkit", "pygments"),
    *("redis", "rich", "setuptools", "wcwidth"),
)
_FOLDERS = ("usr/sbin", "usr/bin", "usr/lib/rabbitmq/bin", "bin")
REQUIREMENTS = ("requirements.txt", "rigs/cloud/requirements.txt")
CONSTRAINTS = f"constraints/cloud-{releases.DEFAULT}.txt"


class Debian:
    """Programs of Debian, MariaDB, RabbitMQ and memcached unless others are named.

    :param cloud: whose folder they are unpacked into
    :param wanted: programs, or patterns of other files from the top, and the package of each
    :param name: of the folder
    """

    def __init__(
        self, cloud: Cloud, wanted: Mapping[str, str] = PROGRAMS, name: str = "debian"
    ) -> None:
        self._wanted = wanted
        self._root = cloud.programs / name
        self._complete = self._root / "complete"
        self._apt = cloud.programs / f"apt-{name}"
        self._log = cloud / f"log/apt-{name}.log"

    def ensure(self) -> None:
        """Fetch and unpack what the machine does not have.

        :raises CannotInstall: that is not possible here, and why
        """
        if not self._complete.exists():
            # An earlier run was ended half-way.
            shutil.rmtree(self._root, ignore_errors=True)
        missing = self._missing()
        if not missing:
            return
        print(f"Fetching {', '.join(missing)} from Debian ...", flush=True)
        started = time.monotonic()
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise CannotInstall(
                    f"{', '.join(missing)}: not on this machine, and there is no {program} to "
                    "fetch them with. tools/cloud needs Debian or Ubuntu, or "
                    f"{', '.join(self._wanted)} installed in another way."
                )
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self._apt / folder).mkdir(parents=True, exist_ok=True)
        self._run("update")
        self._run("install", "--yes", "--no-install-recommends", "--download-only", *missing)
        for package in sorted(self._apt.glob("cache/archives/*.deb")):
            subprocess.run(["dpkg-deb", "--extract", package, self._root], check=True)
        # Packages that still have the old places.
        for folder in ("bin", "lib", "sbin"):
            if (self._root / folder).is_dir():
                shutil.copytree(
                    self._root / folder,
                    self._root / "usr" / folder,
                    symlinks=True,
                    dirs_exist_ok=True,
                )
        shutil.rmtree(self._apt)
        self._unpacked()
        write(self._complete, "")
        absent = [name for name in self._wanted if not self._find(name)]
        if absent:
            raise CannotInstall(f"Debian's packages were unpacked but lack {', '.join(absent)}.")
        print(f"  done in {time.monotonic() - started:.0f} s", flush=True)

    def _missing(self) -> list[str]:
        """Packages of what is neither on the machine nor unpacked."""
        return sorted({self._wanted[name] for name in self._wanted if not self._find(name)})

    def _options(self) -> Sequence[str]:
        """Options of apt-get that say where to fetch from, if not from where the machine does."""
        return ()

    def _unpacked(self) -> None:
        """Tell Erlang where it is; Debian's start script knows only where it was built to be."""
        script = self._root / "usr/lib/erlang/bin/erl"
        if script.exists():
            text = script.read_text()
            here = f"ROOTDIR={shlex.quote(str(script.parents[1]))}"
            script.write_text(text.replace("ROOTDIR=/usr/lib/erlang\n", f"{here}\n"))

    def _run(self, *arguments: str) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            "apt-get",
            # Lists and archives of our own; what is installed is the machine's.
            *("-o", f"Dir::State={self._apt}/state"),
            *("-o", "Dir::State::status=/var/lib/dpkg/status"),
            *("-o", f"Dir::Cache={self._apt}/cache"),
            *("-o", "Debug::NoLocking=1"),
            *("-o", f"APT::Sandbox::User={getpass.getuser()}"),
            *("-o", "Acquire::Retries=2"),
            *self._options(),
            *arguments,
        ]
        with open(self._log, "a") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        if done.returncode:
            lines = "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])
            raise CannotInstall(
                f"{lines}\n'apt-get {arguments[0]}' failed: the end of its output is above, all "
                f"of it in {self._log}. Does this machine reach a mirror of Debian's packages?"
            )

    def program(self, name: str) -> str:
        """Path of a program.

        :raises CloudError: it is nowhere
        """
        found = self._find(name)
        if found is None:
            raise CloudError(f"{name} is not there; run 'tools/cloud up'")
        return found

    def _find(self, name: str) -> str | None:
        if "/" in name:
            for root in (self._root, pathlib.Path("/")):
                for found in root.glob(name):
                    return str(found)
            return None
        # Never Debian's wrapper of RabbitMQ in /usr/sbin: it changes the user, and starts an epmd
        # that listens everywhere.
        machine = [f"/{folder}" for folder in _FOLDERS]
        if name == "rabbitmq-server":
            machine = ["/usr/lib/rabbitmq/bin"]
            places = [self._root / "usr/lib/rabbitmq/bin"]
        else:
            places = [self._root / folder for folder in _FOLDERS]
        path = os.pathsep.join([*map(str, places), *machine])
        return shutil.which(name, path=path)

    def file(self, path: str) -> pathlib.Path:
        """A file or folder that a package ships."""
        unpacked = self._root / path
        return unpacked if unpacked.exists() else pathlib.Path("/", path)

    def over_usr(self) -> pathlib.Path | None:
        """What lies over ``/usr`` where it has all of this; None if the machine has it all."""
        unpacked = self._root / "usr"
        return unpacked if unpacked.exists() else None

    def environ(self) -> dict[str, str]:
        """What unpacked programs need to find each other and their libraries."""
        folders = [str(self._root / folder) for folder in _FOLDERS]
        libraries = [str(path) for path in self._root.glob("usr/lib/*-linux-gnu*")]
        return {
            "PATH": os.pathsep.join([*folders, SYSTEM_PATH]),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        }


def ensure_venv(cloud: Cloud) -> None:
    """Make the virtual environment unless it is there and current; our own tree is in it.

    :raises CannotInstall: pip failed
    """
    environment = venvs.Environment(
        name="cloud",
        requirements=REQUIREMENTS,
        constraints=CONSTRAINTS,
        home=cloud.programs,
        # A third of what is installed are tests, which nobody imports.
        environ={"PIP_COMPILE": "0"},
    )
    try:
        python = venvs.ensure(environment)
    except venvs.InstallError as error:
        raise CannotInstall(str(error)) from error
    _compile(python)
    _link_driver(python)


def _compile(python: pathlib.Path) -> None:
    """Compile what services import, before many of them start and each does it for itself."""
    done = python.parent.parent / "compiled"
    if done.exists():
        return
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    # Some packages ship templates that are no Python: no failure.
    subprocess.run(
        [
            *(python, "-m", "compileall", "-qq", "-j", "2"),
            *("-x", f"/({'|'.join(_UNUSED)})/", packages),
        ],
        stdout=subprocess.DEVNULL,
    )
    write(done, "")


def _link_driver(python: pathlib.Path) -> None:
    """Put the driver with the pretended hardware where Nova looks for drivers."""
    target = pathlib.Path(__file__).parent / "nova_virt_playground"
    (nova_virt,) = (python.parent.parent / "lib").glob("python*/site-packages/nova/virt")
    link = nova_virt / "playground"
    if not (link.is_symlink() and link.readlink() == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target, target_is_directory=True)


def freeze(cloud: Cloud) -> str:
    """What the virtual environment has, in the form of constraints."""
    done = subprocess.run(
        [
            *(cloud.program("python"), "-m", "pip", "freeze"),
            *("--all", "--exclude", "pip", "--exclude-editable"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def run(
    command: Sequence[str],
    *,
    log: pathlib.Path,
    environ: dict[str, str] | None = None,
    text: str = "",
) -> None:
    """Run a command that sets something up, its output in a log.

    :param environ: added to the environment
    :param text: what it can read
    :raises CloudError: it failed
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Its arguments can have passwords.
    name = pathlib.Path(command[0]).name
    with open(log, "a") as output:
        try:
            status = subprocess.run(
                command,
                input=text.encode(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                timeout=LIMIT,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise CloudError(f"{name} did not end within {LIMIT} s; see {log}") from error
    if status:
        lines = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise CloudError(
            f"{lines}\n{name} failed; the end of its output is above, all of it in {log}."
        )
