# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The wheel, and the fresh environments that it is installed into."""

import configparser
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import venv
import zipfile

import pytest

from rigs import releases

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: What tools/test.sh --packaging --nova names.
RELEASE = releases.find(os.environ.get("NOVA_DEVCOMPAT_RELEASE") or releases.DEFAULT)
CONSTRAINTS = ROOT / RELEASE.constraints

CATALOG = """\
meta: {schema_version: '1.0'}
families:
  mlx5_vf:
    match: {vendor_id: '15b3', product_id: '101e'}
    source: static
    rules:
      fw_version: semver
"""
INVENTORY = """\
meta: {schema_version: '1.0'}
hosts:
  cmp1:
    devices:
      - {address: '0000:81:00.0', family: mlx5_vf, attributes: {fw_version: '28.39.1002'}}
  cmp2:
    devices:
      - {address: '0000:81:00.0', family: mlx5_vf, attributes: {fw_version: '28.41.1000'}}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment with our wheel in it."""

    path: pathlib.Path

    @property
    def site_packages(self) -> pathlib.Path:
        (found,) = self.path.glob("lib/python*/site-packages")
        return found

    def command(self, name, *arguments, check=True):
        """Run one of the environment's commands away from our tree.

        :returns: the completed process, its output as text
        """
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environ |= {"PIP_USER": "0"}
        # As nova-compute runs by default: on native threads since 34.
        environ |= {"OS_NOVA_DISABLE_EVENTLET_PATCHING": str(RELEASE.native).lower()}
        done = subprocess.run(
            [self.path / "bin" / name, *arguments],
            cwd=self.path,
            env=environ,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            pytest.fail(f"{name} {arguments} ended with {done.returncode}:\n{done.stderr}")
        return done

    def run(self, script, *arguments):
        """Run a Python script that sees nothing but the environment.

        :returns: what the last line that the script printed says, as JSON
        """
        done = self.command("python", "-I", "-c", textwrap.dedent(script), *map(str, arguments))
        return json.loads(done.stdout.splitlines()[-1])

    def install(self, *requirements, constraints=CONSTRAINTS):
        quiet = ("--quiet", "--disable-pip-version-check")
        self.command("python", "-m", "pip", "install", *quiet, "-c", constraints, *requirements)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel that NOVA_DEVCOMPAT_WHEEL names, else one built from the tree now."""
    if given := os.environ.get("NOVA_DEVCOMPAT_WHEEL"):
        return pathlib.Path(given).resolve(strict=True)
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run([ROOT / "tools" / "lib" / "build_wheel.sh", sys.executable, target], check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def wheel_names(wheel):
    """The names of the files in the wheel, its own metadata aside."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="session", params=["constrained", "lowest"])
def bare(request, wheel, tmp_path_factory):
    """The wheel in an environment without Nova: an operator's own machine.

    With what the release of OpenStack has beside it, and with the least that the wheel asks for.
    """
    environment = Environment(path=tmp_path_factory.mktemp("bare") / "venv")
    venv.create(environment.path, with_pip=True)
    if request.param == "constrained":
        environment.install(wheel)
    else:
        lowest = environment.path / "lowest.txt"
        lowest.write_text((ROOT / "requirements.txt").read_text().replace(">=", "=="))
        environment.install(wheel, constraints=lowest)
    return environment


@pytest.fixture(scope="session")
def beside_nova(wheel, tmp_path_factory):
    """The wheel beside Nova: a controller or a compute host."""
    environment = Environment(path=tmp_path_factory.mktemp("nova") / "venv")
    venv.create(environment.path, with_pip=True)
    # Nova first and ours on top, as on a host that runs Nova already.
    environment.install(f"nova=={RELEASE.nova}", f"openstack-placement=={RELEASE.placement}")
    environment.install(wheel)
    return environment


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with ``catalog.yaml`` and ``inventory.yaml``: a device on each of two hosts."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "catalog.yaml").write_text(CATALOG)
    (folder / "inventory.yaml").write_text(INVENTORY)
    return folder


@pytest.fixture(scope="session")
def nova_conf(files):
    """The nova.conf of README.rst, with a fake driver for libvirt and the files of the test."""
    block = re.search(
        r"^\.\. code-block:: ini\n\n((?:    .*\n|\n)+)", (ROOT / "README.rst").read_text(), re.M
    )
    assert block, "README.rst has no ini block"
    text = textwrap.dedent(block.group(1))
    # Options may be repeated, so it is edited as text; this only says that it is well formed.
    configparser.ConfigParser(strict=False).read_string(text)
    for option, value in {
        "virt_driver": "fake.FakeDriverWithoutFakeNodes",
        "catalog": files / "catalog.yaml",
        "inventory": files / "inventory.yaml",
    }.items():
        text, count = re.subn(rf"^{option} = .*$", f"{option} = {value}", text, flags=re.M)
        assert count == 1, f"README.rst does not set {option} once"
    path = files / "nova.conf"
    path.write_text(
        text.replace("[DEFAULT]\n", f"[DEFAULT]\ntransport_url = fake:/\nstate_path = {files}\n")
    )
    return path
