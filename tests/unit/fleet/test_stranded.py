# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Who is stranded, and that this is what nova-scheduler's filter would say of every host."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.catalog.model import Catalog, CatalogFamily
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Ordered, Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import NO_RECORD, Doubt, Guest, doubt_of_pin
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.fleet.kinds import Needs
from nova_devcompat.fleet.model import Fleet, Host, Place, RunningGuest
from nova_devcompat.fleet.stranded import Stranded
from nova_devcompat.scheduler.judge import RequestJudge
from tests.budget import scaled

GPU = Family(name="gpu", rules={"version": Semver()})
NIC = Family(name="nic", rules={"caps": Superset()})
LIBVIRT = Family(name="libvirt", rules={"version": Ordered()}, subject=Subject.HOST)
QEMU = Family(name="qemu", rules={"version": Ordered()}, subject=Subject.HOST)
FAMILIES = {family.name: family for family in (GPU, LIBVIRT, NIC, QEMU)}

REQUESTS = (
    "pci:8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11",
    "pci:0b3d6c2e-6c4b-4f0a-9a63-1c1f3f9f7b42",
)
SILENT = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
GARBAGE = Reason(code=Code.HOST_UNREADABLE, actor=Actor.OPERATOR, detail="stats document: no JSON")
UNREADABLE = Doubt(
    reason=Reason(code=Code.RECORD_UNREADABLE, actor=Actor.OPERATOR, detail="record: torn")
)
ENFORCE = Policy()
LENIENT = Policy(on_unknown=OnUnknown.ACCEPT)


def catalog(*names: str) -> Catalog:
    """With these families, all where none is named."""
    return Catalog(
        digest="",
        families={
            name: CatalogFamily(family=FAMILIES[name], match={"x": "y"}, source="static")
            for name in names or FAMILIES
        },
    )


def every(policy: Policy) -> Policies:
    return Policies(policy, {"gpu": policy, "nic": policy}, {"libvirt": policy, "qemu": policy})


VALUES = {
    "gpu": ["1.0", "1.1", "1.2", "2.0"],
    "nic": [["p2p"], ["p2p", "migration"], []],
    "libvirt": ["9.0", "10.0", "11.0"],
    "qemu": ["7.2", "8.0"],
}


def offer(name: str, value: object):
    (attribute,) = FAMILIES[name].rules
    return FAMILIES[name].offer({attribute: value})


ATOMS = frozenset(
    atom
    for name, values in VALUES.items()
    for value in values
    for atom in offer(name, value).atoms()
)
#: One accept-set for equal offers, as the reader of documents makes it.
ACCEPTS = {
    (name, str(value)): offer(name, value).accept_set(ATOMS)
    for name, values in VALUES.items()
    for value in (*values, None)
}


def device(name: str, value: object, index: int = 0) -> wire.PublishedDevice:
    return wire.PublishedDevice(
        address=f"{name}-{index}", accepts=ACCEPTS[name, str(value)], providers=(f"{name}{index}",)
    )


def part(name: str, value: object, slot: str = "rc:VGPU", address: str = "") -> DeviceNeed:
    """The need of a guest that was started on it."""
    if FAMILIES[name].subject is Subject.HOST:
        slot = host_slot(name)
    return offer(name, value).freeze(slot=slot, address=address)


def document(*parts: tuple[str, object], **others) -> wire.HostDocument:
    devices = [device(name, value, index) for index, (name, value) in enumerate(parts)]
    return wire.HostDocument(
        catalog="",
        devices=tuple(one for one in devices if FAMILIES[one.family].subject is Subject.DEVICE),
        host=tuple(one for one in devices if FAMILIES[one.family].subject is Subject.HOST),
        **{"whole": True, **others},
    )


def fleet(guests, *said) -> Fleet:
    """Hosts ``h0``, ``h1`` ..., each with what it said."""
    return Fleet(
        hosts=[
            Host(place=Place(f"h{index}", f"h{index}"), said=one, id=index)
            for index, one in enumerate(said)
        ],
        guests=guests,
    )


def running(*parts: DeviceNeed, on: str = "h0", record=None, **others) -> RunningGuest:
    return RunningGuest(
        uuid="vm",
        place=Place(on, on),
        record=Need(devices=parts) if record is None else record,
        **others,
    )


def refused(ruling):
    return ruling.refused


def stranded(guest: RunningGuest, *said, policy: Policy = ENFORCE, families=()) -> str | None:
    """Why the one guest is stranded; None where it is not."""
    question = Stranded(fleet([guest], *said), catalog(*families))
    return question.under(every(policy), refused).get(guest)


# --- what a host itself accepts ------------------------------------------------------------------


def test_needs_of_device_and_host_are_met_by_hosts_alike():
    host = document(("gpu", "1.2"), ("libvirt", "10.0"))
    guest = running(part("gpu", "1.2"), part("libvirt", "10.0"))
    assert stranded(guest, host, host, families=("gpu", "libvirt")) is None


@pytest.mark.parametrize("gpus", [(), (("gpu", "1.0"),)])
def test_a_need_of_the_host_is_not_looked_for_among_devices(gpus):
    hosts = [document(*gpus, ("libvirt", "10.0")) for _ in range(3)]
    guest = running(part("libvirt", "9.0"))
    assert stranded(guest, *hosts, families=("gpu", "libvirt")) is None


def test_hosts_unlike_in_what_they_themselves_are_stay_apart():
    guest = running(part("libvirt", "10.0"))
    new, older, newer = (document(("libvirt", one)) for one in ("10.0", "9.0", "11.0"))
    assert len(fleet([guest], new, older, newer).alike) == 3
    assert stranded(guest, new, newer) is None
    assert "libvirt.version: needs 10.0, offered 9.0" in (stranded(guest, new, older) or "")
    assert stranded(guest, new, older, newer) is None


def test_a_host_family_of_which_nothing_is_recorded():
    """The other side: the host says something of it, and the record does not."""
    host = document(("gpu", "1.2"), ("libvirt", "10.0"))
    assert "libvirt" in (stranded(running(part("gpu", "1.2")), host, host) or "")
    assert stranded(running(part("gpu", "1.2")), host, host, policy=LENIENT) is None
    # A guest without devices is no exception.
    plain = running(assigned=False)
    assert "need-missing" in (stranded(plain, host, host) or "")


# --- what is not known ---------------------------------------------------------------------------


@pytest.mark.parametrize("said", [SILENT, GARBAGE])
def test_a_host_of_which_nothing_is_known_takes_nobody(said):
    good = document(("gpu", "1.2"))
    guest = running(part("gpu", "1.2"))
    assert said.code in (stranded(guest, good, said) or "")
    assert stranded(guest, good, said, policy=LENIENT) is None
    # It is of no consequence to others.
    assert stranded(guest, good, said, good) is None


def test_what_of_a_host_cannot_be_read_strands_guests_of_that_family_alone():
    good = document(("gpu", "1.2"), ("nic", ["p2p"]))
    torn = document(("gpu", "1.2"), ("nic", ["p2p"]), whole=False, unreadable={"nic": "torn"})
    assert stranded(running(part("gpu", "1.2"), assigned=False), good, torn) is None
    assert "host-unreadable" in (stranded(running(part("nic", ["p2p"])), good, torn) or "")
    any_family = dataclasses.replace(torn, unreadable={"": "torn"})
    assert "host-unreadable" in (stranded(running(part("gpu", "1.2")), good, any_family) or "")


@pytest.mark.parametrize("record", [NO_RECORD, UNREADABLE])
def test_a_guest_of_which_it_is_not_known_what_it_needs(record):
    good = document(("gpu", "1.2"))
    guest = running(record=record)
    assert record.reason.code in (stranded(guest, good, good) or "")
    assert stranded(guest, good, good, policy=LENIENT) is None
    report = Policy(mode=Mode.REPORT)
    assert stranded(guest, good, good, policy=report) is None


def test_a_guest_that_needs_nothing_of_anybody_is_never_stranded():
    guest = running(record=NO_RECORD, assigned=False)
    assert stranded(guest, SILENT, families=("gpu",)) is None
    assert "need-missing" in (stranded(guest, SILENT, SILENT, families=("gpu", "qemu")) or "")


def test_pins_count_too():
    old, new = document(("gpu", "1.0")), document(("gpu", "1.2"))
    pinned = running(part("gpu", "1.0"), pins=(("devcompat:gpu.version", "1.2"),))
    assert "needs 1.2, offered 1.0" in (stranded(pinned, new, old) or "")
    assert stranded(pinned, old, new, new) is None
    wrong = running(part("gpu", "1.0"), pins=(("devcompat:gpu.versoin", "1.2"),))
    assert "pin-unreadable" in (stranded(wrong, old, new, new) or "")


def test_a_rule_that_fails_on_a_pin_strands_its_guests_alone(monkeypatch):
    def fail(rule, text):
        raise ZeroDivisionError

    good = document(("gpu", "1.2"))
    bad = running(part("gpu", "1.2"), pins=(("devcompat:gpu.version", "1.2"),))
    plain = running(part("gpu", "1.2"))
    monkeypatch.setattr(Semver, "parse_pin", fail)
    found = Stranded(fleet([bad, plain], good, good), catalog()).under(every(ENFORCE), refused)
    assert list(found) == [bad]
    assert "ZeroDivisionError" in found[bad]


# --- where guests are ----------------------------------------------------------------------------


def test_the_own_host_does_not_count_but_those_like_it_do():
    old, new = document(("gpu", "1.0")), document(("gpu", "1.2"))
    guest = running(part("gpu", "1.2"), on="h1")
    assert "offered 1.0" in (stranded(guest, old, new) or "")
    assert stranded(guest, old, new, new) is None
    elsewhere = dataclasses.replace(guest, place=Place("h0", "h0"))
    assert stranded(elsewhere, old, new) is None
    assert stranded(guest, new) is None  # it is not there, so the only host is another
    assert stranded(dataclasses.replace(guest, place=Place("h0", "h0")), new) == (
        "there is no other host"
    )


def test_hosts_of_other_cells_do_not_count():
    old, new = document(("gpu", "1.0")), document(("gpu", "1.2"))
    guest = dataclasses.replace(running(part("gpu", "1.2"), on="h0"), cell="c0")
    cloud = fleet([guest], new, old, new)

    def why(*cells):
        hosts = [
            dataclasses.replace(host, cell=cell)
            for host, cell in zip(cloud.hosts, cells, strict=True)
        ]
        found = Stranded(Fleet(hosts=hosts, guests=[guest]), catalog())
        return found.under(every(ENFORCE), lambda ruling: ruling.refused).get(guest)

    assert why("c0", "c0", "c0") is None
    assert why("c0", "c0", "c1").startswith("h1 is nearest")
    assert why("c0", "c1", "c1") == "there is no other host"


@pytest.mark.parametrize(
    ("others", "nearest"),
    [
        # An upgrade mends what is too old, not what is another major version.
        (["2.0", "1.0"], "h2 is nearest: gpu.version: needs 1.2, offered 1.0, too old "),
        (["1.0", "1.1"], "h2 is nearest: gpu.version: needs 1.2, offered 1.1, too old "),
        (["1.1", "1.0"], "h1 is nearest: gpu.version: needs 1.2, offered 1.1, too old "),
        (["1.0", "1.0"], "h1 is nearest: gpu.version: needs 1.2, offered 1.0, too old "),
        ([None, "1.0"], "h2 is nearest: gpu.version: needs 1.2, offered 1.0, too old "),
    ],
)
def test_the_reason_is_that_of_the_nearest_host(others, nearest):
    """Whatever most hosts have, which may be silent, and wherever they stand."""
    hosts = [document(("gpu", "1.2"))]
    hosts += [document() if one is None else document(("gpu", one)) for one in others]
    told = stranded(running(part("gpu", "1.2")), *hosts) or ""
    assert told.startswith(nearest)
    assert told.endswith(f"upgrade {nearest[:2]}]")


# --- against nova-scheduler's filter -------------------------------------------------------------

NAMES = st.sampled_from(sorted(FAMILIES))


@st.composite
def pairs(draw, names=NAMES):
    """A family and what there is of it, perhaps nothing that is known."""
    name = draw(names)
    return name, draw(st.sampled_from([*VALUES[name], None]))


HOST_PARTS = st.dictionaries(
    st.sampled_from(["libvirt", "qemu"]), st.sampled_from([0, 1, None]), max_size=2
)
WHY = st.dictionaries(
    st.sampled_from([*sorted(FAMILIES), "", "gone"]), st.just("torn"), max_size=2
)


@st.composite
def documents(draw):
    devices = draw(st.lists(pairs(st.sampled_from(["gpu", "nic"])), max_size=3))
    host = [
        (name, None if index is None else VALUES[name][index])
        for name, index in draw(HOST_PARTS).items()
    ]
    return document(*devices, *host, whole=draw(st.booleans()), unreadable=draw(WHY))


SAID = st.one_of(documents(), documents(), st.sampled_from([SILENT, GARBAGE]))


@st.composite
def records(draw):
    parts = []
    for index, (name, value) in enumerate(draw(st.lists(pairs(), max_size=4))):
        slot = draw(st.sampled_from(["rc:VGPU", *REQUESTS]))
        need = part(name, value, slot, f"s{index}")
        if need.of_host and any(one.slot == need.slot for one in parts):
            continue  # a record has one of each
        if draw(st.booleans()):
            need = need.assuming()
        if draw(st.integers(0, 9)) == 0:
            need = dataclasses.replace(need, values=(), assumed=frozenset())
        parts.append(need)
    return Need(devices=tuple(parts))


PINS = st.dictionaries(
    st.sampled_from(
        ["devcompat:gpu.version", "devcompat:libvirt.version", "devcompat:gpu.x", "devcompat:y"]
    ),
    st.sampled_from(["1.0", "1.2", "10.0", "x"]),
    max_size=2,
).map(lambda specs: tuple(sorted(specs.items())))
GUESTS = st.builds(
    RunningGuest,
    uuid=st.just("vm"),
    place=st.sampled_from([Place(f"h{index}", f"h{index}") for index in range(3)]),
    record=st.one_of(records(), records(), st.sampled_from([NO_RECORD, UNREADABLE])),
    pins=PINS,
    assigned=st.booleans(),
    pci=st.booleans(),
)
POLICY = st.builds(
    Policy, mode=st.sampled_from(list(Mode)), on_unknown=st.sampled_from(list(OnUnknown))
)
POLICIES = st.builds(
    Policies,
    POLICY,
    st.fixed_dictionaries({"gpu": POLICY, "nic": POLICY}),
    st.fixed_dictionaries({"libvirt": POLICY, "qemu": POLICY}),
)


def by_the_filter(guest: RunningGuest, policies: Policies, said):
    """What the filter rules on a host, asked as nova-scheduler asks it."""
    pins, bad = catalog().read_pins(dict(guest.pins))
    asked = Guest(
        record=guest.record,
        pins=pins,
        bad_pins=tuple(map(doubt_of_pin, bad)),
        assigned=guest.assigned,
    )
    request = RequestJudge(asked, policies, pci=guest.pci)
    judged = request.silent(said) if isinstance(said, Reason) else request.judge(said, [])
    return judged.ruling


def reasons(ruling):
    return set(ruling.refused), set(ruling.reported)


@given(GUESTS, SAID, POLICIES)
@settings(max_examples=scaled(300))
def test_a_host_rules_as_the_filter_does(guest, said, policies):
    cloud = fleet([guest], said)
    asked = Needs(catalog()).asked(guest)
    assert asked is not None  # there are host families
    ruling = cloud.hosts[0].rule(asked, policies, pci=guest.pci)
    assert reasons(ruling) == reasons(by_the_filter(guest, policies, said))


@given(st.lists(GUESTS, min_size=1, max_size=4), st.lists(SAID, max_size=3), POLICIES)
@settings(max_examples=scaled(150))
def test_stranded_are_those_whom_the_filter_lets_go_nowhere(guests, said, policies):
    cloud = fleet(guests, *said)
    found = Stranded(cloud, catalog()).under(policies, refused)
    expected = {
        guest
        for guest in guests
        if all(
            by_the_filter(guest, policies, host.said).refused
            for host in cloud.hosts
            if host.place != guest.place
        )
    }
    assert set(found) == expected


@given(GUESTS, st.lists(SAID, max_size=3), POLICIES)
@settings(max_examples=scaled(100))
def test_what_was_asked_before_makes_no_difference(guest, said, policies):
    question = Stranded(fleet([guest], *said), catalog())
    question.under(every(ENFORCE), refused)
    question.under(every(LENIENT), refused)
    afresh = Stranded(fleet([guest], *said), catalog())
    assert question.under(policies, refused) == afresh.under(policies, refused)
