# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is in the wheel, and what it asks for."""

import ast
import configparser
import email
import importlib.metadata
import re
import sys
import zipfile

from tests.packaging.conftest import ROOT

SHIM = "nova/virt/devcompat/__init__.py"


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(requirement):
    return canonical(re.match(r"[\w.-]+", requirement)[0])


def required():
    """The distributions that requirements.txt names."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {
        canonical(re.match(r"[\w.-]+", line)[0]) for line in lines if line[:1] not in ("#", "")
    }


def modules_of(path):
    """The top-level modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def need_nova():
    """Our files that cannot be imported without Nova, since they import it or one another."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "nova_devcompat").rglob("*.py")
    }
    imports = {}
    for name, path in files.items():
        found = imports[name] = set()
        # What stands within a function is imported when it is called.
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    need = {"nova"}
    while more := {
        name
        for name, found in imports.items()
        if name not in need
        and any(one in need or one.partition(".")[0] == "nova" for one in found)
    }:
        need |= more
    return {files[name] for name in need - {"nova"}}


def extras():
    """The distributions that our extras bring."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = "\n".join(setup["options.extras_require"].values()).split()
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def imported(*, beside_nova):
    """The distributions that our modules import.

    :param beside_nova: with those of modules that import Nova, which brings what they use
    """
    modules = set()
    beside = need_nova()
    for path in (ROOT / "nova_devcompat").rglob("*.py"):
        found = modules_of(path)
        if beside_nova or (path not in beside and "nova" not in found):
            modules |= found
    modules -= {"nova", "nova_devcompat", *sys.stdlib_module_names}
    distributions = importlib.metadata.packages_distributions()
    return {canonical(name) for module in modules for name in distributions.get(module, [module])}


def test_carries_every_file_of_the_package_and_no_other(wheel_names):
    """Neither rigs nor tests, which are for the tree; the samples for <prefix>/etc."""
    samples = {
        f"etc/nova-devcompat/{path.name}"
        for path in (ROOT / "etc" / "nova-devcompat").iterdir()
        if path.name != "config-generator.conf"
    }
    tree = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "nova_devcompat").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    data = {name.partition(".data/data/")[2] for name in wheel_names} - {""}
    assert data == samples
    assert {name for name in wheel_names if ".data/" not in name} == tree | {SHIM}


def test_leaves_novas_own_packages_alone(wheel_names):
    ours = {name for name in wheel_names if name.startswith("nova/")}
    assert ours == {SHIM}


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for path in (ROOT / "nova_devcompat").rglob("*.py")}
    assert [f.name for f in folders if not (f / "__init__.py").exists()] == []


def test_requires_what_it_imports_without_nova():
    assert imported(beside_nova=False) - required() - extras() == set()


def test_imports_what_it_requires():
    assert required() - imported(beside_nova=True) == set()


def test_does_not_require_nova(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        assert name.replace("METADATA", "licenses/LICENSE") in archive.namelist()
    lines = metadata.get_all("Requires-Dist")
    assert {distribution(line) for line in lines if "extra ==" not in line} == required()
    assert metadata["Requires-Python"] == ">=3.11"


def test_extras_bring_what_sources_and_the_drain_check_need(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    brought = {}
    for line in metadata.get_all("Requires-Dist"):
        if match := re.search("extra == .([a-z]+)", line):
            brought.setdefault(match[1], set()).add(distribution(line))
    assert brought == {
        "libvirt": {"libvirt-python", "lxml"},
        "nvml": {"nvidia-ml-py"},
        "solver": {"highspy"},
    }
    assert set(metadata.get_all("Provides-Extra")) == brought.keys()
