# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a cloud needs before it can be used: tables, users, endpoints, cells, flavors, an image."""

from __future__ import annotations

import concurrent.futures
import datetime
import functools
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable

from rigs.cloud import packages, waiting
from rigs.cloud.kinds import hosts_of
from rigs.cloud.layout import CONTROLLER, REGION, SCHEDULERS, SERVICE_DOWN_TIME, Cloud, write
from rigs.cloud.processes import Supervisor
from rigs.cloud.rest import Client
from rigs.cloud.services import Services

#: Endpoints: name, type, service that answers, path.
ENDPOINTS = (
    ("glance", "image", "glance", ""),
    ("neutron", "network", "neutron", ""),
    ("placement", "placement", "placement", ""),
    ("nova", "compute", "nova-api", "/v2.1"),
)
#: What each worker of Nova's services logs when it takes requests.
READY = "Join ServiceGroup membership"
IMAGE = "playground"


class Setup:
    """Does each step once; ``done/STEP`` remembers.

    :param cloud: the cloud
    :param services: of the cloud
    :param debian: has MariaDB's programs
    :param supervisor: has started the services
    """

    def __init__(
        self,
        cloud: Cloud,
        services: Services,
        debian: packages.Debian,
        supervisor: Supervisor,
    ) -> None:
        self._cloud = cloud
        self._services = services
        self._debian = debian
        self._supervisor = supervisor
        self._client = Client(cloud)
        self._hosts = hosts_of(cloud)

    # --- before services ------------------------------------------------------------------------

    def database_folder(self) -> None:
        """Make MariaDB's own tables."""
        folder = self._cloud / "mariadb"
        if (folder / "mysql/user.frm").exists() or (folder / "mysql/global_priv.frm").exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        packages.run(
            [
                self._debian.program("mariadb-install-db"),
                "--no-defaults",
                f"--basedir={self._debian.file('usr')}",
                f"--lc-messages-dir={self._debian.file('usr/share/mysql')}",
                f"--datadir={folder}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            log=self._cloud / "log/setup-mariadb.log",
            environ=self._debian.environ(),
        )

    def broker_folder(self) -> None:
        (self._cloud / "rabbitmq").mkdir(parents=True, exist_ok=True)

    # --- tables ---------------------------------------------------------------------------------

    def tables(self) -> None:
        """Make or upgrade the tables of all, as many at a time as there are cores."""
        steps: list[tuple[str, list[list[str]]]] = [
            (
                "neutron",
                [
                    [
                        "neutron-db-manage",
                        *("--config-file", str(self._cloud / "etc/neutron/neutron.conf")),
                        *("upgrade", "heads"),
                    ]
                ],
            ),
            (
                "keystone",
                [
                    ["keystone-manage", *self._keystone_file(), "db_sync"],
                    ["keystone-manage", *self._keystone_file(), "bootstrap", *self._bootstrap()],
                ],
            ),
            (
                "glance",
                [
                    [
                        "glance-manage",
                        *("--config-file", str(self._cloud / "etc/glance/glance-api.conf")),
                        *("db", "sync"),
                    ]
                ],
            ),
            (
                "placement",
                [
                    [
                        "placement-manage",
                        *("--config-file", str(self._cloud / "etc/placement/placement.conf")),
                        *("db", "sync"),
                    ]
                ],
            ),
        ]
        # Nova's take the longest.
        self._parallel(
            [
                self._nova,
                *(
                    lambda name=name, commands=commands: self._once(f"tables-{name}", commands)
                    for name, commands in steps
                ),
            ]
        )

    def _nova(self) -> None:
        """Make Nova's tables, and make its cells known."""
        file = ["--config-file", str(self._cloud / "etc/nova/nova.conf")]
        cell0 = ["--database_connection", self._cloud.database("nova_cell0")]
        steps: list[tuple[str, list[str], list[int]]] = [
            ("tables-nova_api", [*file, "api_db", "sync"], [0]),
            ("tables-nova_cell0", [*file, "db", "sync", "--local_cell"], [0]),
            ("cell0", [*file, "cell_v2", "map_cell0", *cell0], [0]),
        ]
        for cell in self._cloud.cells:
            own = ["--config-file", str(self._cloud / f"etc/nova/{cell}.conf")]
            connections = ["--database_connection", self._cloud.database(f"nova_{cell}")]
            connections += ["--transport-url", self._cloud.transport(cell)]
            create = [*file, "cell_v2", "create_cell", "--name", cell, *connections]
            steps.append((f"tables-nova_{cell}", [*own, "db", "sync", "--local_cell"], [0]))
            # 2: it exists already.
            steps.append((cell, create, [0, 2]))
        commands = [
            {"arguments": arguments, "accept": accept, "done": str(done)}
            for step, arguments, accept in steps
            if not (done := self._cloud / f"done/{step}").exists()
        ]
        if commands:
            (self._cloud / "done").mkdir(parents=True, exist_ok=True)
            script = str(pathlib.Path(__file__).with_name("manage.py"))
            packages.run(
                [self._cloud.program("python"), script],
                log=self._cloud / "log/setup-nova.log",
                environ=self._services.environ(),
                text=json.dumps(commands),
            )

    def _keystone_file(self) -> list[str]:
        return ["--config-file", str(self._cloud / "etc/keystone/keystone.conf")]

    def _bootstrap(self) -> list[str]:
        url = self._cloud.url("keystone") + "/v3"
        return [
            *("--bootstrap-password", self._cloud.settings.passwords["admin"]),
            *("--bootstrap-region-id", REGION),
            *("--bootstrap-admin-url", url),
            *("--bootstrap-public-url", url),
            *("--bootstrap-internal-url", url),
        ]

    def _once(self, step: str, commands: list[list[str]]) -> None:
        done = self._cloud / f"done/{step}"
        if done.exists():
            return
        log = self._cloud / f"log/setup-{step}.log"
        for command in commands:
            self._run(*command, log=log)
        write(done, "")

    def _run(self, name: str, *arguments: str, log: pathlib.Path) -> None:
        """Run one of OpenStack's programs."""
        command = [self._cloud.program(name), *arguments]
        packages.run(command, log=log, environ=self._services.environ())

    def _parallel(self, steps: Iterable[Callable[[], None]]) -> None:
        with concurrent.futures.ThreadPoolExecutor(max_workers=3) as pool:
            for future in [pool.submit(step) for step in steps]:
                future.result()

    # --- with services --------------------------------------------------------------------------

    def identities(self) -> None:
        """The user of the services, and the endpoints."""
        done = self._cloud / "done/identities"
        if done.exists():
            return
        ask = self._client
        project = self._ensure("projects", "project", "service", {"domain_id": "default"})
        user = self._ensure(
            "users",
            "user",
            "service",
            {
                "domain_id": "default",
                "password": self._cloud.settings.passwords["service"],
                "default_project_id": project,
            },
        )
        for name in ("admin", "service"):
            role = self._ensure("roles", "role", name, {})
            ask.call("keystone", "PUT", f"/v3/projects/{project}/users/{user}/roles/{role}")
        for name, kind, service, path in ENDPOINTS:
            number = self._ensure("services", "service", name, {"type": kind})
            known = ask.call("keystone", "GET", f"/v3/endpoints?service_id={number}")["endpoints"]
            for interface in ("public", "internal", "admin"):
                if interface not in {endpoint["interface"] for endpoint in known}:
                    endpoint = {
                        "service_id": number,
                        "interface": interface,
                        "region_id": REGION,
                        "url": self._cloud.url(service) + path,
                    }
                    ask.call("keystone", "POST", "/v3/endpoints", {"endpoint": endpoint})
        write(done, "")

    def _ensure(self, kinds: str, kind: str, name: str, more: dict[str, str]) -> str:
        found = self._client.call("keystone", "GET", f"/v3/{kinds}?name={name}")[kinds]
        if not found:
            body = {kind: {"name": name, **more}}
            found = [self._client.call("keystone", "POST", f"/v3/{kinds}", body)[kind]]
        return str(found[0]["id"])

    def contents(self) -> None:
        """An image and flavors."""
        ask = self._client
        if not ask.call("glance", "GET", f"/v2/images?name={IMAGE}&status=active")["images"]:
            body = {
                "name": IMAGE,
                "disk_format": "raw",
                "container_format": "bare",
                "visibility": "public",
            }
            image = ask.call("glance", "POST", "/v2/images", body)["id"]
            stream = {"Content-Type": "application/octet-stream"}
            ask.call("glance", "PUT", f"/v2/images/{image}/file", self._hosts.image, stream)
        known = {f["name"] for f in ask.call("nova-api", "GET", "/v2.1/flavors")["flavors"]}
        for name, specs in self._hosts.flavors.items():
            if name not in known:
                flavor = {"name": name, **self._hosts.size}
                made = ask.call("nova-api", "POST", "/v2.1/flavors", {"flavor": flavor})
                if specs:
                    path = f"/v2.1/flavors/{made['flavor']['id']}/os-extra_specs"
                    ask.call("nova-api", "POST", path, {"extra_specs": specs})

    def hosts(self) -> None:
        """Wait for all computes and map them to their cells."""
        expected = {name for name, _ in self._cloud.hosts()}
        self.wait_for_reports(list(self._reporting()))
        if not expected <= self._mapped():
            waiting.until("the computes to write down their nodes", self._nodes, limit=60)
            nova = ["--config-file", str(self._cloud / "etc/nova/nova.conf")]
            command = ["nova-manage", *nova, "cell_v2", "discover_hosts"]
            log = self._cloud / "log/setup-discover.log"
            self._run(*command, log=log)
        waiting.until(
            "the computes' hypervisors", lambda: expected <= self._mapped(), limit=60, pause=0.5
        )
        waiting.until("hosts to publish", self._published, limit=90, pause=0.5)

    def forget_hosts(self) -> None:
        """Delete what Nova and placement have of computes that the cloud does not have any more.

        :raises CloudError: one of them still has guests
        """
        hosts = {name for name, _ in self._cloud.hosts()}
        # Before, it deletes neither the node nor its resource provider.
        version = {"X-OpenStack-Nova-API-Version": "2.53"}
        path = "/v2.1/os-services"
        found = self._client.call(
            "nova-api", "GET", f"{path}?binary=nova-compute", headers=version
        )["services"]
        for service in found:
            if service["host"] not in hosts:
                self._client.call("nova-api", "DELETE", f"{path}/{service['id']}", headers=version)

    def _reporting(self) -> dict[str, tuple[str, str]]:
        """Binary and host of the services that report to Nova's database, by our name."""
        cells, hosts = self._cloud.cells, [name for name, _ in self._cloud.hosts()]
        return {
            **{name: (name, CONTROLLER) for name in ("nova-conductor", "nova-scheduler")},
            **{f"nova-conductor-{cell}": ("nova-conductor", cell) for cell in cells},
            **{f"nova-compute-{host}": ("nova-compute", host) for host in hosts},
        }

    def wait_for_reports(self, names: Iterable[str]) -> None:
        """Wait until services that were started take requests; others are passed over."""
        reporting = {n: which for n, which in self._reporting().items() if n in set(names)}
        for name in reporting:
            waiting.until(
                f"{name} to take requests",
                functools.partial(self._takes_requests, name),
                limit=self._hosts.start,
                alive=lambda: self._supervisor.check_alive(reporting),
                pause=0.1,
            )
        # Those that were down for long are so to others until they report, which is some seconds
        # after their start.
        waiting.until(
            "nova's services to report",
            lambda: set(reporting.values()) <= self._up(),
            limit=60,
            alive=lambda: self._supervisor.check_alive(reporting),
        )

    def _takes_requests(self, name: str) -> bool:
        process = self._supervisor.find(name)
        if process is not None and process.age() > self._hosts.start:
            return True  # and its log may be another by now
        workers = SCHEDULERS if name == "nova-scheduler" else 1
        return self._supervisor.logged(name, READY) >= workers

    def _up(self) -> set[tuple[str, str]]:
        """Binary and host of the services that Nova takes for alive, and will for a while.

        A restart can take so long that the last report from before it is about to be too old.
        """
        now = datetime.datetime.now(datetime.UTC)
        longest = datetime.timedelta(seconds=SERVICE_DOWN_TIME / 2)
        up = set()
        for one in self._client.call("nova-api", "GET", "/v2.1/os-services")["services"]:
            # None before the first report, when the service counts as new.
            text = one["updated_at"] or now.isoformat()
            reported = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
            if one["state"] == "up" and now - reported < longest:
                up.add((one["binary"], one["host"]))
        return up

    def _mapped(self) -> set[str]:
        """Computes that the API knows, which it does when they are mapped."""
        found = self._client.call("nova-api", "GET", "/v2.1/os-hypervisors")["hypervisors"]
        return {one["hypervisor_hostname"] for one in found}

    def _providers(self) -> dict[str, str]:
        found = self._client.call("placement", "GET", "/resource_providers")
        return {one["name"]: one["uuid"] for one in found["resource_providers"]}

    def _nodes(self) -> bool:
        return {name for name, _ in self._cloud.hosts()} <= self._providers().keys()

    def _published(self) -> bool:
        """Whether those with nova-devcompat have traits."""
        providers = self._providers()
        version = {"OpenStack-API-Version": "placement 1.6"}
        for name, _ in self._cloud.hosts():
            if not self._cloud.has_devcompat(name):
                continue
            path = f"/resource_providers/{providers.get(name)}/traits"
            traits = self._client.call("placement", "GET", path, headers=version)["traits"]
            if not any(trait.startswith("CUSTOM_DEVCOMPAT_") for trait in traits):
                return False
        return True
