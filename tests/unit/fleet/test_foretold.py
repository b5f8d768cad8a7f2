# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a host will say is claimed only where nothing that is hidden from here can change it."""

from __future__ import annotations

import dataclasses
import types

import pytest

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog, CatalogFamily
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Semver, Undecided
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.risks import Risk
from nova_devcompat.compat.ruling import NO_RECORD, Guest
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Code, Reason
from nova_devcompat.fleet.answers import Says
from nova_devcompat.fleet.foretold import Foretold
from nova_devcompat.fleet.model import Host, Place, RunningGuest
from nova_devcompat.fleet.outlook import Outlook
from nova_devcompat.scheduler.judges import Judges
from nova_devcompat.scheduler.lookup import Lookup
from nova_devcompat.scheduler.state import SchedulerState
from nova_devcompat.stores.published import published as published_by

STRICT, LENIENT = Policy(), Policy(on_unknown=OnUnknown.ACCEPT)
REPORT = Policy(mode=Mode.REPORT)

GPU = Family(name="gpu", rules={"version": Semver(), "firmware": Undecided()})
ATOMS = frozenset(
    [Atom("gpu", "version", version) for version in ("1.2", "1.4")]
    + [Atom("gpu", "firmware", name) for name in "ab"]
)
NEED = DeviceNeed.of("gpu", {"version": ["1.2"], "firmware": ["a"]}, slot="rc:VGPU")
GARBLED = "{"


class _State(SchedulerState):
    """The scheduler's, with policies and accepted risks of hosts, without files."""

    def __init__(self, policy, risks=()):
        self._reader = wire.StatsReader()
        self._judges = Judges()
        self._policy, self._risks = policy, risks

    def policies(self):
        return Policies(self._policy, {"gpu": self._policy}, {})

    def host_risks(self):
        return {"a": self._risks} if self._risks else {}

    def other_catalog(self, stats):
        document = published_by(stats, self._reader)
        return "" if isinstance(document, Reason) else document.catalog


def text(*devices, atoms=ATOMS, policies=None, catalog=""):
    """What a host publishes with GPUs of some versions and firmwares."""
    published = [
        wire.PublishedDevice(
            address=f"0000:8{number}:00.0",
            accepts=GPU.offer({"version": version, "firmware": firmware}).accept_set(atoms),
        )
        for number, (version, firmware) in enumerate(devices)
    ]
    document = wire.HostDocument(catalog=catalog, devices=tuple(published), policies=policies)
    return wire.fit_stats(document, sorted(ATOMS)).text


def ask(policy, published, *, risks=(), of_host=(), doubt=None, pci=False, **others):
    """What is told beforehand: what it says, and the codes of why."""
    state = _State(policy, of_host)
    guest = Guest(record=Need(devices=(NEED,)), risks=risks)
    found = Lookup("a-guest", dataclasses.replace(guest, **others), pci=pci)
    stats = {} if published is None else {wire.STATS_KEY: published}
    node = types.SimpleNamespace(host="a", stats=stats)
    judged = state.judge(state.request(found, of_host), stats, [])
    word = Foretold(state, found, doubt).of(node, judged, [])
    return word.says, {reason.code for reason in (*word.untold, *word.refused)}


LIKE_IT, NEWER = text(("1.2", "a")), text(("1.4", "a"))
SURE = Says.ACCEPT, set()
GPU_UNKNOWN = (Risk(name="gpu:unknown"),)


@pytest.mark.parametrize("policy", [STRICT, LENIENT, REPORT])
def test_what_is_compared_is_known(policy):
    assert ask(policy, LIKE_IT) == ask(policy, NEWER) == SURE


@pytest.mark.parametrize(
    ("published", "code"),
    [
        (None, Code.HOST_SILENT),
        (GARBLED, Code.HOST_UNREADABLE),
        # It has not looked at a value yet, which it does when the guest arrives.
        (text(("1.2", "a"), atoms=frozenset()), Code.NOT_EVALUATED),
    ],
)
def test_the_host_knows_what_it_has(published, code):
    """Whatever lets it pass here: a policy, or a risk that is accepted."""
    told = Says.UNKNOWN, {code}
    assert ask(LENIENT, published) == told
    assert ask(STRICT, published, risks=GPU_UNKNOWN) == told
    assert ask(STRICT, published, of_host=GPU_UNKNOWN) == told
    # The filter has the last word then, but who passes it by hears another.
    assert ask(STRICT, published) == (Says.UNKNOWN, set())
    # Where nothing is acted on, nothing is refused.
    assert ask(REPORT, published) == SURE


def test_what_no_rule_compares_is_no_more_known_there():
    other = text(("1.2", "b"))
    assert ask(LENIENT, other) == SURE
    assert ask(STRICT, other, risks=GPU_UNKNOWN) == SURE
    assert ask(STRICT, other) == (Says.REJECT, set())
    # Nor is what the host says of itself that it could not read.
    assert ask(LENIENT, text((None, "a"))) == SURE
    assert ask(LENIENT, LIKE_IT, record=NO_RECORD) == SURE


def test_of_unlike_devices_nobody_knows_which():
    unlike = text(("1.4", "a"), ("1.0", "a"))
    assert ask(STRICT, unlike, pci=True) == (Says.UNKNOWN, {Code.MINOR_TOO_OLD})
    assert ask(STRICT, text(("1.4", "a"), ("1.2", "a")), pci=True) == SURE
    pinned = Need(devices=(DeviceNeed.of("gpu", {"version": ["1.4"]}),))
    others = {"record": Need(), "pins": pinned, "assigned": True, "pci": True}
    assert ask(STRICT, text(("1.4", "a"), ("1.2", "a")), **others)[0] is Says.UNKNOWN
    assert ask(STRICT, text(("1.4", "a"), ("1.4", "b")), **others) == SURE


def test_it_may_decide_otherwise():
    """By other policies, where these would make a difference."""
    strict = {"": "enforce reject"}
    lenient_there = text(("1.2", "b"), policies=strict)
    assert ask(LENIENT, lenient_there) == (Says.UNKNOWN, {"other-settings"})
    assert ask(LENIENT, text(("1.2", "a"), policies=strict)) == SURE
    assert ask(LENIENT, text(("1.2", "b"), policies={"": "enforce accept"})) == SURE
    reported = text(("1.0", "a"), policies=strict)
    assert ask(REPORT, reported) == (Says.UNKNOWN, {"other-settings"})


def test_another_catalog_may_decide_otherwise():
    other = text(("1.2", "a"), catalog="another")
    assert ask(STRICT, other) == (Says.UNKNOWN, {"other-catalog"})
    assert ask(STRICT, text(("1.0", "a"), catalog="another")) == (Says.REJECT, set())


#: What hosts publish, each with one device or none, so that nobody has to choose one.
SAID = (
    *(None, GARBLED, LIKE_IT, NEWER, text(), text(("1.0", "a")), text(("1.2", "b"))),
    *(text(("1.2", None)), text((None, "a")), text(("1.2", "a"), atoms=frozenset())),
    *(text(("1.2", "a"), catalog="x"), text(("1.2", "b"), policies={"": "enforce reject"})),
    *(text(("1.0", "a"), policies={"": "report reject"}), text((None, "a"), catalog="x")),
)


@pytest.mark.parametrize("published", SAID)
@pytest.mark.parametrize("policy", [STRICT, LENIENT, REPORT])
@pytest.mark.parametrize("record", [Need(devices=(NEED,)), NO_RECORD])
@pytest.mark.parametrize("risks", [(), GPU_UNKNOWN])
@pytest.mark.parametrize("of_host", [(), GPU_UNKNOWN])
def test_stranded_and_explain_say_alike_what_only_the_host_can_tell(
    published, policy, record, risks, of_host
):
    stats = {} if published is None else {wire.STATS_KEY: published}
    place = Place("a", "a")
    host = Host(place=place, said=published_by(stats, wire.StatsReader()), risks=of_host)
    guest = RunningGuest(uuid="a-guest", place=place, record=record, risks=risks)
    family = CatalogFamily(family=GPU, match={"x": "y"}, source="static")
    catalog = Catalog(digest="", families={"gpu": family})
    outlook = Outlook(catalog, _State(policy).policies())
    outlook.read([host, guest])
    (kind,) = outlook.kinds
    says, codes = ask(policy, published, risks=risks, of_host=of_host, record=record)
    if outlook.rule(kind, host).accepts:
        told = {reason.code for reason in outlook.untold(kind, host)}
        assert (says, codes) == (Says.UNKNOWN if told else Says.ACCEPT, told)
    else:
        assert says is not Says.ACCEPT and not codes


def test_the_record_may_be_doubted_there():
    assert ask(STRICT, LIKE_IT, doubt=NO_RECORD) == (Says.REJECT, {Code.NEED_MISSING})
    assert ask(LENIENT, LIKE_IT, doubt=NO_RECORD) == SURE
