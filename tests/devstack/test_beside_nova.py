# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The plugin's phase install beside a Nova in editable mode, which is how devstack installs it."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import tarfile
import textwrap
import venv

import pytest

from tests.devstack.conftest import CONTROLLER, ROOT, Host

CONSTRAINTS = ROOT / "constraints" / "2026.2.txt"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, devstack: pathlib.Path | None) -> Host:
    """A host with Nova's source from the package index, in a repository and installed."""
    root = tmp_path_factory.mktemp("host")
    # Where devstack has its own.
    folder = root / "stack" / "data" / "venv"
    venv.create(folder, with_pip=True)
    host = Host(root, (*CONTROLLER, "n-cpu"), devstack=devstack, venv=folder)
    pinned = re.search(r"^nova==(.*)$", CONSTRAINTS.read_text(), re.M)
    assert pinned
    quiet = ("--quiet", "--disable-pip-version-check", "-c", CONSTRAINTS)

    def pip(*arguments: str | pathlib.Path) -> None:
        subprocess.run([host.python, "-m", "pip", *arguments], check=True, cwd=root)

    pip("install", *quiet, "pbr", "setuptools")
    source = ("--no-deps", "--no-binary=nova", "--no-build-isolation")
    pip("download", "--quiet", *source, f"nova=={pinned[1]}")
    with tarfile.open(root / f"nova-{pinned[1]}.tar.gz") as archive:
        archive.extractall(root / "stack", filter="data")
    (root / "stack" / f"nova-{pinned[1]}").rename(host.nova)
    pip("install", *quiet, "--no-build-isolation", "--editable", host.nova)
    for command in (
        ("init", "-q"),
        ("add", "--all"),
        (
            "-c",
            "user.name=nobody",
            "-c",
            "user.email=nobody@example.org",
            "commit",
            "-qm",
            "first",
        ),
    ):
        subprocess.run(["git", "-C", host.nova, *command], check=True)
    host.create_nova_conf()
    host.phase("stack", "install")
    host.phase("stack", "post-config")
    host.start_nova_compute()
    return host


def ask(host: Host, script: str, *arguments: object) -> object:
    """What the last line that a script prints says, as JSON; it runs beside Nova."""
    done = subprocess.run(
        [host.python, "-I", "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_nova_compute_loads_the_driver(host):
    assert ask(
        host,
        """
        import json, sys
        import nova.monkey_patch
        nova.monkey_patch.patch(backend="threading")
        import nova.conf
        from nova import config, objects
        from nova.virt import driver
        config.parse_args(["nova-compute", "--config-file", sys.argv[1]])
        objects.register_all()
        loaded = driver.load_compute_driver(None)
        print(json.dumps([type(loaded).__name__, nova.conf.CONF.devcompat.virt_driver]))
        """,
        host.nova_cpu_conf,
    ) == ["DeviceCompatDriver", "fake.FakeDriverWithoutFakeNodes"]


def test_nova_scheduler_loads_filter_and_weigher(host):
    assert ask(
        host,
        """
        import json, sys
        import nova.monkey_patch
        nova.monkey_patch.patch(backend="threading")
        import nova.conf
        from nova import config, objects
        from nova.scheduler import filters, weights
        config.parse_args(["nova-scheduler", "--config-file", sys.argv[1]])
        objects.register_all()
        scheduler = nova.conf.CONF.filter_scheduler
        known = {cls.__name__: cls.__module__ for cls in
                 filters.HostFilterHandler().get_matching_classes(scheduler.available_filters)}
        weighers = weights.HostWeightHandler().get_matching_classes(scheduler.weight_classes)
        print(json.dumps([
            set(scheduler.enabled_filters) <= known.keys(),
            "DeviceCompatFilter" in scheduler.enabled_filters,
            "DeviceCompatWeigher" in {cls.__name__ for cls in weighers},
        ]))
        """,
        host.nova_conf,
    ) == [True, True, True]


def test_package_is_the_tree(host):
    assert ask(
        host,
        """
        import json, nova, nova_devcompat
        print(json.dumps([nova_devcompat.__file__, nova.__file__]))
        """,
    ) == [str(ROOT / "nova_devcompat" / "__init__.py"), str(host.nova / "nova" / "__init__.py")]


def test_a_second_stack(host):
    host.phase("stack", "install")

    # Nova's repository ignores compiled files; its source on the index has no .gitignore.
    status = ("status", "--porcelain", "--untracked-files=all", "--", "nova/virt/devcompat")
    done = subprocess.run(["git", "-C", host.nova, *status], check=True, capture_output=True)
    assert (host.nova / "nova" / "virt" / "devcompat").is_symlink()
    assert done.stdout == b""


def test_nova_works_after_clean(host):
    # The last one, since it takes away what the others look at.
    host.phase("clean")

    assert ask(host, "import json, nova.virt.driver; print(json.dumps(True))")
    assert not (host.nova / "nova" / "virt" / "devcompat").exists()
