# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a flavor pins, and which devices can act as that."""

import pytest

from nova_devcompat.compat.attributes import Unreadable
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import AtLeast, Equal, OneOf, Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.pins import (
    BadPin,
    has_pins,
    in_another_case,
    is_pin,
    parse_pins,
    read_pins,
)
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.ruling import Extra, Given, Guest, verdicts
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Code, Outcome

GPU = Family(name="gpu", rules={"version": Semver(), "caps": Superset()})
NIC = Family(name="nic", rules={"queues": AtLeast()})
CPU = Family(name="cpu", rules={"model": OneOf()})
FAMILIES = {"nic": NIC, "gpu": GPU, "cpu": CPU}

STRICT, LENIENT = Policy(), Policy(on_unknown=OnUnknown.ACCEPT)


def gpu(version, caps=("p2p",)):
    return GPU.offer({"version": version, "caps": list(caps)})


def pins(**texts):
    """``gpu__version="2.3"`` for what extra specs write ``devcompat:gpu.version``."""
    specs = {f"devcompat:{name.replace('__', '.')}": text for name, text in texts.items()}
    return parse_pins(specs, FAMILIES)


def judged(pinned, *offers, policy=STRICT):
    """The verdict on a guest that is given just these devices, None for one of no family."""
    (verdict,) = verdicts_on(pinned, *offers, policy=policy)
    return verdict


def verdicts_on(pinned, *offers, policy=STRICT):
    extras = tuple(
        Extra(device=() if offer is None else (offer.accept_set(pinned.atoms),))
        for offer in offers
    )
    guest = Guest(pins=pinned, keeps_devices=False)
    given = Given(extras=extras, complete=True)
    return [verdict for _, verdict in verdicts(guest, given, Policies(policy))]


def judged_loosely(pinned, *offers, policy=STRICT):
    """The same where it may be given any of these."""
    guest = Guest(pins=pinned, keeps_devices=False)
    others = tuple(offer.accept_set(pinned.atoms) for offer in offers if offer is not None)
    given = Given(others=others, complete=None not in offers)
    ((_, verdict),) = verdicts(guest, given, Policies(policy))
    return verdict


def codes(verdict):
    return [reason.code for reason in verdict.reasons]


class TestParsing:
    def test_one_entry_a_family_with_canonical_values(self):
        found = pins(gpu__version="v2.03.1", gpu__caps="p2p, Dirty", nic__queues="08")
        assert [str(device) for device in found.devices] == [
            "gpu (caps Dirty,p2p, version 2.3)",
            "nic (queues 8)",
        ]

    def test_others_extra_specs_are_passed_over(self):
        assert parse_pins({"hw:cpu_policy": "dedicated", "resources:VGPU": "1"}, {}) == Need()

    @pytest.mark.parametrize("specs", [{}, {"hw:cpu_policy": "dedicated"}])
    def test_a_flavor_without_pins(self, specs):
        assert not has_pins(specs)
        assert has_pins({**specs, "devcompat:gpu.version": "2.3"})

    @pytest.mark.parametrize(
        ("key", "ours"),
        [("devcompat:gpu.version", True), ("devcompat:", True), ("devcompat", False), ("", False)],
    )
    def test_which_are_ours(self, key, ours):
        assert is_pin(key) is ours

    @pytest.mark.parametrize(
        ("key", "text", "why"),
        [
            ("devcompat:", "1", "is not of the form devcompat:<family>.<attribute>"),
            ("devcompat:gpu", "1.0", "is not of the form devcompat:<family>.<attribute>"),
            ("devcompat:tpu.x", "1", "the catalog has no family 'tpu'; families: cpu, gpu, nic"),
            ("devcompat:GPU.version", "1.0", "the catalog has no family 'GPU'"),
            ("devcompat:gpu.", "1", "family gpu has no attribute ''; attributes: caps, version"),
            ("devcompat:gpu.version.x", "1.0", "family gpu has no attribute 'version.x'"),
            ("devcompat:gpu.version", "", "rule semver cannot read the value"),
            ("devcompat:gpu.version", "banana", "rule semver cannot read the value: 'banana'"),
            ("devcompat:gpu.caps", "p2p,,x", "rule superset cannot read the value"),
            ("devcompat:nic.queues", "many", "rule at_least cannot read the value: 'many'"),
        ],
    )
    def test_bad_ones_say_what_is_allowed(self, key, text, why):
        with pytest.raises(BadPin) as caught:
            parse_pins({"devcompat:nic.queues": "4", key: text}, FAMILIES)
        assert str(caught.value).startswith(f"{key}: {why}")
        assert caught.value.key == key

    @pytest.mark.parametrize(
        ("attribute", "text", "bare"),
        [
            ("product_id", "0x1eb8", "1eb8"),
            ("product_id", " 0XEB8", "0EB8"),
            ("revision", "0x3", "03"),
            ("product_id", "1eb8", None),
            ("features", "0x1f", None),
        ],
    )
    def test_identifiers_are_pinned_as_hosts_have_them(self, attribute, text, bare):
        families = {
            "gpu": Family(
                name="gpu",
                rules={"product_id": Equal(), "revision": Equal(), "features": Superset()},
            )
        }
        pins, bad = read_pins({f"devcompat:gpu.{attribute}": text}, families)
        if bare is None:
            assert pins.devices and not bad
            return
        assert [(error.family, str(error)) for error in bad] == [
            (
                "gpu",
                f"devcompat:gpu.{attribute}: {text!r}: identifiers are written without 0x; "
                f"write {bare}",
            )
        ]

    @pytest.mark.parametrize(
        ("key", "family"),
        [
            ("devcompat:tpu.x", None),
            ("devcompat:gpu", None),
            ("devcompat:gpu.x", "gpu"),
            ("devcompat:gpu.version", "gpu"),
        ],
    )
    def test_a_bad_one_takes_no_other_with_it(self, key, family):
        """And it is known which family it is about, whose policy then decides."""
        specs = {"devcompat:cpu.model": "a", key: "banana", "devcompat:nic.queues": "4"}
        found, (bad,) = read_pins(specs, FAMILIES)
        assert [device.family for device in found.devices] == ["cpu", "nic"]
        assert (bad.key, bad.family) == (key, family)

    def test_what_is_pinned_of_a_host_is_told_from_what_is_pinned_of_devices(self):
        host = Family(name="qemu", rules={"version": Semver()}, subject=Subject.HOST)
        specs = {"devcompat:qemu.version": "9.1", "devcompat:gpu.version": "2.3"}
        found, _ = read_pins(specs, {**FAMILIES, "qemu": host})
        assert [device.family for device in found.host] == ["qemu"]
        assert [(device.family, device.slot) for device in found.assigned] == [("gpu", "")]

    def test_without_families(self):
        with pytest.raises(BadPin, match="the catalog has no family 'gpu'"):
            parse_pins({"devcompat:gpu.version": "1.0"}, {})


class TestJudging:
    def test_attributes_that_are_not_pinned_do_not_count(self):
        pinned = pins(gpu__version="2.3")
        assert judged(pinned, gpu("2.4", caps=())).outcome is Outcome.ACCEPT
        assert codes(judged(pinned, gpu("2.1"))) == [Code.MINOR_TOO_OLD]
        assert codes(judged(pinned, gpu("banana"))) == [Code.OFFER_UNREADABLE]

    def test_all_devices_of_the_family_must_accept(self):
        pinned = pins(gpu__version="2.3")
        assert codes(judged(pinned, gpu("2.4"), gpu("2.1"))) == [Code.MINOR_TOO_OLD]
        other = NIC.offer({"queues": 1})
        assert judged(pinned, gpu("2.4"), other, None).outcome is Outcome.ACCEPT

    def test_none_of_the_family(self):
        pinned = pins(gpu__version="2.3")
        assert codes(judged(pinned)) == [Code.NO_DEVICE]
        assert codes(judged(pinned, NIC.offer({"queues": 1}))) == [Code.NO_DEVICE]
        assert codes(judged(pinned, None)) == [Code.DEVICE_UNKNOWN]

    def test_a_verdict_for_each_family(self):
        pinned = pins(gpu__version="2.3", nic__queues="4")
        both = verdicts_on(pinned, gpu("2.4"), NIC.offer({"queues": 2}))
        outcomes = [verdict.outcome for verdict in both]
        assert outcomes == [Outcome.ACCEPT, Outcome.REJECT]

    def test_another_family_is_no_fit(self):
        (pin,) = pins(nic__queues="4").devices
        assert codes(gpu("2.4").accept_set(()).judge_pin(pin)) == [Code.OTHER_FAMILY]

    def test_a_value_that_was_not_evaluated(self):
        (pin,) = pins(gpu__version="2.3").devices
        assert codes(gpu("2.4").accept_set(()).judge_pin(pin)) == [Code.NOT_EVALUATED]


class TestJudgingLoosely:
    def test_any_device_will_do(self):
        pinned = pins(gpu__version="2.3")
        assert judged_loosely(pinned, gpu("2.1"), gpu("2.4")).outcome is Outcome.ACCEPT
        assert codes(judged_loosely(pinned, gpu("2.1"), gpu("3.0"))) == [Code.MINOR_TOO_OLD]
        assert codes(judged_loosely(pinned)) == [Code.NO_DEVICE]

    def test_unknown_will_do_where_the_policy_says_so(self):
        pinned = pins(gpu__version="2.3")
        # What is known to be wrong says more than what is not known.
        assert codes(judged_loosely(pinned, gpu("2.1"), None)) == [Code.MINOR_TOO_OLD]
        unknown = judged_loosely(pinned, gpu("2.1"), None, policy=LENIENT)
        assert codes(unknown) == [Code.DEVICE_UNKNOWN]
        lenient = judged_loosely(pinned, gpu("2.1"), gpu("banana"), policy=LENIENT)
        assert lenient.outcome is Outcome.UNKNOWN
        report = Policy(mode=Mode.REPORT)
        assert judged_loosely(pinned, gpu("2.1"), policy=report).outcome is Outcome.REJECT


class TestFreezing:
    def test_what_is_pinned_takes_the_place_of_the_devices_own(self):
        (pin,) = pins(gpu__version="2.3").devices
        need = gpu("2.4").freeze(slot="rc:VGPU", address="a", pin=pin)
        assert need.values == (("caps", frozenset({"p2p"})), ("version", frozenset({"2.3"})))
        assert (need.slot, need.address, need.assumed) == ("rc:VGPU", "a", frozenset())

    def test_what_the_device_refuses_is_passed_over(self):
        """A guest can always stay where it is."""
        (pin,) = pins(gpu__version="2.3", gpu__caps="p2p").devices
        offer = gpu("2.1")
        need = offer.freeze(pin=pin)
        assert dict(need.values)["version"] == frozenset({"2.1"})
        assert offer.judge(need).outcome is Outcome.ACCEPT

    def test_what_is_not_known_can_be_pinned(self):
        """The need of a guest of which the source cannot tell what it uses."""
        offer = CPU.offer({"model": ["a", "b"]})
        assert offer.freeze().values == (("model", None),)
        (pin,) = pins(cpu__model="a").devices
        need = offer.freeze(pin=pin)
        assert need.values == (("model", frozenset({"a"})),)
        assert offer.judge(need).outcome is Outcome.ACCEPT

    def test_an_attribute_that_the_host_has_no_rule_for(self):
        pin = DeviceNeed.of("gpu", {"firmware": ["1"], "version": []})
        assert gpu("2.4").freeze(pin=pin) == gpu("2.4").freeze()


class TestAnotherCase:
    FAMILIES = {
        "board": Family(
            name="board",
            rules={"name": OneOf(), "psid": Equal(), "version": Semver(), "count": AtLeast()},
        )
    }

    def found(self, attribute, pinned, *known):
        pins = parse_pins({f"devcompat:board.{attribute}": pinned}, self.FAMILIES)
        atoms = [Atom("board", attribute, value) for value in known]
        found = in_another_case(pins, atoms, self.FAMILIES)
        return found and tuple(atom.value for atom in found)

    def test_a_value_that_hosts_have_in_another_case(self):
        assert self.found("name", "a100", "A100", "H100") == ("a100", "A100")

    def test_one_that_they_have(self):
        assert self.found("name", "a100", "A100", "a100") is None
        assert self.found("name", "a100") is None

    def test_each_of_several_is_looked_at(self):
        """The first is one that no host has in any case."""
        specs = {"devcompat:board.count": "3", "devcompat:board.name": "a100"}
        known = [Atom("board", "name", "A100")]
        found = in_another_case(parse_pins(specs, self.FAMILIES), known, self.FAMILIES)
        assert found == (Atom("board", "name", "a100"), known[0])

    def test_a_rule_that_takes_them_for_the_same(self):
        assert self.found("psid", "mt_1", "MT_1") is None

    def test_an_atom_that_somebody_else_made(self):
        """The rule cannot read it, so it is not the same."""
        families = {"board": Family(name="board", rules={"version": Semver()})}
        rule = families["board"].rules["version"]
        with pytest.raises(Unreadable):
            rule.parse_offer("V1.x")
        other = Atom("board", "version", "V1.X")
        odd = Need(devices=(DeviceNeed.of("board", {"version": ["v1.x"]}),))
        assert in_another_case(odd, [other], families) == (Atom("board", "version", "v1.x"), other)
