# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Verdicts on candidates, and that no line of defence is stricter than the one after it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Equal, OneOf, Ordered, Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, Need, host_slot
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import Guest, required_atoms, rule
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Code, Reason
from nova_devcompat.compute import admit
from nova_devcompat.host.devices import HostDevice
from nova_devcompat.scheduler.judge import ACCEPTED, RequestJudge
from nova_devcompat.stores.assigned import Assigned
from tests.budget import scaled
from tests.unit.providers import uuid_of

GPU = Family(name="gpu", rules={"version": Semver(), "caps": Superset()})
NIC = Family(name="nic", rules={"mode": Equal()})
FAMILIES = {"gpu": GPU, "nic": NIC}

REQUEST = "8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11"
PCI = f"pci:{REQUEST}"
VGPU = "rc:VGPU"
ROOT = "root"

NOTHING = Need()
ENFORCE = Policy()
LENIENT = Policy(on_unknown=OnUnknown.ACCEPT)
REPORT = Policy(mode=Mode.REPORT)


def every(policy, **of_families):
    """The policies of a catalog with these families, all the same unless stated."""
    of = {name: of_families.get(name, policy) for name in FAMILIES}
    return Policies(policy, of, {"qemu": policy})


def of_each(policies):
    """The policies that a strategy drew."""
    return Policies(ENFORCE, policies, {"qemu": ENFORCE})


def guest_with(need=NOTHING, pins=NOTHING, keeps_devices=True):
    return Guest(record=need, pins=pins, keeps_devices=keeps_devices)


def asking(need, policies, *, pins=NOTHING, keeps_devices=True, **options):
    """A judge for a guest with this record."""
    if isinstance(policies, Policy):
        policies = every(policies)
    return RequestJudge(guest_with(need, pins, keeps_devices), policies, **options)


def rule_on_claim(need, source, moves, claimed, policies, pins=NOTHING, host=None):
    """Admission's ruling on devices that were claimed."""
    guest = guest_with(need, pins)
    given = admit.given_by_claims(guest, source, moves, claimed, host or {})
    return rule(guest, given, policies)


def rule_on_pins(pins, given_devices, policies):
    """The ruling on devices that are given to a new guest."""
    guest = guest_with(pins=pins, keeps_devices=False)
    return rule(guest, admit.given_devices(guest, given_devices, {}), policies)


def gpu(version, caps=("migration",)):
    return GPU.offer({"version": version, "caps": list(caps)})


def publish(offers, *, known, placed=True, whole=True):
    """A host's document, through its text; the provider of device N is that named ``pN``."""
    document = wire.HostDocument(
        catalog="",
        whole=whole,
        devices=tuple(
            wire.PublishedDevice(
                address=f"0000:8{index}:00.0",
                accepts=offer.accept_set(known),
                providers=(uuid_of(f"p{index}"),) if placed else (),
            )
            for index, offer in enumerate(offers)
        ),
    )
    return wire.StatsReader().read(wire.dump_stats(document))


def vgpu_candidate(*providers):
    resources = {ROOT: {"resources": {"VCPU": 1}}}
    for provider in map(uuid_of, providers):
        amount = resources.setdefault(provider, {"resources": {"VGPU": 0}})
        amount["resources"]["VGPU"] += 1
    return {"allocations": resources, "mappings": {"": list(resources)}}


def pci_candidate(*providers):
    candidate = {
        "allocations": {ROOT: {"resources": {"VCPU": 1}}},
        "mappings": {"": [ROOT]},
    }
    for index, provider in enumerate(map(uuid_of, providers)):
        held = candidate["allocations"].setdefault(provider, {"resources": {"CUSTOM_VF": 0}})
        held["resources"]["CUSTOM_VF"] += 1
        candidate["mappings"][f"{REQUEST}-{index}"] = [provider]
    return candidate


def need_of(*offers, slot=VGPU):
    return Need(
        devices=tuple(
            offer.freeze(slot=slot, address=f"s{index}") for index, offer in enumerate(offers)
        )
    )


def atoms_of(*offers):
    return frozenset(atom for offer in offers for atom in offer.atoms())


def judge(need, offers, candidates, *, policy=ENFORCE, **options):
    known = atoms_of(*offers) | need.atoms
    request = asking(need, policy)
    return request.judge(publish(offers, known=known, **options), candidates)


def left(judged, candidates):
    return list(candidates) if judged.candidates is None else judged.candidates


class TestCandidates:
    def test_only_those_that_fit_are_left(self):
        candidates = [vgpu_candidate("p0"), vgpu_candidate("p1")]
        judged = judge(need_of(gpu("1.2")), [gpu("1.0"), gpu("1.4")], candidates)
        assert judged.candidates == [candidates[1]]
        (reason,) = judged.ruling.refused
        assert (reason.code, reason.needed, reason.offered) == ("minor-too-old", "1.2", "1.0")

    @pytest.mark.parametrize("make", [vgpu_candidate, pci_candidate])
    @pytest.mark.parametrize("whole", [True, False])
    def test_alike_devices_need_no_look_at_each(self, make, whole):
        slot = VGPU if make is vgpu_candidate else PCI
        need = need_of(gpu("1.2"), slot=slot)
        candidates = [make("p0"), make("p1")]
        assert judge(need, [gpu("1.2"), gpu("1.2")], candidates, whole=whole).candidates is None
        refused = judge(need, [gpu("1.0"), gpu("1.0")], candidates, whole=whole)
        assert refused.candidates == []
        assert [reason.code for reason in refused.ruling.refused] == ["minor-too-old"]

    def test_a_device_that_the_host_does_not_name(self):
        need = need_of(gpu("1.2"))
        candidates = [vgpu_candidate("other"), vgpu_candidate("p0")]
        judged = judge(need, [gpu("1.4")], candidates, whole=False)
        assert judged.candidates == [candidates[1]]
        assert judged.ruling.refused[0].code == Code.DEVICE_UNKNOWN
        lenient = judge(need, [gpu("1.0")], candidates, whole=False, policy=LENIENT)
        assert lenient.candidates == [candidates[0]]

    def test_a_host_that_does_not_know_its_providers_yet(self):
        need = need_of(gpu("1.2"))
        candidates = [vgpu_candidate("x")]
        options = {"placed": False, "whole": False}
        assert judge(need, [gpu("1.0"), gpu("1.4")], candidates, **options).candidates is None
        assert judge(need, [gpu("1.0"), gpu("1.1")], candidates, **options).candidates == []

    def test_devices_that_placement_does_not_track(self):
        """Any of the family may be claimed; admission decides on the one that is."""
        need = need_of(gpu("1.2"), slot=PCI)
        untracked = [{"allocations": {ROOT: {"resources": {}}}, "mappings": {"": [ROOT]}}]
        for offers, fits in (
            ([gpu("1.0"), gpu("1.4")], True),
            ([gpu("1.0"), gpu("1.1")], False),
            ([NIC.offer({"mode": "x"})], False),
            ([], False),
        ):
            judged = judge(need, offers, untracked, placed=False)
            assert bool(left(judged, untracked)) is fits, offers

    def test_without_placement(self):
        need = need_of(gpu("1.2"))
        assert judge(need, [gpu("1.0"), gpu("1.4")], []).ruling.accepts
        assert judge(need, [gpu("1.0"), gpu("1.1")], []).candidates == []

    def test_two_devices_are_matched_one_to_one(self):
        need = need_of(gpu("1.2"), gpu("2.0"), slot=PCI)
        offers = [gpu("1.4"), gpu("2.2")]
        both, twice = pci_candidate("p0", "p1"), pci_candidate("p0", "p0")
        turned = pci_candidate("p1", "p0")
        judged = judge(need, offers, [both, twice, turned])
        assert judged.candidates == [both, turned]

    def test_a_request_that_a_resize_gave_another_id(self):
        """The stored request may keep the ID that the device's request had before."""
        stale = need_of(gpu("1.2"), slot="pci:0a0a0a0a-5b0b-4a3e-a1e9-7c2f6a9a2d11")
        candidates = [pci_candidate("p0"), pci_candidate("p1")]
        judged = judge(stale, [gpu("1.0"), gpu("1.4")], candidates)
        assert judged.candidates == [candidates[1]]

    def test_another_family(self):
        judged = judge(need_of(gpu("1.2")), [NIC.offer({"mode": "x"})], [vgpu_candidate("p0")])
        assert [reason.code for reason in judged.ruling.refused] == [Code.OTHER_FAMILY]

    def test_a_device_without_a_recorded_need(self):
        for policy, fits in ((ENFORCE, False), (LENIENT, True)):
            candidates = [vgpu_candidate("p0")]
            judged = judge(Need(), [gpu("1.2")], candidates, policy=policy)
            assert bool(left(judged, candidates)) is fits
        untouched = judge(Need(), [gpu("1.2")], [vgpu_candidate("not-ours")])
        assert untouched.candidates is None

    def test_report_mode_says_and_lets_pass(self):
        judged = judge(need_of(gpu("1.2")), [gpu("1.0")], [vgpu_candidate("p0")], policy=REPORT)
        assert judged.candidates is None
        assert [reason.code for reason in judged.ruling.reported] == ["minor-too-old"]

    def test_an_atom_that_the_host_has_not_evaluated(self):
        request = asking(need_of(gpu("1.2")), ENFORCE)
        document = publish([gpu("1.4")], known=atoms_of(gpu("1.4")))
        judged = request.judge(document, [vgpu_candidate("p0")])
        assert [reason.code for reason in judged.ruling.refused] == [Code.NOT_EVALUATED]

    def test_a_silent_host(self):
        reason = Reason(code=Code.HOST_SILENT, actor="operator")
        for policy, fits in ((ENFORCE, False), (LENIENT, True), (REPORT, True)):
            request = asking(need_of(gpu("1.2")), policy)
            judged = request.silent(reason)
            assert (judged.candidates is None) is fits
            if not fits:
                assert judged.ruling.refused[0].family == "gpu"

    def test_verdicts_are_remembered_by_shape_alone(self):
        """The second host of a shape is answered without its candidates."""
        request = asking(need_of(gpu("1.2")), ENFORCE)
        reader = wire.StatsReader()
        known = atoms_of(gpu("1.2"), gpu("1.4"))

        def document(provider):
            return reader.read(
                wire.dump_stats(
                    wire.HostDocument(
                        catalog="",
                        whole=True,
                        devices=(
                            wire.PublishedDevice(
                                address="a",
                                accepts=gpu("1.4").accept_set(known),
                                providers=(uuid_of(provider),),
                            ),
                        ),
                    )
                )
            )

        first, second = document("p0"), document("p1")
        assert request.judge(first, [vgpu_candidate("p0")]) is request.judge(second, None)
        assert set(request.settled) == {first.shape}


class TestPins:
    """A request that initialises the devices anew has no need, and its flavor may pin some."""

    def pinned(self, *, version="2.3", **options):
        options.setdefault("policy", ENFORCE)
        policy = options.pop("policy")
        pins = Need(devices=(DeviceNeed.of("gpu", {"version": [version]}),))
        return asking(Need(), policy, pins=pins, keeps_devices=False, **options)

    def document(self, *offers, **options):
        pin = atoms_of(gpu("2.3"))
        return publish(offers, known=atoms_of(*offers) | pin, **options)

    def codes(self, judged):
        return [reason.code for reason in judged.ruling.refused]

    def test_only_candidates_that_can_act_as_the_pin_are_left(self):
        candidates = [vgpu_candidate("p0"), vgpu_candidate("p1")]
        judged = self.pinned().judge(self.document(gpu("2.1"), gpu("2.4")), candidates)
        assert judged.candidates == [candidates[1]]
        (reason,) = judged.ruling.refused
        assert (reason.code, reason.needed, reason.offered) == ("minor-too-old", "2.3", "2.1")

    def test_all_devices_of_the_family_must(self):
        candidates = [vgpu_candidate("p0", "p1"), vgpu_candidate("p1", "p1")]
        judged = self.pinned().judge(self.document(gpu("2.1"), gpu("2.4")), candidates)
        assert judged.candidates == [candidates[1]]

    def test_no_need_is_asked_for(self):
        """A record says nothing of devices that are initialised anew."""
        candidates = [vgpu_candidate("p0", "p1")]
        here = self.document(gpu("2.4"), NIC.offer({"mode": "x"}))
        assert self.pinned().judge(here, candidates).candidates is None

    def test_a_host_whose_devices_are_alike(self):
        request = self.pinned()
        new, old = self.document(gpu("2.4"), gpu("2.4")), self.document(gpu("2.1"))
        candidates = [vgpu_candidate("p0")]
        assert request.judge(new, candidates) is request.judge(new, None)
        assert self.codes(request.judge(old, candidates)) == ["minor-too-old"]
        assert set(request.settled) == {new.shape, old.shape}

    @pytest.mark.parametrize("offers", [[gpu("2.4")], [gpu("2.4"), gpu("2.5")]])
    def test_no_device_is_asked_for(self, offers):
        nothing = [{"allocations": {ROOT: {"resources": {"VCPU": 1}}}, "mappings": {"": [ROOT]}}]
        assert self.codes(self.pinned().judge(self.document(*offers), nothing)) == [Code.NO_DEVICE]
        judged = self.pinned().judge(self.document(*offers, whole=False), nothing)
        assert self.codes(judged) == [Code.DEVICE_UNKNOWN]
        # Nobody tells which device answers a PCI request that placement does not know.
        assert self.pinned(pci=True).judge(self.document(*offers), nothing).candidates is None

    def test_devices_that_placement_does_not_track(self):
        untracked = [{"allocations": {ROOT: {"resources": {}}}, "mappings": {"": [ROOT]}}]
        for offers, fits in (
            ([gpu("2.1"), gpu("2.4")], True),
            ([gpu("2.1"), gpu("3.0")], False),
            ([NIC.offer({"mode": "x"})], False),
            ([], False),
        ):
            here = self.document(*offers, placed=False)
            judged = self.pinned(pci=True).judge(here, untracked)
            assert bool(left(judged, untracked)) is fits, offers

    def test_a_device_of_no_family_may_be_meant(self):
        """on_unknown = accept: nova-compute accepts a device of which nothing is known."""
        untracked = [{"allocations": {ROOT: {"resources": {}}}, "mappings": {"": [ROOT]}}]
        here = self.document(gpu("2.1"), placed=False)
        assert self.pinned(policy=LENIENT).judge(here, untracked).candidates == []
        lenient = self.pinned(policy=LENIENT, pci=True)
        assert lenient.judge(here, untracked).candidates is None

    def test_without_candidates(self):
        """A rebuild: any device of the host may be the one that the guest has."""
        here = self.document(gpu("2.1"), gpu("2.4"))
        assert self.pinned().judge(here, []).ruling.accepts
        assert self.codes(self.pinned().judge(self.document(gpu("2.1"), gpu("3.0")), [])) == [
            "minor-too-old"
        ]

    def test_a_silent_host(self):
        reason = Reason(code=Code.HOST_SILENT, actor="operator")
        (refused,) = self.pinned().silent(reason).ruling.refused
        assert (refused.family, refused.code) == ("gpu", Code.HOST_SILENT)
        assert self.pinned(policy=LENIENT).silent(reason).candidates is None

    def test_a_guest_that_is_moved_needs_both(self):
        pins = Need(devices=(DeviceNeed.of("gpu", {"version": ["2.3"]}),))
        known = atoms_of(gpu("2.3", caps=["migration", "p2p"]))
        candidates = [vgpu_candidate("p0")]
        need = need_of(gpu("2.0", caps=["p2p"]))
        for offer, fits in (
            (gpu("2.4", caps=["p2p"]), True),
            (gpu("2.1", caps=["p2p"]), False),
            (gpu("2.4", caps=[]), False),
        ):
            request = asking(need, ENFORCE, pins=pins)
            judged = request.judge(publish([offer], known=known | need.atoms), candidates)
            assert bool(left(judged, candidates)) is fits


# --- the chain -----------------------------------------------------------------------------------

versions = st.sampled_from(["1.0", "1.1", "1.2", "2.0", "banana", None])
caps = st.sets(st.sampled_from(["migration", "p2p", "dirty"]), max_size=3).map(sorted)
gpus = st.builds(lambda v, c: GPU.offer({"version": v, "caps": c}), versions, caps)
nics = st.sampled_from(["a", "b", None]).map(lambda mode: NIC.offer({"mode": mode}))
offers = st.lists(gpus | nics, min_size=1, max_size=3)
policies = st.fixed_dictionaries(
    {
        family: st.builds(
            Policy,
            mode=st.sampled_from([*Mode, Mode.ENFORCE]),
            on_unknown=st.sampled_from(OnUnknown),
            attributes=st.dictionaries(
                st.sampled_from(["version", "caps", "mode"]), st.sampled_from(Mode), max_size=2
            ).map(lambda modes: tuple(modes.items())),
        )
        for family in FAMILIES
    }
)


@settings(max_examples=scaled(150))
@given(
    source=offers,
    here=offers,
    policy=policies,
    how=st.sampled_from(["vgpu", "pci", "untracked"]),
    forget=st.booleans(),
    placed=st.booleans(),
    data=st.data(),
)
def test_admission_accepts_then_filter_accepts_then_prefilter_accepts(
    source, here, policy, how, forget, placed, data
):
    """design: ``admission accepts => filter accepts => prefilter accepts``, for every need, offer
    and catalog: on the very code that runs in nova-compute and nova-scheduler.
    """
    slot = VGPU if how == "vgpu" else PCI
    taken = [data.draw(st.integers(0, len(here) - 1), label="claimed device") for _ in source]
    need = need_of(*source, slot=slot)
    if forget:
        need = Need(devices=need.devices[1:])
    policy_of = of_each(policy)

    # Admission, on the devices really claimed.
    claimed = [
        Assigned(slot, f"d{index}", HostDevice(f"0000:8{taken_one}:00.0", here[taken_one]))
        for index, taken_one in enumerate(taken)
    ]
    moves, addresses = {}, {}
    if how != "vgpu":
        order = data.draw(st.permutations(range(len(source))), label="order of the claim")
        moves = {f"s{index}": f"d{order[index]}" for index in range(len(source))}
        addresses = {f"s{index}": slot for index in range(len(source))}
    admitted = rule_on_claim(need, addresses, moves, claimed, policy_of).accepts

    # The filter, on the candidate that those were allocated from.
    known = atoms_of(*source, *here) | need.atoms
    providers = [f"p{one}" for one in taken]
    candidate = {
        "vgpu": lambda: vgpu_candidate(*providers),
        "pci": lambda: pci_candidate(*providers),
        "untracked": lambda: {"allocations": {ROOT: {"resources": {}}}, "mappings": {"": [ROOT]}},
    }[how]()
    document = publish(
        here,
        known=known,
        placed=placed and how != "untracked",
        whole=data.draw(st.booleans(), label="whole") and placed,
    )
    judged = asking(need, policy_of).judge(document, [candidate])
    filtered = judged.candidates is None or bool(judged.candidates)

    # The prefilter, on the traits of the root provider.
    root = {atom for offer in here for atom in offer.accept_set(known).atoms}
    prefiltered = required_atoms(guest_with(need), policy_of) <= root

    assert filtered or not admitted
    assert prefiltered or not filtered


pinned_values = st.fixed_dictionaries(
    {},
    optional={
        "gpu": st.fixed_dictionaries(
            {},
            optional={
                "version": st.sampled_from(["1.0", "1.1", "2.0", "3.0", "banana"]).map(
                    lambda v: [v]
                ),
                "caps": caps,
            },
        ),
        "nic": st.fixed_dictionaries({"mode": st.sampled_from(["a", "b"]).map(lambda v: [v])}),
    },
).map(lambda drawn: Need(devices=tuple(DeviceNeed.of(family, drawn[family]) for family in drawn)))


@settings(max_examples=scaled(150))
@given(
    here=offers,
    pins=pinned_values,
    policy=policies,
    how=st.sampled_from(["vgpu", "pci", "untracked", "in place"]),
    tracked=st.booleans(),
    data=st.data(),
)
def test_a_build_accepts_a_pin_then_filter_accepts_then_prefilter_accepts(
    here, pins, policy, how, tracked, data
):
    """The same for pins: what nova-compute does before it builds, and both in nova-scheduler.

    Some of the devices that the guest is given are of no family.
    """
    taken = data.draw(st.lists(st.integers(0, len(here)), max_size=3), label="given devices")
    if how != "pci" and how != "untracked":
        # Without PCI requests nova-compute sees only devices of a family (assigned.py).
        taken = [one for one in taken if one < len(here)]
    given_devices = [
        Assigned(PCI, f"d{index}", HostDevice(f"0000:8{one}:00.0", here[one]))
        if one < len(here)
        else Assigned(PCI, f"d{index}", None)
        for index, one in enumerate(taken)
    ]
    policy_of = of_each(policy)
    admitted = rule_on_pins(pins, given_devices, policy_of).accepts

    known = atoms_of(*here) | pins.atoms
    providers = [f"p{one}" for one in taken]
    plain = {"allocations": {ROOT: {"resources": {}}}, "mappings": {"": [ROOT]}}
    candidates = {
        "vgpu": lambda: [vgpu_candidate(*providers)],
        "pci": lambda: [pci_candidate(*providers)],
        # Hosts may report devices to placement before the scheduler asks for them there.
        "untracked": lambda: [plain],
        "in place": list,
    }[how]()
    placed = how in ("vgpu", "pci") or tracked
    # Whole is what names all that placement can allocate.
    strange = how in ("vgpu", "pci") and any(one == len(here) for one in taken)
    whole = not strange and data.draw(st.booleans(), label="whole")
    request = asking(
        Need(), policy_of, pins=pins, keeps_devices=False, pci=how in ("pci", "untracked")
    )
    document = publish(here, known=known, placed=placed, whole=whole)
    judged = request.judge(document, candidates)
    filtered = judged.candidates is None or bool(judged.candidates)

    root = {atom for offer in here for atom in offer.accept_set(known).atoms}
    prefiltered = required_atoms(guest_with(pins=pins, keeps_devices=False), policy_of) <= root

    assert filtered or not admitted
    assert prefiltered or not filtered


@settings(max_examples=scaled(100))
@given(
    source=offers,
    hosts=st.lists(st.tuples(offers, st.booleans(), st.booleans()), min_size=1, max_size=4),
    pins=pinned_values,
    policy=policies,
    keeps=st.booleans(),
    make=st.sampled_from([vgpu_candidate, pci_candidate]),
    data=st.data(),
)
def test_what_is_remembered_changes_no_ruling(source, hosts, pins, policy, keeps, make, data):
    """A judge that has seen other hosts says of each what a new one says."""
    slot = VGPU if make is vgpu_candidate else PCI
    need = need_of(*source, slot=slot) if keeps else Need()
    known = need.atoms | pins.atoms
    for here, _, _ in hosts:
        known |= atoms_of(*here)
    reader = wire.StatsReader()

    def new():
        return asking(
            need, of_each(policy), pins=pins, keeps_devices=keeps, pci=make is pci_candidate
        )

    seasoned = new()
    for number, (here, placed, whole) in enumerate(hosts):
        document = reader.read(
            wire.dump_stats(
                wire.HostDocument(
                    catalog="",
                    whole=whole,
                    devices=tuple(
                        wire.PublishedDevice(
                            address=f"0000:8{index}:00.0",
                            accepts=offer.accept_set(known),
                            providers=(uuid_of(f"h{number}p{index}"),) if placed else (),
                        )
                        for index, offer in enumerate(here)
                    ),
                )
            )
        )
        # On a host that names all, a candidate takes what it names.
        most = len(here) - 1 if whole else len(here)
        candidates = data.draw(
            st.lists(
                st.lists(st.integers(0, most), min_size=len(source), max_size=len(source)).map(
                    lambda taken, n=number: make(*(f"h{n}p{one}" for one in taken))
                ),
                max_size=3,
            )
        )
        assert seasoned.judge(document, candidates) == new().judge(document, candidates)


@given(source=offers, policy=policies)
def test_a_guest_can_always_stay_where_it_started(source, policy):
    """design: for a need N frozen on offer O: O accepts N. Through Nova's own map of addresses."""
    need = need_of(*source, slot=PCI)
    claimed = [
        Assigned(PCI, f"s{index}", HostDevice(f"s{index}", offer))
        for index, offer in enumerate(source)
    ]
    moves = {one.address: one.address for one in claimed}
    ruling = rule_on_claim(need, dict.fromkeys(moves, PCI), moves, claimed, of_each(policy))
    unknown = any(values is None for device in need.devices for _, values in device.values)
    assert ruling.accepts or unknown


def test_the_order_of_a_claim_matters_where_it_is_known():
    """A swap of two unlike devices is refused, though a match would exist."""
    need = need_of(gpu("1.2"), gpu("2.0"), slot=PCI)
    here = [HostDevice("d0", gpu("1.4")), HostDevice("d1", gpu("2.0"))]
    claimed = [Assigned(PCI, one.address, one) for one in here]
    addresses = {"s0": PCI, "s1": PCI}
    for moves, accepted in (
        ({"s0": "d0", "s1": "d1"}, True),
        ({"s0": "d1", "s1": "d0"}, False),
    ):
        ruling = rule_on_claim(need, addresses, moves, claimed, every(ENFORCE))
        assert ruling.accepts is accepted
    # Where the record's addresses are not the guest's any more, no order may be relied on.
    stale = Need(devices=tuple(one.moved("elsewhere") for one in need.devices))
    moves = {"s0": "d0", "s1": "d1"}
    assert not rule_on_claim(stale, addresses, moves, claimed, every(ENFORCE)).accepts


def test_a_slot_without_any_claim():
    need = Need(devices=(DeviceNeed.of("nic", {"mode": ["a"]}, slot=PCI, address="s0"),))
    ruling = rule_on_claim(need, {"s0": PCI}, {}, [], every(ENFORCE))
    assert [reason.code for reason in ruling.refused] == [Code.NO_DEVICE]


# --- host families ------------------------------------------------------------------------------

QEMU = Family(name="qemu", rules={"machine": OneOf(), "version": Ordered()}, subject=Subject.HOST)
MACHINES = ("q1", "q2", "q3")

parts = st.none() | st.builds(
    lambda machines, version: QEMU.offer({"machine": machines, "version": version}),
    st.lists(st.sampled_from(MACHINES), unique=True),
    st.none() | st.sampled_from(["7.0", "8.0"]),
)
host_needs = st.none() | st.builds(
    lambda machine, version: DeviceNeed.of(
        "qemu", {"machine": machine, "version": version}, slot=host_slot("qemu")
    ),
    st.none() | st.lists(st.sampled_from(MACHINES), max_size=1),
    st.none() | st.lists(st.sampled_from(["7.0", "8.0"]), max_size=1),
)
host_pins = st.none() | st.sampled_from(MACHINES).map(
    lambda machine: DeviceNeed.of("qemu", {"machine": [machine]}, slot=host_slot("qemu"))
)
KNOWN = {Atom("qemu", "machine", one) for one in MACHINES} | {
    Atom("qemu", "version", one) for one in ("7.0", "8.0")
}


def publish_host(part, devices, number, *, whole):
    known = KNOWN | atoms_of(*devices)
    document = wire.HostDocument(
        catalog="",
        whole=whole,
        devices=tuple(
            wire.PublishedDevice(
                address=f"0000:8{index}:00.0",
                accepts=offer.accept_set(known),
                providers=(uuid_of(f"h{number}p{index}"),),
            )
            for index, offer in enumerate(devices)
        ),
        host=(wire.PublishedDevice(address="qemu", accepts=part.accept_set(known)),)
        if part
        else (),
    )
    return wire.dump_stats(document)


@settings(max_examples=scaled(100))
@given(
    source=st.lists(st.sampled_from([gpu("1.2"), gpu("1.4")]), max_size=2),
    of_host=host_needs,
    pin=host_pins,
    hosts=st.lists(
        st.tuples(parts, st.lists(st.sampled_from([gpu("1.2"), gpu("2.0")]), max_size=2)),
        min_size=1,
        max_size=4,
    ),
    policy=st.sampled_from([ENFORCE, LENIENT, REPORT]),
    keeps=st.booleans(),
    whole=st.booleans(),
)
def test_hosts_of_a_host_family(source, of_host, pin, hosts, policy, keeps, whole):
    """What is remembered changes nothing, and admission accepts => filter accepts => prefilter."""
    frozen = need_of(*source)
    need = Need(devices=(*frozen.devices, *([of_host] if of_host else []))) if keeps else Need()
    pins = Need(devices=(pin,) if pin else ())
    reader = wire.StatsReader()

    def new():
        return asking(need, policy, pins=pins, keeps_devices=keeps)

    seasoned = new()
    for number, (part, devices) in enumerate(hosts):
        document = reader.read(publish_host(part, devices, number, whole=whole))
        taken = [f"h{number}p{index}" for index in range(min(len(source), len(devices)))]
        candidates = [vgpu_candidate(*taken)]
        judged = seasoned.judge(document, candidates)
        assert judged == new().judge(document, candidates)
        if not keeps or len(taken) < len(source):
            continue
        ruling = rule_on_claim(
            need,
            {},
            {},
            [
                Assigned(VGPU, one, HostDevice(one, devices[index]))
                for index, one in enumerate(taken)
            ],
            every(policy),
            pins,
            {"qemu": HostDevice("qemu", part)} if part else {},
        )
        if ruling.accepts:
            assert judged.candidates is None or judged.candidates
            if policy is ENFORCE and part is not None:
                accepted = part.accept_set(KNOWN).atoms
                assert {one for one in need.atoms if one.family == "qemu"} <= accepted


def test_a_plain_guest_is_settled_by_the_host_alone():
    """On hosts without devices, of which most have the same QEMU."""
    need = Need(devices=(DeviceNeed.of("qemu", {"machine": ["q2"]}, slot=host_slot("qemu")),))
    family = Family(name="qemu", rules={"machine": OneOf()}, subject=Subject.HOST)
    request = asking(need, ENFORCE)
    reader = wire.StatsReader()
    for machines, accepted in ((["q1", "q2"], True), (["q1"], False)):
        part = family.offer({"machine": machines})
        document = reader.read(publish_host(part, [], 0, whole=True))
        judged = request.judge(document, [vgpu_candidate()])
        assert (judged is ACCEPTED) is accepted
        assert request.settled[document.shape] is judged
    (reason,) = judged.ruling.refused
    assert (reason.family, reason.code) == ("qemu", Code.NOT_IN_SET)
