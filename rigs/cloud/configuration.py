# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The configuration files of a cloud."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping

from rigs.cloud.fleet import ALIAS
from rigs.cloud.hosts import Sections, Value
from rigs.cloud.kinds import hosts_of
from rigs.cloud.layout import (
    ADDRESS,
    CONTROLLER,
    REGION,
    SCHEDULERS,
    SERVICE_DOWN_TIME,
    Cloud,
    write,
)

#: Nova's default filters.
FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
#: Those for devices, which try each candidate: ours comes before them.
DEVICE_FILTERS = ("PciPassthroughFilter", "NUMATopologyFilter")
#: What says nothing about the cloud at DEBUG.
_QUIET = [
    *("amqp=WARN", "amqplib=WARN", "sqlalchemy=WARN", "oslo_messaging=INFO", "iso8601=WARN"),
    *("urllib3.connectionpool=WARN", "requests.packages.urllib3.connectionpool=WARN"),
    *("keystonemiddleware=WARN", "routes.middleware=WARN", "stevedore=WARN", "taskflow=WARN"),
    *("keystoneauth=WARN", "oslo.cache=INFO", "oslo_policy=INFO", "dogpile.core.dogpile=INFO"),
    *("oslo_concurrency=INFO", "oslo_service=INFO", "oslo_db=INFO", "os_brick=INFO"),
    *("oslo_concurrency.lockutils=WARN", "nova.policy=INFO"),
]


def ini(sections: Sections) -> str:
    """The text of a configuration file of oslo.config; a sequence is an option given often."""
    lines = ["# Written by tools/cloud, which overwrites it."]
    for section, options in sections.items():
        lines += ["", f"[{section}]"]
        for name, value in options.items():
            values = [value] if isinstance(value, str | int) else value
            lines += [
                f"{name} = {str(one).lower() if one in (True, False) else one}" for one in values
            ]
    return "\n".join(lines) + "\n"


class Files:
    """Writes the files of a cloud; one that is the same is not touched.

    :param cloud: the cloud
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._hosts = hosts_of(cloud)

    def write(self) -> None:
        cloud = self._cloud
        for name, _ in cloud.hosts():
            for folder in (f"hosts/{name}/state", f"hosts/{name}/lock"):
                (cloud / folder).mkdir(parents=True, exist_ok=True)
            self._hosts.write(name)
        if not (cloud / "etc/devcompat.yaml").exists():
            write(cloud / "etc/devcompat.yaml", self._hosts.catalog)
        for folder in ("images", "guests", "lock", "home"):
            (cloud / folder).mkdir(parents=True, exist_ok=True)
        self._infrastructure()
        self._keystone()
        self._glance()
        self._neutron()
        self._placement()
        self._nova()
        self._clients()

    # --- what is not OpenStack ------------------------------------------------------------------

    def _infrastructure(self) -> None:
        cloud = self._cloud
        passwords = cloud.settings.passwords
        databases = ["keystone", "glance", "neutron", "placement", "nova_api", "nova_cell0"]
        databases += [f"nova_{cell}" for cell in cloud.cells]
        statements = [
            *(
                f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3;"
                for name in databases
            ),
            "CREATE USER IF NOT EXISTS cloud@'127.0.0.1';",
            f"SET PASSWORD FOR cloud@'127.0.0.1' = PASSWORD('{passwords['database']}');",
            *(f"GRANT ALL ON {name}.* TO cloud@'127.0.0.1';" for name in databases),
        ]
        self._write("mariadb/init.sql", "\n".join(statements) + "\n")
        vhosts = ["nova", "neutron", "glance", *cloud.cells]
        definitions = {
            "users": [
                {
                    "name": "cloud",
                    "password_hash": _rabbitmq_hash(passwords["rabbitmq"]),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "administrator",
                }
            ],
            "vhosts": [{"name": vhost} for vhost in vhosts],
            "permissions": [
                {"user": "cloud", "vhost": v, "configure": ".*", "write": ".*", "read": ".*"}
                for v in vhosts
            ],
        }
        self._write("rabbitmq/definitions.json", json.dumps(definitions, indent=2) + "\n")
        self._write(
            "rabbitmq/rabbitmq.conf",
            f"listeners.tcp.local = {ADDRESS}:{cloud.port('rabbitmq')}\n"
            f"load_definitions = {cloud / 'etc/rabbitmq/definitions.json'}\n"
            "log.console = true\nlog.console.level = warning\nlog.file = false\n"
            "vm_memory_high_watermark.absolute = 512MiB\ndisk_free_limit.absolute = 100MB\n",
        )
        # Nothing but the broker itself.
        self._write("rabbitmq/enabled_plugins", "[].\n")

    # --- OpenStack ------------------------------------------------------------------------------

    def _keystone(self) -> None:
        keys = self._cloud / "etc/keystone/fernet-keys"
        if not keys.exists():
            for name in ("0", "1"):
                key = base64.urlsafe_b64encode(os.urandom(32)).decode()
                write(keys / name, key, mode=0o600)
        self._ini(
            "keystone/keystone.conf",
            {
                "DEFAULT": {"log_dir": "", "use_stderr": True},
                "database": self._database("keystone"),
                # As few as bcrypt can: each service and each command asks for tokens.
                "identity": {"password_hash_rounds": 4},
                "token": {"provider": "fernet", "expiration": 86400},
                "fernet_tokens": {"key_repository": str(keys)},
                "fernet_receipts": {"key_repository": str(keys)},
                "cache": {
                    "enabled": True,
                    "backend": "dogpile.cache.pymemcache",
                    "memcache_servers": self._memcached(),
                },
            },
        )

    def _glance(self) -> None:
        cloud = self._cloud
        self._ini(
            "glance/glance-api.conf",
            {
                "DEFAULT": {
                    "use_stderr": True,
                    "enabled_backends": "local:file",
                    "enabled_import_methods": "[]",
                    "worker_self_reference_url": cloud.url("glance"),
                    "transport_url": cloud.transport("glance"),
                },
                "database": self._database("glance"),
                "glance_store": {"default_backend": "local"},
                "local": {"filesystem_store_datadir": str(cloud / "images")},
                "os_glance_staging_store": {
                    "filesystem_store_datadir": str(cloud / "images/staging")
                },
                "os_glance_tasks_store": {"filesystem_store_datadir": str(cloud / "images/tasks")},
                "keystone_authtoken": self._authtoken(),
                "paste_deploy": {
                    "flavor": "keystone",
                    "config_file": str(self._shipped("glance/glance-api-paste.ini")),
                },
                "oslo_messaging_notifications": {"driver": "noop"},
            },
        )

    def _neutron(self) -> None:
        cloud = self._cloud
        self._ini(
            "neutron/neutron.conf",
            {
                "DEFAULT": {
                    "use_stderr": True,
                    "core_plugin": "ml2",
                    "service_plugins": "",
                    "api_paste_config": str(self._shipped("neutron/api-paste.ini")),
                    "transport_url": cloud.transport("neutron"),
                    "auth_strategy": "keystone",
                    "state_path": str(cloud / "lock"),
                    "notify_nova_on_port_status_changes": False,
                    "notify_nova_on_port_data_changes": False,
                },
                "database": self._database("neutron"),
                "keystone_authtoken": self._authtoken(),
                "ml2": {
                    "type_drivers": "flat,local",
                    "tenant_network_types": "local",
                    "mechanism_drivers": "",
                    "extension_drivers": "",
                },
                "oslo_concurrency": {"lock_path": str(cloud / "lock")},
                "oslo_messaging_notifications": {"driver": "noop"},
            },
        )

    def _placement(self) -> None:
        self._ini(
            "placement/placement.conf",
            {
                "DEFAULT": {"use_stderr": True},
                "placement_database": self._database("placement"),
                "keystone_authtoken": self._authtoken(),
            },
        )

    def _nova(self) -> None:
        cloud = self._cloud
        # Without our filter too: nova-api checks our extra specs, and our command reads it.
        central = {**self._nova_common("nova", CONTROLLER), **self._devcompat()}
        central["api_database"] = self._database("nova_api")
        central["database"] = self._database("nova_cell0")
        central["pci"] = {"alias": ALIAS}
        central["conductor"] = {"workers": 1}
        central["scheduler"] = {"workers": SCHEDULERS}
        central["filter_scheduler"] = self._filter_scheduler()
        self._ini("nova/nova.conf", central)
        paste = self._shipped("nova/api-paste.ini").read_text()
        self._write("nova/api-paste.ini", paste)
        for cell in cloud.cells:
            conductor = dict(self._nova_common(cell, cell))
            conductor["database"] = self._database(f"nova_{cell}")
            # Computes ask for server groups before a live migration.
            conductor["api_database"] = self._database("nova_api")
            conductor["conductor"] = {"workers": 1}
            self._ini(f"nova/{cell}.conf", conductor)
        for host, cell in cloud.hosts():
            self._compute(host, cell)

    def _compute(self, host: str, cell: str) -> None:
        cloud = self._cloud
        compute = dict(self._nova_common(cell, host))
        driver = {"compute_driver": self._hosts.driver}
        if cloud.has_devcompat(host):
            driver = {"compute_driver": "devcompat.DeviceCompatDriver"}
            compute["devcompat"] = {
                **self._devcompat()["devcompat"],
                "virt_driver": self._hosts.driver,
                **self._hosts.devcompat(host),
            }
        compute["DEFAULT"] = {
            **compute["DEFAULT"],
            **driver,
            "state_path": str(cloud / f"hosts/{host}/state"),
            # Short, so that what is changed shows soon. Pretended hosts have cycles when asked,
            # and six of them at 10 seconds would take a tenth of two processors for others.
            "update_resources_interval": 10 if cloud.libvirt else 30,
            "periodic_fuzzy_delay": 0,
            # Long enough for a live migration in flight to end first: nova-compute reserves 20
            # seconds of the second for itself.
            "graceful_shutdown_timeout": 40,
            "manager_shutdown_timeout": 30,
        }
        compute["oslo_concurrency"] = {"lock_path": str(cloud / f"hosts/{host}/lock")}
        # An alias by resource class alone is refused without it, here too.
        compute["filter_scheduler"] = {"pci_in_placement": True}
        for section, options in self._hosts.compute(host).items():
            compute[section] = {**compute.get(section, {}), **options}
        self._ini(f"hosts/{host}.conf", compute)

    def _nova_common(self, vhost: str, host: str) -> dict[str, Mapping[str, Value]]:
        cloud = self._cloud
        client = self._client()
        return {
            "DEFAULT": {
                "host": host,
                "use_stderr": True,
                "debug": True,
                "log_options": False,
                "default_log_levels": ",".join(_QUIET),
                "my_ip": ADDRESS,
                "transport_url": cloud.transport(vhost),
                "state_path": str(cloud / "lock"),
                "rpc_response_timeout": 60,
                # Nobody listens on the networks that guests do not have.
                "vif_plugging_is_fatal": False,
                "report_interval": 5,
                "service_down_time": SERVICE_DOWN_TIME,
            },
            "api": {"auth_strategy": "keystone"},
            "keystone_authtoken": self._authtoken(),
            "placement": client,
            "glance": {**client, "service_type": "image"},
            "neutron": client,
            "service_user": {**client, "send_service_user_token": True},
            "quota": {"driver": "nova.quota.NoopQuotaDriver"},
            "vnc": {"enabled": False},
            "oslo_concurrency": {"lock_path": str(cloud / "lock")},
            "oslo_messaging_notifications": {"driver": "noop"},
            **self._hosts.nova(),
        }

    def _devcompat(self) -> dict[str, Mapping[str, Value]]:
        return {
            "devcompat": {
                **self._hosts.packs(),
                "catalog": str(self._cloud / "etc/devcompat.yaml"),
                "mode": self._cloud.settings.mode,
                "on_unknown": "reject",
            }
        }

    def _filter_scheduler(self) -> dict[str, Value]:
        # Resources that nobody lacks would decide, and always for the same host: any that passes
        # the filters shall do.
        weighers = ("ram", "cpu", "disk", "pci")
        options: dict[str, Value] = {
            "pci_in_placement": True,
            "shuffle_best_same_weighed_hosts": True,
            **{f"{name}_weight_multiplier": "0" for name in weighers},
            "enabled_filters": ",".join([*FILTERS, *DEVICE_FILTERS]),
        }
        if self._cloud.has_devcompat(CONTROLLER):
            options |= {
                "available_filters": [
                    "nova.scheduler.filters.all_filters",
                    "nova_devcompat.scheduler.filters.all_filters",
                ],
                "enabled_filters": ",".join([*FILTERS, "DeviceCompatFilter", *DEVICE_FILTERS]),
                "weight_classes": "nova.scheduler.weights.all_weighers,"
                "nova_devcompat.scheduler.weights.all_weighers",
            }
        return options

    def _clients(self) -> None:
        cloud = self._cloud
        password = cloud.settings.passwords["admin"]
        auth = {
            "auth_url": cloud.url("keystone") + "/v3",
            "username": "admin",
            "password": password,
            "project_name": "admin",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        variables = {f"OS_{name.upper()}": value for name, value in auth.items()}
        variables |= {
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": REGION,
            # Listing traits and what is needed to show a migration's destination.
            "OS_PLACEMENT_API_VERSION": "1.39",
            "OS_COMPUTE_API_VERSION": "2.96",
        }
        lines = ["# . this file, then use the openstack client as ever. Written by tools/cloud."]
        lines += [f"export {name}='{value}'" for name, value in variables.items()]
        lines += [f"export PATH='{cloud.venv / 'bin'}':\"$PATH\""]
        write(cloud / "openrc", "\n".join(lines) + "\n", mode=0o600)
        document = {"clouds": {"devcompat": {"auth": auth, "region_name": REGION}}}
        # JSON is YAML too.
        write(cloud / "clouds.yaml", json.dumps(document, indent=2) + "\n", mode=0o600)

    # --- parts ----------------------------------------------------------------------------------

    def _client(self) -> dict[str, Value]:
        return {
            "auth_url": self._cloud.url("keystone") + "/v3",
            "auth_type": "password",
            "username": "service",
            "password": self._cloud.settings.passwords["service"],
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": REGION,
        }

    def _authtoken(self) -> dict[str, Value]:
        return {
            **self._client(),
            "www_authenticate_uri": self._cloud.url("keystone"),
            "memcached_servers": self._memcached(),
            "service_token_roles": "service",
            "service_token_roles_required": True,
        }

    def _database(self, name: str) -> dict[str, Value]:
        return {"connection": self._cloud.database(name), "max_pool_size": 5}

    def _memcached(self) -> str:
        return f"{ADDRESS}:{self._cloud.port('memcached')}"

    def _shipped(self, path: str) -> pathlib.Path:
        return self._cloud.venv / "etc" / path

    def _ini(self, path: str, sections: Sections) -> None:
        self._write(path, ini(sections))

    def _write(self, path: str, text: str) -> None:
        # They hold passwords.
        write(self._cloud / f"etc/{path}", text, mode=0o600)


def _rabbitmq_hash(password: str) -> str:
    """As RabbitMQ stores it; the salt follows from the password, so the file stays the same."""
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
