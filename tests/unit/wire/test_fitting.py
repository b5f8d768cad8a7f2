# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A document fits whatever there is to say, and what is left out of one family is no other's."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.choice import in_turns
from nova_devcompat.compat.family import Family, Subject
from nova_devcompat.compat.kinds import Semver, Superset
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.policy import Policies, Policy
from nova_devcompat.compat.ruling import Guest
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Code, Outcome
from nova_devcompat.scheduler.judge import RequestJudge
from tests.budget import scaled
from tests.unit.providers import uuid_of

NIC = Family(name="nic", rules={"fw_version": Semver(), "caps": Superset()})
GPU = Family(name="gpu", rules={"version": Semver()})
QEMU = Family(name="qemu", rules={"caps": Superset()}, subject=Subject.HOST)

SHORT = [Atom("nic", "fw_version", f"{number // 100}.{number % 100}") for number in range(9_000)]
LONG = [Atom("nic", "caps", f"{number:06d}" + "x" * 150) for number in range(800)]


def nic(version, *caps):
    return NIC.offer({"fw_version": version, "caps": list(caps)})


def document_of(*offers, known=(), part=None, whole=True, functions=1):
    devices = []
    for index, offer in enumerate(offers):
        accepts = offer.accept_set(offer.atoms() | frozenset(known))
        for function in range(functions):
            address = f"0000:{index:02x}:{function // 8:02x}.{function % 8}"
            devices.append(
                wire.PublishedDevice(
                    address=address, accepts=accepts, providers=(uuid_of(address),)
                )
            )
    host = ()
    if part is not None:
        host = (wire.PublishedDevice(address="", accepts=part.accept_set(part.atoms())),)
    return wire.HostDocument(catalog="x", devices=tuple(devices), whole=whole, host=host)


def useful(document, *others):
    own = {atom for part in document.devices for atom in part.accepts.freeze().atoms}
    return [*in_turns(own), *others]


def read(fitted):
    assert wire.column_size(fitted.text) <= wire.STATS_LIMIT
    # As nova/objects/compute_node.py stores it.
    assert len(json.dumps({wire.STATS_KEY: fitted.text})) <= wire.STATS_LIMIT + 20
    return wire.load_stats(fitted.text)


def test_what_fits_is_written_as_ever():
    document = document_of(nic("1.2", "a"), GPU.offer({"version": "1.0"}))
    fitted = wire.fit_stats(document)
    assert (fitted.text, fitted.shortened) == (wire.dump_stats(document), {})


def test_the_column_holds_a_text_in_json():
    """Of what is JSON already each quotation mark takes one byte more."""
    text = '{"a":"\\\\"}'
    assert wire.column_size(text) == len(json.dumps(text)) > len(text) + 5
    atoms = SHORT[:6_000]
    document = document_of(nic("59.99", "a"), known=atoms)
    assert len(wire.fit_stats(document).text) < wire.STATS_LIMIT
    assert wire.fit_stats(document).shortened


@pytest.mark.parametrize(
    ("offers", "known"),
    [
        ([nic("90.40", "a")], SHORT),
        ([nic("28.40", "a"), nic("28.41", "a"), nic("28.42", "b"), nic("28.43", "c")], SHORT),
        ([nic("28.40", "a")], LONG),
        ([nic("28.40", "a"), nic("28.40", "b"), nic("28.40", "c"), nic("28.40", "d")], LONG),
    ],
)
def test_a_flood_of_one_family(offers, known):
    """Nothing that a guest needs of the flooded family is lost, and nothing of the others."""
    gpus = [GPU.offer({"version": "1.2"}), GPU.offer({"version": "1.4"})]
    part = QEMU.offer({"caps": ["kvm"]})
    document = document_of(*offers, *gpus, known=known, part=part)
    fitted = wire.fit_stats(document, useful(document, *known))
    found = read(fitted)
    assert list(fitted.shortened) == ["nic"]
    assert not found.unreadable
    assert found.whole
    before = document_of(*offers, *gpus, part=part)
    for index, old in enumerate(before.devices):
        new = found.devices[index]
        assert (old.address, old.providers) == (new.address, new.providers)
        if old.family == "gpu":
            assert old.accepts == new.accepts
        else:
            assert new.accepts.judge(old.accepts.freeze()).outcome is Outcome.ACCEPT
    assert found.host == before.host


def test_a_device_with_more_of_its_own_than_fits():
    """What it has is not known then; the family's other devices are."""
    document = document_of(nic("1.2", "a"), nic("1.2", *(atom.value for atom in LONG)))
    fitted = wire.fit_stats(document, useful(document))
    (said,) = fitted.shortened.values()
    assert said.startswith("all but 1/")
    plain, long = read(fitted).devices
    need = nic("1.2", "a").freeze()
    assert plain.accepts.judge(need).outcome is Outcome.ACCEPT
    assert plain.freeze(slot="s", address="a", pin=None).atoms == need.atoms
    assert long.freeze(slot="s", address="a", pin=None).atoms == {Atom("nic", "fw_version", "1.2")}
    need = nic("1.2", LONG[0].value).freeze()
    assert [one.accepts.judge(need).outcome for one in (plain, long)] == [
        Outcome.UNKNOWN,
        Outcome.ACCEPT,
    ]


def test_the_family_is_unknown_where_no_value_fits():
    """Very many devices of which each has something of its own."""
    cards = [nic("1.2", f"{number:03d}" + "y" * 240) for number in range(250)]
    document = document_of(*cards, GPU.offer({"version": "1.2"}))
    fitted = wire.fit_stats(document, useful(document))
    assert fitted.shortened == {"nic": "all that its devices accept"}
    found = read(fitted)
    assert found.whole
    by_address = {part.address: part for part in found.devices}
    for old in document.devices:
        new = by_address[old.address]
        assert new.providers == old.providers
        if old.family == "gpu":
            assert new.accepts == old.accepts
            continue
        reasons = new.accepts.judge(old.accepts.freeze()).reasons
        assert [one.code for one in reasons] == [Code.DOCUMENT_FULL] * 2
        assert str(reasons[0]).startswith("nic.")


def test_so_many_devices_that_not_even_these_fit():
    document = document_of(nic("1.2", "a"), GPU.offer({"version": "1.2"}), functions=500)
    gpus = document_of(nic("1.2", "a"), GPU.offer({"version": "1.2"})).devices[1:]
    fitted = wire.fit_stats(
        wire.HostDocument(catalog="x", whole=True, devices=(*document.devices[:1000:2], *gpus))
    )
    assert not fitted.shortened
    fitted = wire.fit_stats(document)
    assert list(fitted.shortened.values()) == ["its devices"]
    found = read(fitted)
    assert not found.whole
    (family,) = found.unreadable
    (left,) = {device.family for device in found.devices}
    assert {family, left} == {"nic", "gpu"}
    # UNKNOWN of that family, and never a device that the host does not have.
    need = next(part for part in document.devices if part.family == family).accepts.freeze(
        slot="rc:VGPU", address="a"
    )
    policies = Policies(Policy(), {"nic": Policy(), "gpu": Policy()})
    taken = next(part for part in document.devices if part.family == family).providers[0]
    candidate = {
        "allocations": {"root": {"resources": {"VCPU": 1}}, taken: {"resources": {"VGPU": 1}}},
        "mappings": {"": ["root", taken]},
    }
    for record in (Need(devices=(need,)), Need()):
        ruling = RequestJudge(Guest(record=record), policies).judge(found, [candidate]).ruling
        assert family in {reason.family for reason in ruling.refused}
        assert Code.NO_DEVICE not in {reason.code for reason in ruling.refused}


def test_not_even_the_names():
    long = "x" * 200
    families = [Family(name=f"{long}{number}", rules={"a": Semver()}) for number in range(300)]
    document = document_of(*(family.offer({"a": "1.0"}) for family in families))
    with pytest.raises(wire.StatsTooLong):
        wire.fit_stats(document)


known_values = st.lists(st.sampled_from(SHORT[:400:3] + LONG[:60]), max_size=40)


@settings(max_examples=scaled(40))
@given(
    st.data(),
    known_values,
    st.integers(1_500, 9_000),
    st.booleans(),
    st.sampled_from([1, 2]),
)
def test_what_is_shortened_is_at_worst_unknown(data, known, limit, whole, version):
    """No refusal becomes an acceptance, and families that fit are as they were."""
    versions = st.sampled_from(["1.2", "1.40", "2.1", "?"])
    cards = data.draw(st.lists(st.builds(nic, versions, st.sampled_from("ab")), max_size=3))
    gpus = [GPU.offer({"version": one}) for one in data.draw(st.lists(versions, max_size=2))]
    document = document_of(*cards, *gpus, known=known, whole=whole)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("stats", "fitting"):
            patch.setattr(f"nova_devcompat.wire.{module}.STATS_LIMIT", limit)
        fitted = wire.fit_stats(document, useful(document, *known), version)
        assert wire.column_size(fitted.text) <= limit
    found = wire.load_stats(fitted.text)
    needs = [card.freeze() for card in cards] + [gpu.freeze() for gpu in gpus]
    by_address = {part.address: part for part in found.devices}
    for old in document.devices:
        new = by_address.get(old.address)
        if old.family not in fitted.shortened:
            assert new.accepts.judge(needs[0]) == old.accepts.judge(needs[0])
        if new is None:
            assert old.family in found.unreadable
            continue
        for need in needs:
            before, after = old.accepts.judge(need).outcome, new.accepts.judge(need).outcome
            assert after is before or after is Outcome.UNKNOWN
