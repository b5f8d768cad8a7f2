# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A host on which stack.sh has got as far as the plugin's phases, within a folder.

The functions of devstack are stand-ins, and its nova.conf is a recorded one. Where DEVSTACK_DIR
names a checkout of devstack, every test runs a second time with the real ones: ``functions``, and
of ``lib/nova`` what writes nova.conf and nova-cpu.conf.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONTROLLER = ("n-api", "n-sch", "n-cond")

# What lib/nova of July 2026 wrote for these services, shortened.
NOVA_CONF = """
[DEFAULT]
compute_driver = {compute_driver}
graceful_shutdown_timeout = 5
my_ip = 127.0.0.1
debug = True

[filter_scheduler]
track_instance_changes = False
enabled_filters = {filters}

[scheduler]
workers = 2

[key_manager]
fixed_key = bae3516cc1c0eb18b05440eba8012a4a880a2ee04d584a9c1579445e675b12defdc716ec
backend = nova.keymgr.conf_key_mgr.ConfKeyManager
"""
FILTERS = (
    "ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,"
    "ServerGroupAffinityFilter,SameHostFilter,DifferentHostFilter"
)
DRIVERS = {"fake": "fake.FakeDriverWithoutFakeNodes", "libvirt": "libvirt.LibvirtDriver"}

# lib/nova asks these of the rest of devstack. What they would write is of no interest here.
_ELSEWHERE = (
    "configure_keystone_authtoken_middleware",
    "configure_keystoneauth",
    "database_connection_url",
    "get_notification_url",
    "iniset_rpc_backend",
    "rpc_backend_add_vhost",
    "run_process",
    "setup_logging",
    "sudo",
    "uuidgen",
    "write_uwsgi_config",
)


class Host:
    """A host with its own /etc/nova and its own checkout of Nova."""

    def __init__(
        self,
        root: pathlib.Path,
        services: tuple[str, ...],
        *,
        virt_driver: str = "fake",
        devstack: pathlib.Path | None = None,
        venv: pathlib.Path | None = None,
    ) -> None:
        self.nova_conf = root / "etc" / "nova" / "nova.conf"
        self.nova_cpu_conf = root / "etc" / "nova" / "nova-cpu.conf"
        self.catalog = root / "etc" / "nova" / "devcompat.yaml"
        self.inventory = root / "etc" / "nova" / "devcompat-inventory.yaml"
        self.nova = root / "stack" / "nova"
        self.local_conf = root / "local.conf"
        self._devstack = devstack
        self._services = services
        self._virt_driver = virt_driver
        self.nova_conf.parent.mkdir(parents=True)
        requirements = root / "stack" / "requirements"
        requirements.mkdir(parents=True)
        constraints = (ROOT / "constraints" / "2026.2.txt").read_text()
        (requirements / "upper-constraints.txt").write_text(constraints)
        venv = venv or pathlib.Path(sys.prefix)
        self.python = venv / "bin" / "python"
        self._variables = {
            "TEST_PYTHON": sys.executable,
            "TEST_DIR": HERE,
            "DEST": root / "stack",
            "DATA_DIR": root / "stack" / "data",
            "DEVSTACK_VENV": venv,
            "GLOBAL_VENV": "True",
            "PYTHON": self.python,
            "PYTHON3_VERSION": f"{sys.version_info.major}.{sys.version_info.minor}",
            "REQUIREMENTS_DIR": requirements,
            "STACK_USER": "stack",
            "ENABLED_SERVICES": ",".join(services),
            "DISABLED_SERVICES": "",
            "HOSTNAME": "node",
            "VIRT_DRIVER": virt_driver,
            "NUMBER_FAKE_NOVA_COMPUTE": 2,
        }
        # lib/nova sets these itself, so they come after it.
        self._nova_variables = {
            "NOVA_DIR": self.nova,
            "NOVA_CONF_DIR": self.nova_conf.parent,
            "NOVA_CONF": self.nova_conf,
            "NOVA_COND_CONF": self.nova_conf,
            "NOVA_CPU_CONF": self.nova_cpu_conf,
            "NOVA_FAKE_CONF": self.nova_conf.parent / "nova-fake.conf",
            "NOVA_STATE_PATH": root / "state",
            "NOVA_FILTERS": FILTERS,
            "NOVA_MY_IP": "127.0.0.1",
        }

    def create_nova_conf(self) -> None:
        """As ``configure_nova`` does in stack.sh before the plugin's first phase."""
        if self._devstack:
            self.bash("create_nova_conf")
            driver = DRIVERS[self._virt_driver]
            if "n-cpu" in self._services:
                self.bash(f"iniset $NOVA_CONF DEFAULT compute_driver {driver}")
            return
        text = NOVA_CONF.format(compute_driver=DRIVERS[self._virt_driver], filters=FILTERS)
        if "n-cpu" not in self._services:
            text = text.replace(f"compute_driver = {DRIVERS[self._virt_driver]}\n", "")
        self.nova_conf.write_text(text)

    def start_nova_compute(self) -> None:
        """As stack.sh does after phase post-config."""
        if self._devstack:
            self.bash("start_nova_compute")
        else:
            self.nova_cpu_conf.write_text(self.nova_conf.read_text())

    def phase(self, *phase: str, **settings: str) -> str:
        """Run a phase of the plugin.

        :param settings: variables of localrc
        :returns: what it printed
        """
        return self._checked(self.attempt(*phase, **settings))

    def attempt(self, *phase: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a phase of the plugin that may fail."""
        plugin = ROOT / "devstack"
        return self._bash(
            f"source {plugin}/settings\nset -o errexit\n"
            # clean.sh gives the mode only.
            f"source {plugin}/plugin.sh {' '.join(phase)}\n",
            settings,
        )

    def bash(self, script: str) -> str:
        """Run a script with devstack's functions."""
        return self._checked(self._bash(script, {}))

    def _bash(self, script: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
        lines = [f"{name}='{value}'" for name, value in (self._variables | settings).items()]
        if self._devstack:
            lines += [
                f"TOP_DIR={self._devstack}",
                f"source {self._devstack}/functions",
                # Options of no interest to lib/nova are empty.
                "API_WORKERS=1 ENABLE_DEBUG_LOG_LEVEL=True SERVICE_GRACEFUL_SHUTDOWN_TIMEOUT=5",
                "SERVICE_TIMEOUT=60 INSTANCE_NAME_PREFIX=instance- SYSLOG=False",
                "NOVNC_FROM_PACKAGE=True NOVA_USE_SERVICE_TOKEN=False",
                f"source {self._devstack}/lib/nova",
                *(f"function {name} {{ :; }}" for name in _ELSEWHERE),
                # merge_config_file reads local.conf there, with an awk that is not mawk.
                f"TOP_DIR={self.local_conf.parent} CONFIG_AWK_CMD=gawk",
            ]
        else:
            lines.append(f"source {HERE}/stand-ins.sh")
        lines += [f"{name}='{value}'" for name, value in self._nova_variables.items()]
        return subprocess.run(
            ["bash", "-c", "\n".join([*lines, script])],
            env={"PATH": os.environ["PATH"], "HOME": str(self.local_conf.parent)},
            cwd=self.local_conf.parent,
            capture_output=True,
            text=True,
        )

    @staticmethod
    def _checked(done: subprocess.CompletedProcess[str]) -> str:
        if done.returncode:
            pytest.fail(f"ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout


def _devstacks() -> list[Any]:
    found = [pytest.param(None, id="stand-ins")]
    if given := os.environ.get("DEVSTACK_DIR"):
        found.append(pytest.param(pathlib.Path(given).resolve(), id="devstack"))
    return found


@pytest.fixture(scope="session", params=_devstacks())
def devstack(request: pytest.FixtureRequest) -> pathlib.Path | None:
    """The checkout of devstack whose functions are used; None for the stand-ins."""
    return request.param


@pytest.fixture
def make_host(tmp_path: pathlib.Path, devstack: pathlib.Path | None) -> Callable[..., Host]:
    """Make a host that runs the services; its checkout of Nova is an empty repository."""

    def make(*services: str, **options: Any) -> Host:
        host = Host(tmp_path, services, devstack=devstack, **options)
        (host.nova / "nova" / "virt").mkdir(parents=True)
        subprocess.run(["git", "init", "-q", host.nova], check=True)
        host.create_nova_conf()
        return host

    return make
