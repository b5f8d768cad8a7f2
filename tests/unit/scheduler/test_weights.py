# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What hosts weigh: how many others accept the guest, then how closely a host fits."""

import types

from hypothesis import given
from hypothesis import strategies as st
from nova import context, objects
from nova.scheduler import host_manager
from nova.scheduler.weights import WeighedHost

from nova_devcompat import wire
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Equal, OneOf, Semver
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.scheduler import mobility, weights
from tests.unit.providers import uuid_of

GPU = Family(name="gpu", rules={"version": Semver()})
NIC = Family(name="nic", rules={"mode": Equal()})
# What a guest uses of it is never known from the device alone.
MACHINE = Family(name="machine", rules={"type": OneOf()})

objects.register_all()

ENFORCE = Policy()
LENIENT = Policy(on_unknown=OnUnknown.ACCEPT)
SILENT = Reason(code=Code.HOST_SILENT, actor=Actor.OPERATOR)
REQUEST = "8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11"


def gpu(version):
    return GPU.offer({"version": version})


def nic(mode):
    return NIC.offer({"mode": mode})


def candidate(*providers, suffixes=()):
    providers = [uuid_of(one) for one in providers]
    return {
        "allocations": {one: {"resources": {"VGPU": 1}} for one in ("root", *providers)},
        "mappings": {"": ["root"], **{suffix: [providers[0]] for suffix in suffixes}},
    }


class Cloud:
    """Hosts by name, each with offers; the provider of device N is that named ``pN``.

    A host that offers None publishes nothing.
    """

    def __init__(self, *, placed=True, whole=True, **hosts):
        known = {atom for offers in hosts.values() for one in offers or () for atom in one.atoms()}
        reader = wire.StatsReader()
        self.documents = {}
        for name, offers in hosts.items():
            if offers is None:
                self.documents[name] = SILENT
                continue
            devices = tuple(
                wire.PublishedDevice(
                    address=f"0000:8{index}:00.0",
                    accepts=offer.accept_set(known),
                    providers=(uuid_of(f"p{index}"),) if placed else (),
                )
                for index, offer in enumerate(offers)
            )
            document = wire.HostDocument(catalog="", whole=whole, devices=devices)
            self.documents[name] = reader.read(wire.dump_stats(document))

    def weigh(self, *, need=None, pins=None, policy=ENFORCE, pci=(), candidates=None, shapes=True):
        """The group of each host, by its name."""
        guest = Guest(record=need or Need(), pins=pins or Need(), keeps_devices=need is not None)
        request = mobility.Mobility(guest, Policies(policy), pci)
        groups = {}
        for name, document in self.documents.items():
            shape = getattr(document, "shape", None)
            group = request.by_shape.get(shape) if shapes else None
            if group is None:
                group = request.group(document, (candidates or {}).get(name, [candidate("p0")]))
            group.hosts += 1
            groups[name] = group
        request.weigh()
        return groups


def accepted(groups):
    return {name: group.accepted_by for name, group in groups.items()}


def ranked(groups):
    return sorted(groups, key=lambda name: -groups[name].weight)


def need_of(*offers):
    return Need(devices=tuple(offer.freeze(slot="rc:VGPU") for offer in offers))


class TestDevicesInitialisedAnew:
    def test_the_oldest_device_leaves_a_guest_most_mobile(self):
        groups = Cloud(
            a=[gpu("1.4")], b=[gpu("1.0")], c=[gpu("1.2")], d=[gpu("1.2")], e=[gpu("2.0")]
        ).weigh()
        assert accepted(groups) == {"a": 0, "b": 3, "c": 2, "d": 2, "e": 0}
        assert groups["c"] is groups["d"]
        # Nobody else takes a guest of the 1.4 or of the 2.0, which accepts less.
        assert ranked(groups) == ["b", "c", "d", "e", "a"]

    def test_mobility_outweighs_closeness(self):
        groups = Cloud(
            a=[gpu("1.4")], b=[gpu("1.5")], c=[gpu("1.5")], d=[gpu("2.0")], e=[gpu("2.0")]
        ).weigh()
        assert accepted(groups) == {"a": 2, "b": 1, "c": 1, "d": 1, "e": 1}
        assert 2 < groups["a"].weight < 3
        assert ranked(groups)[:3] == ["a", "d", "e"]

    def test_any_device_of_another_host_will_do(self):
        groups = Cloud(a=[gpu("1.4")], b=[gpu("1.0"), gpu("1.4")]).weigh()
        assert accepted(groups) == {"a": 1, "b": 1}

    def test_all_devices_of_a_guest_must_find_one(self):
        both = {name: [candidate("p0", "p1")] for name in "abc"}
        cloud = Cloud(a=[gpu("1.0"), nic("x")], b=[gpu("1.4"), nic("x")], c=[gpu("1.4"), nic("y")])
        assert accepted(cloud.weigh(candidates=both)) == {"a": 1, "b": 0, "c": 0}
        # The first candidate is the one that Nova claims.
        both["a"] = [candidate("p0"), candidate("p0", "p1")]
        assert accepted(cloud.weigh(candidates=both)) == {"a": 2, "b": 0, "c": 0}

    def test_a_pin_is_what_the_guest_will_need(self):
        pins = Need(devices=(DeviceNeed.of("gpu", {"version": ["1.0"]}),))
        cloud = Cloud(a=[gpu("1.0")], b=[gpu("1.2")], c=[gpu("2.0")])
        groups = cloud.weigh(pins=pins)
        assert accepted(groups) == {"a": 1, "b": 1, "c": 0}
        assert groups["c"].weight == 0
        assert "pins" in groups["c"].why

    def test_a_pin_of_a_family_that_is_not_taken_is_none_of_ours(self):
        pins = Need(devices=(DeviceNeed.of("nic", {"mode": ["x"]}),))
        groups = Cloud(a=[gpu("1.0")], b=[gpu("1.2")]).weigh(pins=pins)
        assert accepted(groups) == {"a": 1, "b": 0}

    def test_a_need_that_cannot_be_told_is_accepted_as_the_policy_says(self):
        offer = MACHINE.offer({"type": ["q35"]})
        cloud = Cloud(a=[offer], b=[offer])
        assert accepted(cloud.weigh()) == {"a": 0, "b": 0}
        assert accepted(cloud.weigh(policy=LENIENT)) == {"a": 1, "b": 1}


class TestWhatIsNotKnown:
    def test_silent_hosts_come_last(self):
        groups = Cloud(a=None, b=[gpu("1.0")], c=None).weigh()
        assert accepted(groups) == {"a": 0, "b": 0, "c": 0}
        assert [groups[name].weight > 0 for name in "abc"] == [False, True, False]

    def test_they_accept_as_the_policy_says(self):
        groups = Cloud(a=None, b=[gpu("1.0")], c=[], d=[nic("x")]).weigh(policy=LENIENT)
        assert accepted(groups)["b"] == 3
        assert groups["a"].weight == 0

    def test_a_host_that_gives_no_device_weighs_nothing(self):
        candidates = {"a": [candidate("another")], "b": [candidate("p0")]}
        groups = Cloud(a=[gpu("1.0")], b=[gpu("1.2")], whole=False).weigh(candidates=candidates)
        assert groups["a"].weight == 0
        # It still is a place to go to.
        assert groups["b"].accepted_by == 0
        assert (
            Cloud(a=[gpu("1.2")], b=[gpu("1.0")], whole=False)
            .weigh(candidates=candidates)["b"]
            .accepted_by
            == 1
        )

    def test_nobody_at_all(self):
        assert accepted(Cloud(a=None, b=None).weigh()) == {"a": 0, "b": 0}
        assert Cloud().weigh() == {}


class TestPCI:
    def test_of_devices_not_in_placement_it_may_be_given_any(self):
        groups = Cloud(a=[gpu("1.0"), gpu("1.4")], b=[gpu("1.0")], c=[gpu("1.4")], placed=False)
        found = groups.weigh(pci=[REQUEST], candidates={})
        assert accepted(found) == {"a": 1, "b": 2, "c": 1}

    def test_a_candidate_tells_those_in_placement(self):
        told = [candidate("p1", suffixes=[f"{REQUEST}-0"])]
        cloud = Cloud(a=[gpu("1.4"), gpu("1.0")], b=[gpu("1.4"), gpu("1.2")])
        groups = cloud.weigh(pci=[REQUEST], candidates={"a": told, "b": told})
        assert accepted(groups) == {"a": 1, "b": 1}
        assert [len(groups[name].taken) for name in "ab"] == [1, 1]

    def test_without_pci_requests_they_are_not_taken(self):
        groups = Cloud(a=[gpu("1.0")], placed=False).weigh()
        assert groups["a"].weight == 0


class TestLiveMigration:
    def test_the_closest_fit_comes_first(self):
        groups = Cloud(a=[gpu("1.6")], b=[gpu("1.2")], c=[gpu("1.4")]).weigh(
            need=need_of(gpu("1.2"))
        )
        assert accepted(groups) == {"a": 2, "b": 2, "c": 2}
        assert ranked(groups) == ["b", "c", "a"]

    def test_who_does_not_accept_weighs_nothing(self):
        groups = Cloud(a=[gpu("1.0")], b=[gpu("1.4")], c=[gpu("1.2")]).weigh(
            need=need_of(gpu("1.2")), policy=Policy(mode=Mode.REPORT)
        )
        assert accepted(groups) == {"a": 0, "b": 1, "c": 1}
        assert groups["a"].weight == 0
        assert ranked(groups) == ["c", "b", "a"]

    def test_devices_of_other_families_do_not_count(self):
        both = {name: [candidate("p0", "p1")] for name in "ab"}
        cloud = Cloud(a=[gpu("1.4"), nic("x")], b=[gpu("1.4"), nic("y")])
        groups = cloud.weigh(need=need_of(gpu("1.2")), candidates=both)
        assert {tuple(one.family for one in group.taken) for group in groups.values()} == {
            ("gpu",)
        }


offers = st.one_of(
    st.builds(lambda major, minor: gpu(f"{major}.{minor}"), st.integers(1, 2), st.integers(0, 3)),
    st.builds(nic, st.sampled_from("xy")),
)
clouds = st.lists(st.none() | st.lists(offers, max_size=3), max_size=8)


class TestReference:
    """The same numbers as by asking each host about each guest."""

    @given(clouds, st.sampled_from([ENFORCE, LENIENT]), st.booleans(), st.booleans())
    def test_mobility(self, hosts, policy, whole, shapes):
        hosts = {f"h{index}": offers for index, offers in enumerate(hosts)}
        cloud = Cloud(whole=whole, **hosts)
        groups = cloud.weigh(policy=policy, shapes=shapes)

        def accepts(name, need):
            devices = [one for one in hosts[name] or () if one.family.name == need.family]
            if not devices:
                return policy is LENIENT
            return any(not policy.refuses(one.judge(need)) for one in devices)

        for name, offered in hosts.items():
            if not offered:
                assert groups[name].weight == 0
                continue
            need = offered[0].freeze()
            others = [other for other in hosts if other != name and accepts(other, need)]
            assert groups[name].accepted_by == len(others)
            assert len(others) < groups[name].weight <= len(others) + 1

    @given(clouds, st.integers(0, 3))
    def test_shapes_change_nothing(self, hosts, minor):
        cloud = Cloud(**{f"h{index}": offers for index, offers in enumerate(hosts)})
        for need in (None, need_of(gpu(f"1.{minor}"))):
            with_, without = (cloud.weigh(need=need, shapes=shapes) for shapes in (True, False))
            assert {name: group.weight for name, group in with_.items()} == {
                name: group.weight for name, group in without.items()
            }


class TestManyVersions:
    def test_what_most_hosts_have_is_judged_first(self, monkeypatch):
        monkeypatch.setattr(mobility, "_VERDICTS", 4)
        hosts = {f"common{index}": [gpu("1.9")] for index in range(5)}
        hosts |= {f"rare{index}": [gpu(f"1.{index}")] for index in range(5)}
        groups = Cloud(**hosts).weigh()
        assert groups["rare0"].accepted_by == 5

    def test_no_more_verdicts_than_allowed(self, monkeypatch):
        monkeypatch.setattr(mobility, "_VERDICTS", 50)
        asked = []
        original = mobility.AcceptSet.judge
        monkeypatch.setattr(
            mobility.AcceptSet, "judge", lambda *args: asked.append(1) or original(*args)
        )
        Cloud(**{f"h{index}": [gpu(f"1.{index}")] for index in range(40)}).weigh()
        assert len(asked) <= 50


class TestWeigher:
    def test_nothing_is_raised(self, caplog):
        def look_up(context, spec):
            raise KeyError("anything")

        weigher = object.__new__(weights.DeviceCompatWeigher)
        weigher._state = types.SimpleNamespace(look_up=look_up)
        spec = objects.RequestSpec(
            context.RequestContext(is_admin=False),
            instance_uuid=REQUEST,
            flavor=objects.Flavor(extra_specs={"resources:VGPU": "1"}),
            pci_requests=None,
        )
        spec.scheduler_hints = {}
        hosts = [
            WeighedHost(host_manager.HostState(name, name, REQUEST), 0.0) for name in ("a", "b")
        ]
        assert weigher.weigh_objects(hosts, spec) == [0.0, 0.0]
        assert f"Could not weigh hosts for instance {REQUEST}" in caplog.text
