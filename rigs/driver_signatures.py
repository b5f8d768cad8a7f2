# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Read what we rely on of Nova's virt drivers from its wheels, and record it for tests.

    python -m rigs.driver_signatures 31 32 33 34

downloads the newest release of each of these series with pip and writes
tests/unit/compute/nova_signatures.json, which tests/unit/compute/test_contract.py compares
with nova_devcompat/compute/contract.py (signatures), and tests/unit/stores/test_ports.py with
nova_devcompat/stores/ports.py (what a live migration does with ports). The wheels are parsed,
nothing of them is imported, and no Nova needs to be installed. Only the standard library is used
here.
"""

import argparse
import ast
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECORDED = ROOT / "tests" / "unit" / "compute" / "nova_signatures.json"

#: The classes that are recorded, with their files in a wheel. The first is the interface.
CLASSES = {
    "ComputeDriver": "nova/virt/driver.py",
    "LibvirtDriver": "nova/virt/libvirt/driver.py",
    "FakeDriver": "nova/virt/fake.py",
    "FakeDriverWithoutFakeNodes": "nova/virt/fake.py",
    "FakeLiveMigrateDriver": "nova/virt/fake.py",
}


#: Where Nova lists which kinds of ports have a device, and which of these are unplugged.
VNIC_TYPES = "nova/network/model.py"
_VNIC_LISTS = ("VNIC_TYPES_SRIOV", "VNIC_TYPES_DIRECT_PASSTHROUGH")

#: What of libvirt's driver unplugs and plugs ports, in a live migration and around it.
PLUGGING = (
    "_live_migration_operation",
    "_detach_direct_passthrough_vifs",
    "post_live_migration_at_destination",
    "rollback_live_migration_at_source",
    "_reattach_instance_vifs",
    "suspend",
    "_detach_direct_passthrough_ports",
)
_PLUGS = re.compile("(at|de)tach|VNIC_")

#: What is recorded of a release: its ``version``, ``classes`` and ``ports``.
Signatures = dict[str, Any]


class DownloadError(Exception):
    """pip did not get a wheel; the text is what it said."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series", nargs="+", help="a major version of Nova, such as 34")
    arguments = parser.parse_args(argv)
    try:
        releases = {series: read_release(f"=={series}.*") for series in arguments.series}
    except DownloadError as error:
        print(error, file=sys.stderr)
        return 1
    RECORDED.write_text(json.dumps(merged(releases), indent=1) + "\n")
    print(f"{RECORDED}: {', '.join(one['version'] for one in releases.values())}")
    return 0


def merged(releases: dict[str, Signatures]) -> dict[str, Any]:
    """Releases by series as the file has them: what they have in common is said once."""
    classes: dict[str, dict[str, dict[str, str]]] = {}
    for series, release in releases.items():
        for name, methods in release["classes"].items():
            for method, parameters in sorted(methods.items()):
                signatures = classes.setdefault(name, {}).setdefault(method, {})
                signatures[parameters] = f"{signatures.get(parameters, '')} {series}".strip()
    versions = {series: release["version"] for series, release in releases.items()}
    ports: dict[str, str] = {}
    for series, release in releases.items():
        text = json.dumps(release["ports"], sort_keys=True)
        ports[text] = f"{ports.get(text, '')} {series}".strip()
    alike = {having: json.loads(text) for text, having in ports.items()}
    return {"versions": versions, "classes": classes, "ports": alike}


def recorded() -> dict[str, Signatures]:
    """What the file has, by series; each as :func:`read_release` returned it."""
    content = json.loads(RECORDED.read_text())
    return {
        series: {
            "version": version,
            "classes": {
                name: {
                    method: parameters
                    for method, signatures in methods.items()
                    for parameters, having in signatures.items()
                    if series in having.split()
                }
                for name, methods in content["classes"].items()
            },
            "ports": next(
                ports for having, ports in content["ports"].items() if series in having.split()
            ),
        }
        for series, version in content["versions"].items()
    }


def read_release(wanted: str) -> Signatures:
    """What is recorded of a release of Nova.

    :param wanted: a version specifier
    :returns: its ``version``; ``classes``: parameters by method, for each of :data:`CLASSES`
        the methods that it defines itself and that are public; and ``ports``: Nova's lists of
        kinds of ports, and for each of :data:`PLUGGING` what of it has to do with them
    :raises DownloadError: the release cannot be had
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(f"nova{wanted}", pathlib.Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            modules = {
                file: ast.parse(archive.read(file)) for file in {*CLASSES.values(), VNIC_TYPES}
            }
    return {
        "version": wheel.name.split("-")[1],
        "classes": {name: _methods(modules[file], name) for name, file in CLASSES.items()},
        "ports": {
            **_vnic_lists(modules[VNIC_TYPES]),
            **_plugging(modules[CLASSES["LibvirtDriver"]]),
        },
    }


def _vnic_lists(module: ast.Module) -> dict[str, list[str]]:
    """Each list with the texts that its names stand for."""
    constants: dict[str, Any] = {}
    for each in module.body:
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            value = each.value
            if isinstance(value, ast.Constant):
                constants[each.targets[0].id] = value.value
            elif isinstance(value, ast.Tuple):
                names = [one.id for one in value.elts if isinstance(one, ast.Name)]
                constants[each.targets[0].id] = sorted(str(constants[name]) for name in names)
    return {name: constants[name] for name in _VNIC_LISTS}


def _plugging(module: ast.Module) -> dict[str, list[str]]:
    """By method of libvirt's driver, the names in it that tell of plugging."""
    return {
        each.name: sorted(
            {
                one.attr
                for one in ast.walk(each)
                if isinstance(one, ast.Attribute) and _PLUGS.search(one.attr)
            }
        )
        for each in ast.walk(module)
        if isinstance(each, ast.FunctionDef) and each.name in PLUGGING
    }


def _download(requirement: str, folder: pathlib.Path) -> pathlib.Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DownloadError(f"{requirement}: {done.stderr.strip()}")
    (wheel,) = folder.glob("nova-*.whl")
    return wheel


def _methods(module: ast.Module, name: str) -> dict[str, str]:
    (found,) = (
        each for each in module.body if isinstance(each, ast.ClassDef) and each.name == name
    )
    return {
        each.name: _parameters(each.args)
        for each in found.body
        if isinstance(each, ast.FunctionDef)
        and not each.name.startswith("_")
        and each.args.args[:1]
        and each.args.args[0].arg == "self"
    }


def _parameters(arguments: ast.arguments) -> str:
    """As in the source, without annotations."""
    for each in ast.walk(arguments):
        if isinstance(each, ast.arg):
            each.annotation = None
    return ast.unparse(arguments)


if __name__ == "__main__":
    sys.exit(main())
