# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where a cloud keeps things, which ports it listens on, and what was chosen when it was made."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Everything listens here and nowhere else.
ADDRESS = "127.0.0.1"
REGION = "RegionOne"
#: Where services find the machine's programs: not where whoever typed the command does, or another
#: shell would be a reason to restart them all.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What listens, in the order of its port above the base.
LISTENERS = (
    "mariadb",
    "rabbitmq",
    "rabbitmq-distribution",
    "epmd",
    "memcached",
    "keystone",
    "glance",
    "neutron",
    "placement",
    "nova-api",
)
#: Below the ports that Linux hands to clients, above those of well-known services.
DEFAULT_PORT_BASE = 21700
#: The host of the scheduler and the API.
CONTROLLER = "controller"
#: Workers of the scheduler: two, so that a request may meet either.
SCHEDULERS = 2
#: Seconds without a report after which Nova takes a service for dead; a machine can be busy.
SERVICE_DOWN_TIME = 120
#: Computes in cell1, cell2, ...
DEFAULT_COMPUTES = (4, 2)
#: The same, with libvirt or on virtual machines; and their ports, so that all clouds of a folder
#: can run at a time.
LIBVIRT_COMPUTES = (2,)
LIBVIRT_PORT_BASE = DEFAULT_PORT_BASE + 1000
MACHINES_PORT_BASE = DEFAULT_PORT_BASE + 2000


class CloudError(Exception):
    """Something that the user must know; the text is what to show."""


class CannotInstall(CloudError):
    """What the cloud is made of cannot be had here; that tells nothing about the cloud."""


@dataclasses.dataclass(kw_only=True)
class Settings:
    """What was chosen, kept in ``cloud.json`` so that later commands know it.

    :param computes: how many nova-computes each cell has
    :param port_base: the first of the ports
    :param devcompat: the hosts on which Nova runs with nova-devcompat, :data:`CONTROLLER` being
        one; None for all
    :param mode: what ``[devcompat] mode`` is
    :param unfit: where the pretended hardware notices that a device does not fit, see
        ``nova_virt_playground``
    :param backports: the hosts whose libvirt and QEMU are of Debian's backports
    :param passwords: by what they are for
    """

    computes: list[int] = dataclasses.field(default_factory=lambda: list(DEFAULT_COMPUTES))
    port_base: int = DEFAULT_PORT_BASE
    devcompat: list[str] | None = None
    mode: str = "enforce"
    unfit: str = "stop-and-copy"
    backports: list[str] = dataclasses.field(default_factory=list)
    passwords: dict[str, str] = dataclasses.field(
        default_factory=lambda: {
            name: secrets.token_hex(12) for name in ("admin", "service", "database", "rabbitmq")
        }
    )


class Cloud:
    """A cloud's folder and settings.

    :param folder: of the programs, and of the cloud unless it is one with libvirt, which has
        ``libvirt`` or ``machines`` in it; it need not exist
    :param libvirt: whether its hosts have a real libvirt and QEMU
    :param machines: whether they have, and are virtual machines
    """

    def __init__(
        self, folder: pathlib.Path, *, libvirt: bool = False, machines: bool = False
    ) -> None:
        self.programs = folder
        self.libvirt = libvirt or machines
        self.machines = machines
        name = "machines" if machines else "libvirt" if libvirt else ""
        self.data = folder / name
        self.settings = self._read()

    def __truediv__(self, path: str) -> pathlib.Path:
        return self.data / path

    def _read(self) -> Settings:
        path = self / "cloud.json"
        try:
            return Settings(**json.loads(path.read_text()))
        except FileNotFoundError:
            computes = LIBVIRT_COMPUTES if self.libvirt else DEFAULT_COMPUTES
            return Settings(computes=list(computes), port_base=self.first_port)
        except (OSError, ValueError, TypeError) as error:
            raise CloudError(f"{path} cannot be used: {error}") from error

    def save(self) -> None:
        """Write the settings; nobody else may read the passwords."""
        text = json.dumps(dataclasses.asdict(self.settings), indent=2) + "\n"
        write(self / "cloud.json", text, mode=0o600)

    @property
    def first_port(self) -> int:
        """Where the ports begin unless others are chosen or those are taken."""
        if self.machines:
            return MACHINES_PORT_BASE
        return LIBVIRT_PORT_BASE if self.libvirt else DEFAULT_PORT_BASE

    @property
    def exists(self) -> bool:
        """Whether ``up`` was ever run here."""
        return (self / "cloud.json").exists()

    @property
    def venv(self) -> pathlib.Path:
        """The virtual environment that all of OpenStack runs in."""
        return self.programs / "cloud-{}.{}".format(*sys.version_info)

    def program(self, name: str) -> str:
        """A script of the virtual environment."""
        return str(self.venv / "bin" / name)

    def port(self, name: str) -> int:
        return self.settings.port_base + LISTENERS.index(name)

    def url(self, name: str) -> str:
        """Base of an API, without a slash at the end."""
        return f"http://{ADDRESS}:{self.port(name)}"

    def database(self, name: str) -> str:
        """SQLAlchemy's URL of a database."""
        password = self.settings.passwords["database"]
        return f"mysql+pymysql://cloud:{password}@{ADDRESS}:{self.port('mariadb')}/{name}"

    def transport(self, vhost: str) -> str:
        """oslo.messaging's URL of a virtual host of the broker."""
        password = self.settings.passwords["rabbitmq"]
        return f"rabbit://cloud:{password}@{ADDRESS}:{self.port('rabbitmq')}/{vhost}"

    def has_devcompat(self, host: str) -> bool:
        """Whether Nova runs with nova-devcompat on a host."""
        chosen = self.settings.devcompat
        return chosen is None or host in chosen

    @property
    def cells(self) -> list[str]:
        return [f"cell{number}" for number in range(1, len(self.settings.computes) + 1)]

    def hosts(self) -> Iterator[tuple[str, str]]:
        """Names of the compute hosts, each with its cell: cmp1 and so on through all cells."""
        number = 0
        for cell, count in zip(self.cells, self.settings.computes, strict=True):
            for _ in range(count):
                number += 1
                yield f"cmp{number}", cell


def write(path: pathlib.Path, text: str, mode: int = 0o644) -> None:
    """Write a file at once, so that nobody ever reads half of it; do nothing if it is the same."""
    try:
        if path.read_text() == text:
            return
    except OSError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.chmod(aside, mode)
    os.replace(aside, path)


def tail(path: pathlib.Path, lines: int) -> Sequence[str]:
    """The last lines of a file, none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 200 * max(lines, 1)))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
