# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The processes of a cloud, and how to tell that each can be used."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Sequence

from rigs.cloud import waiting
from rigs.cloud.kinds import hosts_of
from rigs.cloud.layout import ADDRESS, CONTROLLER, ROOT, SYSTEM_PATH, Cloud
from rigs.cloud.packages import Debian
from rigs.cloud.processes import Service
from rigs.cloud.rest import Client

#: WSGI modules of the APIs.
APIS = {
    "keystone": "keystone.wsgi.api",
    "glance": "glance.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "placement": "placement.wsgi.api",
    "nova-api": "nova.wsgi.osapi_compute",
}
#: What developers change while the cloud runs.
_DRIVER, _OURS = pathlib.Path(__file__).with_name("nova_virt_playground"), ROOT / "nova_devcompat"


class Services:
    """Makes the definitions of services.

    :param cloud: the cloud
    :param debian: has the programs that are not OpenStack's
    """

    def __init__(self, cloud: Cloud, debian: Debian) -> None:
        self._cloud = cloud
        self._debian = debian
        self._hosts = hosts_of(cloud)

    def infrastructure(self) -> list[Service]:
        return [self._mariadb(), self._epmd(), self._rabbitmq(), self._memcached()]

    def apis(self) -> list[Service]:
        return [self.api(name) for name in APIS if name != "nova-api"]

    def nova(self) -> list[Service]:
        """In the order in which they are started: computes want a conductor."""
        cells = [
            self._nova(f"nova-conductor-{c}", "nova-conductor", f"{c}.conf")
            for c in self._cloud.cells
        ]
        return [
            # Of the filters it asks only whether those for server groups are there.
            self._nova(
                "nova-conductor",
                "nova-conductor",
                "nova.conf",
                skips=["filter_scheduler", "devcompat"],
            ),
            *cells,
            self._nova(
                "nova-scheduler", "nova-scheduler", "nova.conf", code=self._ours(CONTROLLER)
            ),
            self.api("nova-api"),
        ]

    def computes(self) -> list[Service]:
        return [
            self._hosts.on(
                host,
                self._nova(
                    f"nova-compute-{host}",
                    "nova-compute",
                    f"../hosts/{host}.conf",
                    code=[*_sources(_DRIVER), *self._ours(host)],
                ),
            )
            for host, _ in self._cloud.hosts()
        ]

    def hosts(self) -> Sequence[Sequence[Service]]:
        """What computes need on their hosts, each group when the one before is ready."""
        return self._hosts.services()

    def all(self) -> list[Service]:
        hosts = itertools.chain.from_iterable(self.hosts())
        return [*self.infrastructure(), *self.apis(), *self.nova(), *hosts, *self.computes()]

    # --- what is not OpenStack ------------------------------------------------------------------

    def _mariadb(self) -> Service:
        cloud, debian = self._cloud, self._debian
        port = cloud.port("mariadb")
        return Service(
            name="mariadb",
            command=[
                debian.program("mariadbd"),
                "--no-defaults",
                *_user(),
                f"--basedir={debian.file('usr')}",
                f"--lc-messages-dir={debian.file('usr/share/mysql')}",
                f"--plugin-dir={debian.file('usr/lib/mysql/plugin')}",
                f"--datadir={cloud / 'mariadb'}",
                f"--socket={cloud / 'run/mariadb.sock'}",
                f"--pid-file={cloud / 'run/mariadb.pid'}",
                f"--bind-address={ADDRESS}",
                f"--port={port}",
                f"--init-file={cloud / 'etc/mariadb/init.sql'}",
                "--max-connections=1000",
                "--innodb-buffer-pool-size=128M",
                # A cloud to play with need not survive a loss of power.
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-doublewrite=0",
                "--innodb-log-file-size=64M",
                "--skip-log-bin",
                "--skip-name-resolve",
                "--performance-schema=0",
            ],
            environ=debian.environ(),
            reads=[cloud / "etc/mariadb/init.sql"],
            ready=waiting.port(port),
        )

    def _epmd(self) -> Service:
        port = self._cloud.port("epmd")
        return Service(
            name="epmd",
            command=[self._debian.program("epmd"), "-port", str(port), "-address", ADDRESS],
            environ=self._debian.environ(),
            ready=waiting.port(port),
        )

    def _rabbitmq(self) -> Service:
        cloud, debian = self._cloud, self._debian
        home = cloud / "rabbitmq"
        return Service(
            name="rabbitmq",
            command=[debian.program("rabbitmq-server")],
            environ={
                **debian.environ(),
                # Where Erlang keeps the cookie.
                "HOME": str(home),
                "RABBITMQ_NODENAME": f"devcompat-{cloud.port('rabbitmq')}@localhost",
                "RABBITMQ_CONFIG_FILE": str(cloud / "etc/rabbitmq/rabbitmq.conf"),
                "RABBITMQ_CONF_ENV_FILE": str(cloud / "etc/rabbitmq/none"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(cloud / "etc/rabbitmq/enabled_plugins"),
                "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
                "RABBITMQ_LOG_BASE": str(home / "log"),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_PID_FILE": str(home / "pid"),
                "RABBITMQ_DIST_PORT": str(cloud.port("rabbitmq-distribution")),
                "ERL_EPMD_PORT": str(cloud.port("epmd")),
                "ERL_EPMD_ADDRESS": ADDRESS,
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface "
                "{127,0,0,1} -start_epmd false +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            },
            reads=[
                cloud / "etc/rabbitmq/rabbitmq.conf",
                cloud / "etc/rabbitmq/definitions.json",
            ],
            ready=waiting.port(cloud.port("rabbitmq")),
        )

    def _memcached(self) -> Service:
        port = self._cloud.port("memcached")
        command = [self._debian.program("memcached"), "-l", ADDRESS, "-p", str(port)]
        return Service(
            name="memcached",
            command=[*command, "-U", "0", "-m", "32", *(["-u", "root"] if _user() else [])],
            environ=self._debian.environ(),
            ready=waiting.port(port),
        )

    # --- OpenStack ------------------------------------------------------------------------------

    def environ(self) -> dict[str, str]:
        """For OpenStack's programs, those that set up databases too."""
        cloud = self._cloud
        return {
            "PATH": f"{cloud.venv / 'bin'}:{SYSTEM_PATH}",
            "HOME": str(cloud / "home"),
            "PYTHONUNBUFFERED": "1",
            # glibc gives each thread an arena of its own, and most of it is never used.
            "MALLOC_ARENA_MAX": "2",
            "OS_KEYSTONE_CONFIG_DIR": str(cloud / "etc/keystone"),
            "OS_KEYSTONE_CONFIG_FILES": str(cloud / "etc/keystone/keystone.conf"),
            "OS_GLANCE_CONFIG_DIR": str(cloud / "etc/glance"),
            "OS_NEUTRON_CONFIG_DIR": str(cloud / "etc/neutron"),
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
            "OS_PLACEMENT_CONFIG_DIR": str(cloud / "etc/placement"),
            "OS_NOVA_CONFIG_DIR": str(cloud / "etc/nova"),
        }

    def api(self, name: str) -> Service:
        cloud = self._cloud
        files = {
            "keystone": "keystone/keystone.conf",
            "glance": "glance/glance-api.conf",
            "neutron": "neutron/neutron.conf",
            "placement": "placement/placement.conf",
            "nova-api": "nova/nova.conf",
        }
        ready = waiting.http_answer(cloud.url(name))
        if name == "neutron":
            ready = waiting.Check(what="to list networks", met=self._neutron_lists_networks)
        return Service(
            name=name,
            command=[
                cloud.program("python"),
                str(pathlib.Path(__file__).with_name("serve.py")),
                APIS[name],
                ADDRESS,
                str(cloud.port(name)),
            ],
            environ=self.environ(),
            # nova-api checks our extra specs with or without our filter.
            reads=[cloud / f"etc/{files[name]}", *(_sources(_OURS) if name == "nova-api" else [])],
            skips=["filter_scheduler", "devcompat.mode", "devcompat.on_unknown"],
            ready=ready,
        )

    def _neutron_lists_networks(self) -> bool:
        """Neutron's first answer to a question for ports would be 500 before one for networks."""
        return Client(self._cloud).succeeds("neutron", "/v2.0/networks")

    def _nova(
        self,
        name: str,
        program: str,
        file: str,
        *,
        code: Sequence[pathlib.Path] = (),
        skips: Sequence[str] = (),
    ) -> Service:
        path = (self._cloud / "etc/nova" / file).resolve()
        return Service(
            name=name,
            command=[self._cloud.program(program), "--config-file", str(path)],
            environ=self.environ(),
            reads=[path, *code],
            skips=skips,
        )

    def _ours(self, host: str) -> list[pathlib.Path]:
        """What of ours a developer may have changed since a service was started on a host."""
        return _sources(_OURS) if self._cloud.has_devcompat(host) else []


def _sources(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.rglob("*.py"))


def _user() -> list[str]:
    """The servers refuse to be root unless they are told to."""
    return ["--user=root"] if os.geteuid() == 0 else []
