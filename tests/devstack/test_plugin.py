# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the plugin does to a host's configuration, in the phases of devstack."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
from oslo_config import cfg

import nova_devcompat.conf
from nova_devcompat.sources.static import load_inventory
from tests.devstack.conftest import CONTROLLER, FILTERS, ROOT, Host

DRIVER = "devcompat.DeviceCompatDriver"
NOVA_FILTERS = "nova.scheduler.filters.all_filters"
OUR_FILTERS = "nova_devcompat.scheduler.filters.all_filters"
NOVA_WEIGHERS = "nova.scheduler.weights.all_weighers"
OUR_WEIGHERS = "nova_devcompat.scheduler.weights.all_weighers"
ALL_IN_ONE = (*CONTROLLER, "n-cpu")


def read(path: pathlib.Path) -> cfg.ConfigOpts:
    """nova.conf as a service reads it: our options, and those of Nova that the plugin changes."""
    conf = cfg.ConfigOpts()
    nova_devcompat.conf.register_opts(conf)
    conf.register_opt(cfg.StrOpt("compute_driver"))
    # Nova's types and defaults.
    conf.register_opts(
        [
            cfg.MultiStrOpt("available_filters", default=[NOVA_FILTERS]),
            cfg.ListOpt("enabled_filters"),
            cfg.ListOpt("weight_classes", default=[NOVA_WEIGHERS]),
        ],
        group="filter_scheduler",
    )
    conf(args=[], default_config_files=[str(path)])
    return conf


def options(path: pathlib.Path) -> dict[str, dict[str, list[str]]]:
    """All that a file sets."""
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(str(path), sections).parse()
    return sections


def contents(host: Host) -> dict[str, bytes]:
    """All files in /etc/nova."""
    return {path.name: path.read_bytes() for path in host.nova_conf.parent.iterdir()}


def test_all_in_one(make_host):
    host = make_host(*ALL_IN_ONE)

    host.phase("stack", "post-config")

    conf = read(host.nova_conf)
    assert conf.compute_driver == DRIVER
    assert conf.devcompat.virt_driver == "fake.FakeDriverWithoutFakeNodes"
    assert conf.filter_scheduler.enabled_filters == [*FILTERS.split(","), "DeviceCompatFilter"]
    assert conf.filter_scheduler.available_filters == [NOVA_FILTERS, OUR_FILTERS]
    assert conf.filter_scheduler.weight_classes == [NOVA_WEIGHERS, OUR_WEIGHERS]
    assert (conf.devcompat.mode, conf.devcompat.on_unknown) == ("enforce", "reject")
    assert conf.devcompat.packs == []
    assert conf.devcompat.catalog == [str(host.catalog)]
    assert conf.devcompat.inventory == str(host.inventory)


def test_nova_cpu_conf_is_made_of_it(make_host):
    host = make_host(*ALL_IN_ONE)

    host.phase("stack", "post-config")
    host.start_nova_compute()

    conf = read(host.nova_cpu_conf)
    assert conf.compute_driver == DRIVER
    assert conf.devcompat.virt_driver == "fake.FakeDriverWithoutFakeNodes"


def test_twice_is_once(make_host):
    host = make_host(*ALL_IN_ONE)
    host.phase("stack", "post-config")
    once = contents(host)

    host.phase("stack", "post-config")

    assert contents(host) == once
    assert read(host.nova_conf).devcompat.virt_driver == "fake.FakeDriverWithoutFakeNodes"


def test_lists_are_appended_to(make_host):
    host = make_host(*ALL_IN_ONE)
    host.bash(
        "iniset $NOVA_CONF filter_scheduler enabled_filters 'ComputeFilter, OtherFilter'\n"
        "iniset_multiline $NOVA_CONF filter_scheduler available_filters"
        " nova.scheduler.filters.all_filters other.Filter\n"
        "iniset $NOVA_CONF filter_scheduler weight_classes other.Weigher\n"
    )

    host.phase("stack", "post-config")
    host.phase("stack", "post-config")

    scheduler = read(host.nova_conf).filter_scheduler
    assert scheduler.enabled_filters == ["ComputeFilter", "OtherFilter", "DeviceCompatFilter"]
    assert scheduler.available_filters == [NOVA_FILTERS, "other.Filter", OUR_FILTERS]
    assert scheduler.weight_classes == ["other.Weigher", OUR_WEIGHERS]


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        (
            "AFilter,PciPassthroughFilter,NUMATopologyFilter",
            "AFilter,{},PciPassthroughFilter,NUMATopologyFilter",
        ),
        ("AFilter, NUMATopologyFilter, BFilter", "AFilter,{},NUMATopologyFilter,BFilter"),
        ("PciPassthroughFilter", "{},PciPassthroughFilter"),
        ("MyPciPassthroughFilter,BFilter", "MyPciPassthroughFilter,BFilter,{}"),
        # Somebody chose its place: it is left there, and the upgrade check tells.
        ("PciPassthroughFilter,{},BFilter", "PciPassthroughFilter,{},BFilter"),
    ],
)
def test_the_filter_comes_before_those_that_it_spares_work(make_host, stated, wanted):
    host = make_host(*ALL_IN_ONE)
    ours = "DeviceCompatFilter"
    host.bash(f"iniset $NOVA_CONF filter_scheduler enabled_filters '{stated.format(ours)}'")

    host.phase("stack", "post-config")
    host.phase("stack", "post-config")

    assert read(host.nova_conf).filter_scheduler.enabled_filters == wanted.format(ours).split(",")


def test_a_part_of_a_name_is_not_the_name(make_host):
    host = make_host(*ALL_IN_ONE)
    host.bash("iniset $NOVA_CONF filter_scheduler enabled_filters MyDeviceCompatFilter")

    host.phase("stack", "post-config")

    enabled = read(host.nova_conf).filter_scheduler.enabled_filters
    assert enabled == ["MyDeviceCompatFilter", "DeviceCompatFilter"]


def test_subnode_without_scheduler(make_host):
    host = make_host("n-cpu")
    before = options(host.nova_conf)

    host.phase("stack", "post-config")

    after = options(host.nova_conf)
    assert after["filter_scheduler"] == before["filter_scheduler"]
    assert after["DEFAULT"]["compute_driver"] == [DRIVER]
    assert after["devcompat"]["mode"] == ["enforce"]


def test_controller_without_compute(make_host):
    host = make_host(*CONTROLLER)

    host.phase("stack", "post-config")

    after = options(host.nova_conf)
    assert "compute_driver" not in after["DEFAULT"]
    assert "virt_driver" not in after["devcompat"]
    assert read(host.nova_conf).filter_scheduler.enabled_filters[-1] == "DeviceCompatFilter"
    assert host.catalog.exists()
    assert not host.inventory.exists()


@pytest.mark.parametrize(
    ("services", "settings"),
    [
        pytest.param(("keystone", "g-api"), {}, id="no Nova"),
        pytest.param(ALL_IN_ONE, {"DISABLED_SERVICES": "devcompat"}, id="disabled"),
    ],
)
def test_hosts_that_do_without(make_host, services, settings):
    host = make_host(*services)
    before = contents(host)

    host.phase("stack", "install", **settings)
    host.phase("stack", "post-config", **settings)

    assert contents(host) == before


def test_libvirt_hosts_use_packs(make_host):
    host = make_host(*ALL_IN_ONE, virt_driver="libvirt")

    host.phase("stack", "post-config")

    conf = read(host.nova_conf)
    assert conf.devcompat.virt_driver == "libvirt.LibvirtDriver"
    assert conf.devcompat.packs == ["qemu_machine", "qemu", "libvirt"]


def test_settings(make_host):
    host = make_host(*ALL_IN_ONE, virt_driver="libvirt")
    host.phase("stack", "post-config")
    catalog = host.catalog.with_name("mine.yaml")
    catalog.write_text(host.catalog.read_text())

    host.phase(
        "stack",
        "post-config",
        DEVCOMPAT_MODE="report",
        DEVCOMPAT_ON_UNKNOWN="accept",
        DEVCOMPAT_PACKS="",
        DEVCOMPAT_CATALOG=str(catalog),
        DEVCOMPAT_VIRT_DRIVER="fake.SmallFakeDriver",
    )

    devcompat = read(host.nova_conf).devcompat
    assert (devcompat.mode, devcompat.on_unknown, devcompat.packs) == ("report", "accept", [])
    assert devcompat.catalog == [str(catalog)]
    assert devcompat.virt_driver == "fake.SmallFakeDriver"


def test_no_driver_to_wrap(make_host):
    host = make_host(*ALL_IN_ONE)
    host.bash("inidelete $NOVA_CONF DEFAULT compute_driver")

    done = host.attempt("stack", "post-config")

    assert done.returncode
    assert "Set DEVCOMPAT_VIRT_DRIVER." in done.stdout + done.stderr


def test_our_own_driver_is_not_wrapped(make_host):
    host = make_host(*ALL_IN_ONE)

    done = host.attempt("stack", "post-config", DEVCOMPAT_VIRT_DRIVER=DRIVER)

    assert done.returncode
    assert f"name none but '{DRIVER}'" in done.stdout + done.stderr


class TestSamples:
    def test_fake_computes_make_a_mixed_fleet(self, make_host):
        host = make_host(*ALL_IN_ONE)

        host.phase("stack", "post-config")

        fleet = load_inventory(host.inventory).hosts
        versions = {
            name: [str(device.attributes["fw_version"]) for device in devices]
            for name, devices in fleet.items()
        }
        assert versions == {"node1": ["28.39.1000"], "node2": ["28.41.1000"]}

    def test_of_a_real_host_nothing_is_made_up(self, make_host):
        host = make_host(*ALL_IN_ONE, virt_driver="libvirt")

        host.phase("stack", "post-config")

        fleet = load_inventory(host.inventory).hosts
        assert os.uname().nodename in fleet
        assert not any(fleet.values())

    def test_what_is_there_stays(self, make_host):
        host = make_host(*ALL_IN_ONE)
        catalog = (ROOT / "etc/nova-devcompat/devcompat.yaml").read_text() + "# mine\n"
        host.catalog.write_text(catalog)
        host.inventory.write_text("mine")

        host.phase("stack", "post-config")
        host.phase("clean")

        assert host.catalog.read_text() == catalog
        assert host.inventory.read_text() == "mine"

    def test_a_wrong_catalog_stops_stack(self, make_host):
        host = make_host(*ALL_IN_ONE)
        host.catalog.write_text("families: {}\n")

        done = host.attempt("stack", "post-config")

        assert done.returncode
        assert f"The catalog {host.catalog} cannot be used" in done.stdout + done.stderr


class TestVerify:
    """That which local.conf replaces after the plugin's phase is found."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(
                "iniset $NOVA_CPU_CONF DEFAULT compute_driver libvirt.LibvirtDriver",
                "is 'libvirt.LibvirtDriver', not devcompat.DeviceCompatDriver.",
                id="driver",
            ),
            pytest.param(
                "iniset $NOVA_CONF filter_scheduler enabled_filters ComputeFilter",
                "enabled_filters in {conf} is 'ComputeFilter', without DeviceCompatFilter.",
                id="enabled",
            ),
            pytest.param(
                "inidelete $NOVA_CONF filter_scheduler available_filters",
                "available_filters in {conf} is '', without",
                id="available",
            ),
        ],
    )
    def test_what_local_conf_replaced(self, make_host, change, message):
        host = make_host(*ALL_IN_ONE)
        host.phase("stack", "post-config")
        host.start_nova_compute()
        host.bash(change)

        done = host.attempt("stack", "test-config")

        assert done.returncode
        assert message.format(conf=host.nova_conf) in done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("local_conf", "message"),
        [
            pytest.param(
                "[[post-config|$NOVA_CONF]]\n[filter_scheduler]\nenabled_filters = AFilter\n",
                "is 'AFilter', without DeviceCompatFilter.",
                id="enabled",
            ),
            pytest.param(
                "[[post-config|$NOVA_CPU_CONF]]\n[DEFAULT]\ncompute_driver = fake.FakeDriver\n",
                "is 'fake.FakeDriver', not devcompat.DeviceCompatDriver.",
                id="driver",
            ),
        ],
    )
    def test_local_conf(self, make_host, devstack, local_conf, message):
        if devstack is None:
            pytest.skip("nothing stands in for devstack's merge of local.conf")
        if not shutil.which("gawk"):
            pytest.skip("devstack merges local.conf with gawk, which is not installed")
        host = make_host(*ALL_IN_ONE)
        host.local_conf.write_text(local_conf)
        host.phase("stack", "post-config")
        host.bash("merge_config_group $TOP_DIR/local.conf post-config")
        host.start_nova_compute()

        done = host.attempt("stack", "test-config")

        assert done.returncode
        assert message in done.stdout + done.stderr

    def test_switched_off(self, make_host):
        host = make_host(*ALL_IN_ONE)

        host.phase("stack", "test-config", DEVCOMPAT_VERIFY="False")

    @pytest.mark.parametrize(
        ("status", "passes"), [(0, True), (1, True), (2, False), (255, False)]
    )
    def test_upgrade_check(self, make_host, tmp_path, status, passes):
        host = make_host(*ALL_IN_ONE)
        host.phase("stack", "post-config")
        host.start_nova_compute()
        # The command itself needs a cloud.
        command = tmp_path / "venv" / "bin" / "nova-devcompat"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\necho "asked: $*"\nexit {status}\n')
        command.chmod(0o755)

        done = host.attempt("stack", "test-config", DEVSTACK_VENV=str(tmp_path / "venv"))

        assert f"asked: upgrade check --config-file {host.nova_conf}\n" in done.stdout
        assert (done.returncode == 0) is passes
        assert (f"ended with {status}, see its" in done.stdout + done.stderr) is not passes

    def test_a_subnode_asks_no_database(self, make_host):
        host = make_host("n-cpu")
        host.phase("stack", "post-config")
        host.start_nova_compute()

        assert "upgrade check" not in host.phase("stack", "test-config")


class TestClean:
    @pytest.mark.parametrize("services", [ALL_IN_ONE, CONTROLLER, ("n-cpu",)])
    @pytest.mark.parametrize("virt_driver", ["fake", "libvirt"])
    def test_restores_what_was(self, make_host, services, virt_driver):
        host = make_host(*services, virt_driver=virt_driver)
        before = contents(host)
        host.phase("stack", "post-config")
        assert contents(host).keys() > before.keys()

        host.phase("unstack")
        host.phase("clean")

        assert contents(host) == before

    def test_restores_the_lists_of_others(self, make_host):
        host = make_host(*ALL_IN_ONE)
        host.bash(
            "iniset $NOVA_CONF filter_scheduler enabled_filters 'ComputeFilter, OtherFilter'\n"
            "iniset_multiline $NOVA_CONF filter_scheduler available_filters"
            " nova.scheduler.filters.all_filters other.Filter\n"
            "iniset $NOVA_CONF filter_scheduler weight_classes other.Weigher\n"
        )
        before = options(host.nova_conf)
        host.phase("stack", "post-config")

        host.phase("clean")

        assert options(host.nova_conf) == before

    def test_leaves_what_others_did_meanwhile(self, make_host):
        host = make_host(*ALL_IN_ONE)
        host.phase("stack", "post-config")
        host.bash(
            "iniadd $NOVA_CONF filter_scheduler available_filters later.Filter\n"
            "iniset $NOVA_CONF later option value\n"
        )

        host.phase("clean")

        after = options(host.nova_conf)
        assert after["filter_scheduler"]["available_filters"] == [NOVA_FILTERS, "later.Filter"]
        assert after["later"] == {"option": ["value"]}

    def test_restores_nova_cpu_conf(self, make_host):
        host = make_host(*ALL_IN_ONE)
        host.phase("stack", "post-config")
        host.start_nova_compute()

        host.phase("clean")

        conf = read(host.nova_cpu_conf)
        assert conf.compute_driver == "fake.FakeDriverWithoutFakeNodes"
        assert conf.filter_scheduler.enabled_filters == FILTERS.split(",")

    def test_works_where_nothing_was_configured(self, make_host):
        host = make_host(*ALL_IN_ONE)
        before = host.nova_conf.read_bytes()

        host.phase("clean")
        host.phase("clean", DISABLED_SERVICES="devcompat")

        assert host.nova_conf.read_bytes() == before


class TestShim:
    """The shim in Nova's tree; that Nova can import it, test_beside_nova.py says."""

    LINK = pathlib.Path("nova", "virt", "devcompat")

    def functions(self, host, *names):
        library = ROOT / "devstack"
        calls = "\n".join(names)
        return host.bash(
            f"source {library}/settings\nset -o errexit\nsource {library}/lib/devcompat\n{calls}"
        )

    def untracked(self, host):
        command = ["git", "-C", host.nova, "status", "--porcelain", "--untracked-files=all"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def test_nova_tree_stays_clean(self, make_host):
        host = make_host(*ALL_IN_ONE)

        self.functions(host, "_devcompat_link_shim", "_devcompat_link_shim")

        link = host.nova / self.LINK
        assert link.resolve() == ROOT / "shim" / "nova_virt_devcompat"
        assert self.untracked(host) == ""
        exclude = (host.nova / ".git" / "info" / "exclude").read_text()
        assert exclude.count(f"/{self.LINK}\n") == 1

    def test_clean_removes_it(self, make_host):
        host = make_host(*ALL_IN_ONE)
        exclude = (host.nova / ".git" / "info" / "exclude").read_text()
        self.functions(host, "_devcompat_link_shim")

        host.phase("clean")

        assert not (host.nova / self.LINK).is_symlink()
        assert (host.nova / ".git" / "info" / "exclude").read_text() == exclude

    def test_in_a_worktree_of_nova(self, make_host, tmp_path):
        host = make_host(*ALL_IN_ONE)
        main = tmp_path / "main"
        host.nova.rename(main)
        identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
        for command in (
            (*identity, "commit", "-q", "--allow-empty", "-m", "first"),
            ("worktree", "add", "-q", host.nova),
        ):
            subprocess.run(["git", "-C", main, *command], check=True)
        (host.nova / self.LINK.parent).mkdir(parents=True)

        self.functions(host, "_devcompat_link_shim")

        assert self.untracked(host) == ""

    def test_without_git(self, make_host, tmp_path):
        host = make_host(*ALL_IN_ONE)
        (host.nova / ".git").rename(tmp_path / "elsewhere")

        self.functions(host, "_devcompat_link_shim")

        assert (host.nova / self.LINK).is_symlink()

    def test_a_folder_in_the_way(self, make_host):
        host = make_host(*ALL_IN_ONE)
        (host.nova / self.LINK).mkdir()

        done = host.bash(
            f"source {ROOT}/devstack/settings\nsource {ROOT}/devstack/lib/devcompat\n"
            "(_devcompat_link_shim) 2>&1 || true"
        )

        assert f"{host.nova / self.LINK} is in the way" in done
