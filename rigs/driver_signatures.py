# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Read the signatures of Nova's virt drivers from its wheels, and record them for a test.

    python -m rigs.driver_signatures 31 32 33 34

downloads the newest release of each of these series with pip and writes
tests/unit/compute/nova_signatures.json, which tests/unit/compute/test_contract.py compares
with nova_devcompat/compute/contract.py. The wheels are parsed, nothing of them is imported, and no
Nova needs to be installed. Only the standard library is used here.
"""

import argparse
import ast
import json
import pathlib
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


#: What is recorded of a release: its ``version``, and ``classes``.
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
    return {"versions": versions, "classes": classes}


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
        }
        for series, version in content["versions"].items()
    }


def read_release(wanted: str) -> Signatures:
    """What is recorded of a release of Nova.

    :param wanted: a version specifier
    :returns: its ``version``, and ``classes``: parameters by method, for each of :data:`CLASSES`
        the methods that it defines itself and that are public
    :raises DownloadError: the release cannot be had
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(f"nova{wanted}", pathlib.Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            modules = {file: ast.parse(archive.read(file)) for file in set(CLASSES.values())}
    return {
        "version": wheel.name.split("-")[1],
        "classes": {name: _methods(modules[file], name) for name, file in CLASSES.items()},
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
