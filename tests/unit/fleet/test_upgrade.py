# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The upgrade check on a cloud that is made up; with a real one in tests/functional."""

from __future__ import annotations

import dataclasses
import datetime
import types

import pytest
from oslo_upgradecheck.upgradecheck import Code

from nova_devcompat import wire
from nova_devcompat.catalog import Catalog, CatalogError, CatalogFamily, packs
from nova_devcompat.catalog.stages import Moment, Stage
from nova_devcompat.cli.main import main
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Semver
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policy
from nova_devcompat.compat.record import Incarnation
from nova_devcompat.compat.ruling import NO_RECORD, Doubt
from nova_devcompat.compat.verdict import Actor, Reason
from nova_devcompat.compat.verdict import Code as ReasonCode
from nova_devcompat.fleet import upgrade
from nova_devcompat.fleet.cloud import host_of
from nova_devcompat.fleet.model import Fleet, Place, RunningGuest
from nova_devcompat.kit.problems import Problem
from nova_devcompat.stores import records

FAMILY = Family(name="gpu", rules={"version": Semver()})
NOW = Moment(day=datetime.date(2027, 1, 1), release=34)
FILTERS = types.SimpleNamespace(
    enabled_filters=["ComputeFilter", "DeviceCompatFilter"],
    available_filters=[
        "nova.scheduler.filters.all_filters",
        "nova_devcompat.scheduler.filters.all_filters",
    ],
    weight_classes=["nova_devcompat.scheduler.weights.all_weighers"],
)


def catalog(*stages: Stage, digest: str = "d") -> Catalog:
    family = CatalogFamily(family=FAMILY, match={"x": "y"}, source="static", stages=stages)
    return Catalog(families={"gpu": family}, digest=digest)


def enforced_from(since) -> Stage:
    return Stage(since=since, mode=Mode.ENFORCE)


def need(*versions: str) -> Need:
    return Need(
        devices=tuple(
            DeviceNeed.of("gpu", {"version": [one]}, slot="pci:1", address=f"0000:81:00.{index}")
            for index, one in enumerate(versions)
        )
    )


class Cloud:
    """What the databases tell of it.

    :param hosts: the versions that each host's devices have; a text is what it published
    :param guests: by host, what is recorded of a guest there
    :param policies: by host, what it applies; None where it does not say
    :param down: by host, since when it is down
    """

    def __init__(self, hosts, guests=(), digests=(), policies=None, down=()):
        self.hosts, self.guests, self.digests = hosts, guests, dict(digests)
        self.policies, self.down = {} if policies is None else policies, dict(down)
        self.reader = wire.StatsReader()
        self.asked = 0
        #: By host, the format that it reads, and that which it writes.
        self.reads, self.versions = {}, {}
        #: Which guests have no devices.
        self.plain = frozenset()

    def fleet(self):
        self.asked += 1
        return Fleet(hosts=list(self._hosts()), guests=list(self._running()))

    def _hosts(self):
        known = need("1.0", "1.1", "1.2", "2.0").atoms
        for name, versions in self.hosts.items():
            text = versions
            if not isinstance(versions, str):
                devices = tuple(
                    wire.PublishedDevice(
                        address=f"0000:8{index}:00.0",
                        accepts=FAMILY.offer({"version": one}).accept_set(known),
                    )
                    for index, one in enumerate(versions)
                )
                digest = self.digests.get(name, "d")
                text = wire.dump_stats(
                    wire.HostDocument(
                        catalog=digest,
                        devices=devices,
                        policies=self.policies.get(name, {"": "enforce reject"}),
                        reads=self.reads.get(name, 2),
                    ),
                    self.versions.get(name, 1),
                )
            node = types.SimpleNamespace(
                id=1,
                host=name,
                hypervisor_hostname=f"{name}.example.org",
                stats={wire.STATS_KEY: text} if text else {},
            )
            yield host_of(node, self.reader, self.down.get(name, ""))

    def _running(self):
        for index, (host, record) in enumerate(self.guests):
            place = Place(host, f"{host}.example.org")
            plain = index in self.plain
            yield RunningGuest(uuid=f"vm{index}", place=place, record=record, assigned=not plain)


def checks(cloud, found=None, *, default=None, days=90, conf=FILTERS):
    def load():
        if isinstance(found, Exception):
            raise found
        return found or catalog()

    return upgrade.UpgradeChecks(
        types.SimpleNamespace(filter_scheduler=conf, config_file=["nova.conf"]),
        cloud,
        load,
        default or Policy(),
        NOW,
        days,
    )


def told(result):
    return result.code, result.details


def test_all_is_well(capsys):
    cloud = Cloud({"a": ["1.2"], "b": ["1.2"]}, [("a", need("1.2")), ("b", need("1.0"))])
    assert checks(cloud).check() is Code.SUCCESS
    assert cloud.asked == 1
    out = capsys.readouterr().out
    assert out.count("Result: Success") == len(upgrade.UpgradeChecks._upgrade_checks) == 11


def test_shim(monkeypatch):
    assert told(checks(Cloud({})).check_shim()) == (
        Code.SUCCESS,
        "nova.virt.devcompat.DeviceCompatDriver is there.",
    )
    monkeypatch.setattr(upgrade, "SHIM", "nova.virt.devcompat_gone")
    code, text = told(checks(Cloud({})).check_shim())
    assert code is Code.FAILURE
    assert text.startswith(
        "nova.virt.devcompat_gone cannot be imported: ModuleNotFoundError: No module named"
    )


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (31, (Code.SUCCESS, "Nova 31; supported: 31 to 34.")),
        (34, (Code.SUCCESS, "Nova 34; supported: 31 to 34.")),
        (30, (Code.WARNING, "Nova 30 is not supported by this release of nova-devcompat, which ")),
        (35, (Code.WARNING, "Nova 35 is not supported by this release of nova-devcompat, which ")),
        (None, (Code.WARNING, "Nova of no version that can be told is not supported by")),
    ],
)
def test_release(release, expected):
    found = checks(Cloud({}))
    found._moment = dataclasses.replace(NOW, release=release)
    code, text = told(found.check_release())
    assert (code, text[: len(expected[1])]) == expected


@pytest.mark.parametrize(
    ("option", "code", "text"),
    [
        ("enabled_filters", Code.FAILURE, "enabled_filters lacks DeviceCompatFilter, so no host"),
        ("available_filters", Code.FAILURE, "available_filters lacks nova_devcompat.scheduler"),
        ("weight_classes", Code.WARNING, "weight_classes lacks nova_devcompat.scheduler.wei"),
    ],
)
def test_scheduler(option, code, text):
    conf = types.SimpleNamespace(**{**vars(FILTERS), option: ["nova.x"]})
    result = checks(Cloud({}), conf=conf).check_scheduler()
    assert result.code is code
    assert result.details.startswith(f"[filter_scheduler] {text}")
    assert result.details.endswith("(files read: nova.conf).")
    assert checks(Cloud({})).check_scheduler().code is Code.SUCCESS


@pytest.mark.parametrize(
    ("enabled", "after"),
    [
        ("ComputeFilter,DeviceCompatFilter,PciPassthroughFilter,NUMATopologyFilter", ""),
        ("DeviceCompatFilter,PciPassthroughFilter", ""),
        ("PciPassthroughFilter,DeviceCompatFilter,NUMATopologyFilter", "PciPassthroughFilter"),
        ("NUMATopologyFilter,DeviceCompatFilter", "NUMATopologyFilter"),
        (
            "PciPassthroughFilter,NUMATopologyFilter,DeviceCompatFilter",
            "PciPassthroughFilter and NUMATopologyFilter",
        ),
    ],
)
def test_place_of_the_filter(enabled, after):
    conf = types.SimpleNamespace(**{**vars(FILTERS), "enabled_filters": enabled.split(",")})
    result = checks(Cloud({}), conf=conf).check_scheduler()
    if not after:
        assert result.code is Code.SUCCESS
        return
    assert result.code is Code.WARNING
    assert f"enabled_filters has DeviceCompatFilter after {after}, which look" in result.details
    assert "name it before them (files read: nova.conf)." in result.details


def test_no_catalog():
    problems = [Problem(file="c.yaml", line=line, path="", message="bad") for line in range(1, 13)]
    found = checks(Cloud({"a": ["1.0"]}), CatalogError(problems))
    code, text = told(found.check_catalog())
    assert code is Code.FAILURE
    assert text.startswith("c.yaml:1: bad; c.yaml:2: bad;")
    assert text.endswith("c.yaml:10: bad; and 2 more.")
    for check in (
        found.check_hosts_catalog,
        found.check_families,
        found.check_stranded,
        found.check_stages,
    ):
        assert told(check()) == (Code.WARNING, "Not checked, for want of a catalog.")


def test_a_pack_that_is_none():
    with pytest.raises(packs.UnknownPack) as raised:
        packs.catalog_paths(["mlx5"])
    code, text = told(checks(Cloud({}), raised.value).check_catalog())
    assert code is Code.FAILURE
    assert text.startswith("[devcompat] packs: 'mlx5' is no pack; packs: gvtg, ")


def test_catalogs_of_hosts():
    hosts = {name: ["1.0"] for name in "abcd"}
    digests = {"b": "x", "d": "x", "c": "w"}
    found = checks(Cloud({**hosts, "e": ""}, [("d", Need())], digests))
    code, text = told(found.check_hosts_catalog())
    assert code is Code.WARNING
    assert "than d, which is the one here: w: c (0 running guests there); x: b, d (1 run" in text


def test_hosts_that_do_not_publish():
    hosts = {"a": ["1.0"], "b": "", "c": "{", "d": '{"v":3}'}
    guests = [("b", NO_RECORD), ("b", need("1.0"))]
    code, text = told(checks(Cloud(hosts, guests)).check_publishing())
    assert code is Code.WARNING
    assert text.startswith("1 of 4 nodes published nothing: b (2 running guests there). Nothing")
    assert "cannot be read: c (stats document: malformed" in text
    assert "d (stats document: written in format 3 by a newer nova-devcompat" in text


def test_families():
    found = checks(Cloud({"a": ["1.2"], "b": []}), catalog())
    assert told(found.check_families()) == (Code.SUCCESS, "gpu: nothing on b.")
    assert told(checks(Cloud({"a": ["1.2"], "c": "{"})).check_families()) == (Code.SUCCESS, None)
    assert told(checks(Cloud({"a": "", "c": "{"})).check_families()) == (Code.SUCCESS, None)

    host = dataclasses.replace(FAMILY, name="hv", subject=Subject.HOST)
    both = dataclasses.replace(
        catalog(),
        families={
            **catalog().families,
            "hv": CatalogFamily(family=host, match={"x": "h"}, source="static"),
        },
    )
    code, text = told(checks(Cloud({"a": ["1.2"], "b": ["1.2"]}), both).check_families())
    assert code is Code.WARNING
    assert text.startswith("hv: no device or part of any host matches. Is 'match' right, ")


def test_devices_in_doubt():
    """As hosts publish what two families match, or what their primary source does not list."""
    why = "source devlink does not list 0000:81:00.0"
    doubtful = FAMILY.offer({"version": None})
    doubtful = dataclasses.replace(
        doubtful, unknown={"version": (ReasonCode.OFFER_MISSING, why)}
    ).accept_set(())
    devices = (
        wire.PublishedDevice(address="0000:81:00.0", accepts=doubtful),
        wire.PublishedDevice(
            address="0000:82:00.0",
            accepts=doubtful,
            functions=("0000:82:00.1-0000:82:00.4",),
        ),
    )
    text = wire.dump_stats(wire.HostDocument(catalog="d", devices=devices))
    code, details = told(checks(Cloud({"a": text, "b": ["1.2"]})).check_families())
    assert code is Code.WARNING
    assert details == (
        "Not all is known, so that guests are refused: a: 0000:81:00.0 0000:82:00.1-0000:82:00.4 "
        f"of gpu: version: {why}."
    )


def test_records():
    detail = "record: its checksum does not match"
    broken = Doubt(
        reason=Reason(code=ReasonCode.RECORD_UNREADABLE, actor=Actor.OPERATOR, detail=detail)
    )
    guests = [("a", NO_RECORD), ("a", Need()), ("a", need("1.0"))]
    cloud = Cloud({"a": ["1.0"]}, [("a", broken), *guests])
    code, text = told(checks(cloud).check_records())
    assert code is Code.WARNING
    assert text.startswith("1 record cannot be read: vm0 (record: its checksum does not match).")
    assert told(checks(Cloud({"a": ["1.0"]}, guests[1:])).check_records()) == (
        Code.SUCCESS,
        "2 running guests with a record.",
    )
    code, text = told(checks(Cloud({"a": ["1.0"]}, guests)).check_records())
    assert code is Code.WARNING and "need backfill" in text
    assert text.startswith("1 running guest without a record: vm0.")
    stale = records.stale(Incarnation(node="b", time="2026-11-27T00:00:00Z"))
    code, text = told(checks(Cloud({"a": ["1.0"]}, [("a", stale)])).check_records())
    assert code is Code.WARNING
    assert text.startswith("1 record of an earlier start of the guest: vm0 (it was recorded on b")


@pytest.mark.parametrize(
    ("hosts", "guests", "policy", "stranded"),
    [
        ({"a": ["1.2"], "b": ["1.2"]}, [("a", need("1.2"))], Policy(), []),
        ({"a": ["1.2"], "b": ["1.0"]}, [("a", need("1.2"))], Policy(), ["vm0"]),
        # The own host does not count, and the guest's record is right whatever that is now.
        ({"a": ["1.2"], "b": ["1.0"]}, [("b", need("1.2"))], Policy(), []),
        ({"a": ["1.2"]}, [("a", need("1.2"))], Policy(), ["vm0"]),
        ({"a": ["1.2"], "b": []}, [("a", need("1.2"))], Policy(), ["vm0"]),
        ({"a": ["1.2"], "b": ""}, [("a", need("1.2"))], Policy(), ["vm0"]),
        (
            {"a": ["1.2"], "b": ""},
            [("a", need("1.2"))],
            Policy(on_unknown=OnUnknown.ACCEPT),
            [],
        ),
        # Whatever the mode is.
        ({"a": ["1.2"], "b": ["1.0"]}, [("a", need("1.2"))], Policy(mode=Mode.REPORT), ["vm0"]),
        # All that it needs must be found on one host.
        (
            {"a": ["1.2", "2.0"], "b": ["1.2"], "c": ["2.0"]},
            [("a", need("1.2", "2.0")), ("a", need("2.0"))],
            Policy(),
            ["vm0"],
        ),
    ],
)
def test_stranded(hosts, guests, policy, stranded):
    result = checks(Cloud(hosts, guests), default=policy).check_stranded()
    assert (result.code is Code.WARNING) is bool(stranded)
    assert [word for word in (result.details or "").split() if word.startswith("vm")] == stranded


def test_why_a_guest_is_stranded():
    cloud = Cloud({"a": ["1.2"], "b": ["1.0"], "c": ["1.0"], "d": []}, [("a", need("1.2"))])
    _, text = told(checks(cloud).check_stranded())
    assert "vm0 on a: b is nearest: gpu.version: needs 1.2, offered 1.0, too old" in text
    assert text.endswith("upgrade b]")
    _, text = told(checks(Cloud({"a": ["1.2"]}, [("a", need("1.2"))])).check_stranded())
    assert text.endswith("vm0 on a: there is no other host")


def test_what_enforce_would_do():
    """Told apart from what is enforced, and never silent."""
    cloud = Cloud({"a": ["1.2"], "b": ["1.0"]}, [("a", need("1.2")), ("b", need("1.0"))])
    code, text = told(checks(cloud, default=Policy(mode=Mode.REPORT)).check_stranded())
    assert code is Code.WARNING
    assert text.startswith("1 guest more that 'enforce' would strand, by families that are not ")
    _, text = told(checks(cloud).check_stranded())
    assert "would strand" not in text
    # Before the first of its stages, too.
    code, text = told(checks(cloud, catalog(enforced_from(35))).check_stranded())
    assert (code, "'enforce' would strand" in text) == (Code.WARNING, True)
    at_ease = Cloud({"a": ["1.2"], "b": ["1.2"]}, [("a", need("1.2")), ("a", NO_RECORD)])
    at_ease.plain = {1}
    code, text = told(checks(at_ease).check_stranded())
    assert (code, text) == (
        Code.SUCCESS,
        "1 of 2 running guests looked at as if all were enforced; 1 need nothing that is judged.",
    )


def test_hosts_that_are_down():
    down = {"b": "2026-12-31 23:00:00"}
    cloud = Cloud({"a": ["1.2"], "b": ["1.2"]}, [("b", need("1.2"))], down=down)
    code, text = told(checks(cloud).check_publishing())
    assert code is Code.WARNING
    assert text.startswith("Nova-compute of 1 node is down, so that nothing new is published and")
    assert "b (1 running guest there) (b since 2026-12-31 23:00:00)." in text
    code, text = told(checks(Cloud({})).check_publishing())
    assert (code, text) == (
        Code.WARNING,
        "There is no compute node, so nothing was looked at.",
    )


def test_policies_of_hosts():
    hosts = {name: ["1.0"] for name in "abc"}
    report = {"a": {"": "report reject"}}
    assert told(checks(Cloud(hosts)).check_hosts_policies()) == (
        Code.SUCCESS,
        "3 nodes with the policies that are here.",
    )
    code, text = told(checks(Cloud(hosts, policies=report)).check_hosts_policies())
    assert code is Code.WARNING
    assert "a (0 running guests there): what no family states report reject, here enforce" in text
    of_family = {"b": {"": "enforce reject", "gpu": "report reject"}, "c": None}
    code, text = told(checks(Cloud(hosts, policies=of_family)).check_hosts_policies())
    assert "b (0 running guests there): gpu report reject, here enforce reject. What" in text
    assert "c (0 running guests there) do not say which policies they apply: upgrade" in text
    # What is looked at is what holds now, whatever day is looked ahead to.
    staged = catalog(enforced_from(datetime.date(2027, 2, 1)))
    announced = {key: {"": "enforce reject", "gpu": "announce reject"} for key in hosts}
    found = checks(Cloud(hosts, policies=announced), staged)
    assert found.check_hosts_policies().code is Code.SUCCESS
    found._moment = dataclasses.replace(NOW, day=datetime.date(2027, 3, 1))
    assert found.check_hosts_policies().code is Code.SUCCESS


def test_formats_that_hosts_read():
    cloud = Cloud({"a": ["1.0"], "b": ["1.0"], "c": ["1.0"]})
    assert told(checks(cloud).check_publishing()) == (
        Code.SUCCESS,
        "3 nodes published; all read stats in format 2.",
    )
    cloud.reads = {"b": 1}
    code, text = told(checks(cloud).check_publishing())
    assert code is Code.SUCCESS
    assert text.startswith("3 nodes published. b (0 running guests there) do not read stats in fo")
    assert text.endswith(
        "leave [devcompat] stats_format at 1 until nova-devcompat is upgraded there."
    )
    cloud.versions = {"a": 2}
    code, text = told(checks(cloud).check_publishing())
    assert code is Code.WARNING
    assert "a (0 running guests there) write stats in format 2, which b (0 running" in text
    assert "set [devcompat] stats_format = 1 until" in text


def test_stages():
    cloud = Cloud({"a": ["1.2"], "b": ["1.0"]}, [("a", need("1.2")), ("a", need("1.0"))])
    day = datetime.date(2027, 2, 1)
    report = dataclasses.replace(enforced_from(day), mode=Mode.REPORT)
    assert told(checks(cloud, catalog(report)).check_stages()) == (
        Code.SUCCESS,
        "gpu: announce becomes report on 2027-02-01, in 31 days: it reports on 1 guest: vm0 on a.",
    )
    assert told(checks(cloud, catalog(enforced_from(day))).check_stages()) == (
        Code.WARNING,
        "gpu: announce becomes enforce on 2027-02-01, in 31 days: it strands 1 guest: vm0 on a.",
    )
    assert told(checks(cloud, catalog(enforced_from(35))).check_stages()) == (
        Code.WARNING,
        "gpu: announce becomes enforce with nova 35: it strands 1 guest: vm0 on a.",
    )
    assert told(checks(cloud, catalog(enforced_from(day)), days=30).check_stages()) == (
        Code.SUCCESS,
        "None within 30 days.",
    )
    at_ease = Cloud({"a": ["1.2"], "b": ["1.2"]}, [("a", need("1.2"))])
    assert told(checks(at_ease, catalog(enforced_from(day))).check_stages()) == (
        Code.SUCCESS,
        "gpu: announce becomes enforce on 2027-02-01, in 31 days.",
    )


def test_it_could_not_be_checked(tmp_path, capfd, monkeypatch):
    def failing(files):
        raise RuntimeError("the log of nova.conf\ncannot be written")

    monkeypatch.setattr("nova_devcompat.cli.upgrade.nova", failing)
    assert main(["upgrade", "check"]) == 255
    out, err = capfd.readouterr()
    assert (out, err) == ("", "the log of nova.conf cannot be written\n")
    assert main(["upgrade", "check", "--as-of", "soon"]) == 2
