# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Format 2 of the stats document: what is written is read, and nothing of what was changed is."""

import copy
import dataclasses
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.need import DeviceNeed
from nova_devcompat.compat.verdict import Actor, Code, Outcome
from nova_devcompat.wire import packing, stats_2, tokens
from nova_devcompat.wire.checks import Malformed
from tests.budget import scaled
from tests.unit.providers import uuid_of
from tests.unit.wire import test_boundary as boundary
from tests.unit.wire.test_wire import accept_set

ONE, TWO = uuid_of("one"), uuid_of("two")
KNOWN = ["1.0", "1.2", "2.0"]


def document(**changes):
    """A host with two unlike devices, one of functions, and a part of the host."""
    content = {
        "catalog": "0123456789ab",
        "whole": True,
        "devices": (
            wire.PublishedDevice(
                address="0000:81:00.0",
                accepts=accept_set("1.2", KNOWN),
                providers=(ONE,),
                classes=("VGPU",),
            ),
            wire.PublishedDevice(
                address="0000:82:00.0",
                accepts=accept_set("1.0", KNOWN),
                providers=(TWO,),
                functions=("0000:82:00.1-0000:82:00.4",),
                classes=("VGPU", "CUSTOM_VF")[::-1],
            ),
            wire.PublishedDevice(address="0000:83:00.0", accepts=accept_set("1.0", KNOWN)),
        ),
        "host": (wire.PublishedDevice(address="qemu", accepts=accept_set("2.0", KNOWN)),),
        "policies": {"": "enforce reject"},
        "unnamed": frozenset({"CUSTOM_X"}),
        "reads": 2,
        "post_copy": True,
    }
    return wire.HostDocument(**{**content, **changes})


def read(text):
    found = wire.StatsReader().read(text)
    assert isinstance(found, wire.HostDocument), found
    return found


def text_of(meta, providers, *groups):
    """A text with the length and the digest that it must have, whatever it says."""
    rest = ":".join([tokens.SIZE * "x", meta, providers, ",".join(groups)])
    size = len(stats_2.BEGIN) + 5 + stats_2.DIGEST_SIZE + len(rest) + len(stats_2.END)
    digest = packing.digest(rest, stats_2.DIGEST_SIZE)
    return f"{stats_2.BEGIN}{size:05}{digest}{rest}{stats_2.END}"


def parts_of(text):
    """Meta, providers and groups of a text."""
    _, meta, providers, groups = json.loads(text)["d"].split(":")
    return meta, providers, groups.split(",")


def from_format_1(content):
    """A document of format 1, as JSON has it, in format 2."""
    meta = packing.pack(json.dumps({"c": content["c"], "w": content["w"]}))
    groups = []
    providers = b""
    for group in content["g"]:
        said = {key: value for key, value in group.items() if key != "d"}
        devices = [[address, len(listed), None] for address, listed in group["d"].items()]
        for listed in group["d"].values():
            providers += b"".join(bytes.fromhex(one.replace("-", "")) for one in listed)
        groups.append(f"{packing.pack(json.dumps(said))}.{packing.pack(json.dumps(devices))}")
    return text_of(meta, packing.to_base64(providers), *groups)


# --- what is written is read --------------------------------------------------------------------


def test_what_is_written_is_read():
    text = wire.dump_stats(document(), 2)
    found = read(text)
    assert found == document()
    assert (found.version, found.shape) == (2, None)
    assert text[stats_2.CONTEXT] == found.context
    own = tokens.Tokens.read(found)
    assert own.text in text
    for name in ("VGPU", "CUSTOM_VF", "CUSTOM_X", "gpu"):
        assert f";{name}={own.of(name)}" in text
    assert (own.of("CUSTOM_Y"), own.of("other")) == ("", "")
    verdict = found.devices[0].accepts.judge(DeviceNeed.of("gpu", {"version": ["2.0"]}))
    assert verdict.outcome is Outcome.REJECT


def test_the_same_whatever_the_order():
    one = document()
    other = document(devices=one.devices[::-1])
    assert wire.dump_stats(one, 2) == wire.dump_stats(other, 2)


def test_nothing_of_it_is_escaped():
    text = wire.dump_stats(document(), 2)
    assert wire.column_size(text) == len(text) + text.count('"') + 2 == len(text) + 8
    assert set(text) <= set(
        "0123456789abcdefghijklmnopqrstuvwxyz" + '_-=;:.,{}"ABCDEFGHIJKLMNOPQRSTUVWXYZ'
    )
    assert text[stats_2.LENGTH] == f"{len(text):05}"


def test_it_is_smaller_than_format_1():
    one = document()
    assert wire.column_size(wire.dump_stats(one, 2)) < wire.column_size(wire.dump_stats(one, 1))


def is_made(document, name):
    """Whether what is made when it is asked for has been made."""
    try:
        getattr(wire.HostDocument, name).__get__(document)
    except AttributeError:
        return False
    return True


def test_devices_are_made_when_they_are_asked_for():
    found = read(wire.dump_stats(document(), 2))
    assert not is_made(found, "devices") and not is_made(found, "by_provider")
    assert found.by_family.keys() == {part.family for part in found.host} != set()
    assert found.by_provider.keys() == {ONE, TWO}
    assert not is_made(found, "devices")
    assert found == document() and is_made(found, "devices")
    with pytest.raises(AttributeError, match="no_such_thing"):
        found.no_such_thing  # noqa: B018


@settings(max_examples=scaled(100))
@given(
    st.lists(
        st.tuples(st.sampled_from(KNOWN), st.sets(st.sampled_from([ONE, TWO, uuid_of("three")]))),
        max_size=5,
    ),
    st.sampled_from([(), document().host]),
)
def test_providers_stand_for_what_their_devices_do(drawn, host):
    """However devices share providers, and whatever the format: the very same objects."""
    devices = tuple(
        wire.PublishedDevice(
            address=f"0000:8{index}:00.0",
            accepts=accept_set(version, KNOWN),
            providers=tuple(sorted(providers)),
            classes=("VGPU",) if providers else None,
        )
        for index, (version, providers) in enumerate(drawn)
    )
    reader = wire.StatsReader()
    written = document(devices=devices, host=host)
    first, second = (reader.read(wire.dump_stats(written, version)) for version in (1, 2))
    stands_for = second.by_provider
    assert not is_made(second, "devices")
    assert stands_for == dataclasses.replace(second).by_provider
    assert stands_for.keys() == first.by_provider.keys()
    assert all(choice is stands_for[one] for one, choice in first.by_provider.items())
    assert first.kin == second.kin


def test_hosts_that_say_the_same_share_it():
    reader = wire.StatsReader()
    texts = []
    for number in range(3):
        devices = tuple(
            dataclasses.replace(one, providers=(uuid_of(f"{number}{one.address}"),))
            for one in document().devices
        )
        texts.append(wire.dump_stats(document(devices=devices), 2))
    texts.append(wire.dump_stats(document(devices=devices), 1))
    found = [reader.read(text) for text in texts]
    for one in found[1:]:
        for mine, first in zip(one.devices, found[0].devices, strict=True):
            assert mine.accepts is first.accepts
    assert len({one.kin for one in found}) == 1
    choices = [tuple(map(id, one.by_provider.values())) for one in found]
    assert len(set(choices)) == 1
    assert len(reader._bodies._contents) == 3
    assert reader.read(texts[0]) is found[0]


@given(
    accepts=st.builds(
        Evaluation,
        kind=boundary.texts,
        offered=boundary.texts,
        accepted=st.frozensets(boundary.texts),
        rejected=st.dictionaries(
            boundary.texts, st.tuples(boundary.texts, st.sampled_from(Actor)), max_size=3
        ),
        frozen=st.none() | st.frozensets(boundary.texts),
        unknown=st.none() | st.tuples(boundary.texts, boundary.texts),
    ),
    address=boundary.texts,
    catalog=boundary.texts,
)
def test_whatever_is_said_both_formats_say_the_same(accepts, address, catalog):
    part = wire.PublishedDevice(
        address=address, accepts=AcceptSet(family="gpu", attributes={"version": accepts})
    )
    written = wire.HostDocument(catalog="", whole=True, devices=(part,))
    found = [wire.load_stats(wire.dump_stats(written, version)) for version in (1, 2)]
    assert found[0] == found[1]
    assert tokens.Tokens.read(found[1]).text in wire.dump_stats(written, 2)


# --- what decides -------------------------------------------------------------------------------


def token(name, **changes):
    text = wire.dump_stats(document(**changes), 2)
    at = text.find(f";{name}=")
    return text[at : at + len(name) + 2 + tokens.SIZE] if at >= 0 else ""


def test_a_token_is_of_all_that_decides_and_of_nothing_else():
    first, second, third = document().devices
    vf, vgpu, gpu = token("CUSTOM_VF"), token("VGPU"), token("gpu")
    assert vf and vgpu and gpu
    other = dataclasses.replace(first, accepts=accept_set("2.0", KNOWN))
    # What another class or family has changes nothing; other providers change nothing.
    changed = {"devices": (other, second, third)}
    assert token("CUSTOM_VF", **changed) == vf
    assert token("VGPU", **changed) != vgpu
    moved = dataclasses.replace(second, providers=(uuid_of("three"),))
    assert token("VGPU", devices=(first, moved, third)) == vgpu
    assert token("VGPU", catalog="ba9876543210", policies=None, post_copy=False) == vgpu
    for change in (
        {"whole": False},
        {"host": ()},
        {"unreadable": {"nic": "why"}},
        {"devices": (first, second)},  # one that placement does not know may be any
    ):
        assert {token("CUSTOM_VF", **change), token("VGPU", **change)}.isdisjoint({vf, vgpu})
    assert token("VGPU", unnamed=frozenset({"VGPU"})) != vgpu


@pytest.mark.parametrize("unknown", ["of a device", "of the others"])
def test_no_class_where_not_all_is_known(unknown):
    first, *others = document().devices
    change = {"unnamed": None}
    if unknown == "of a device":
        change = {"devices": (dataclasses.replace(first, classes=None), *others)}
    assert (token("VGPU", **change), token("CUSTOM_VF", **change)) == ("", "")
    assert token("gpu", **change)


# --- what is not read ---------------------------------------------------------------------------


def test_a_text_that_was_changed_anywhere_is_not_read():
    text = wire.dump_stats(document(), 2)
    for at in range(0, len(text), 3):
        for other in (text[:at] + "A" + text[at + 1 :], text[:at], text[:at] + text[at + 1 :]):
            if other == text:
                continue
            found = wire.StatsReader().read(other)
            assert isinstance(found, wire.WireError), other[:60]


def test_a_bomb_is_not_unpacked():
    """Neither one part that says more than all may, nor many parts together."""
    meta, _, _ = parts_of(wire.dump_stats(document(), 2))
    places = packing.pack("[]")
    big = packing.pack(" " * (stats_2.MOST_UNPACKED * 100))
    assert len(big) < 100_000
    small = packing.pack(json.dumps({"f": "gpu", "r": {}, "x": "y" * 200, "z": " " * 100_000}))
    assert len(small) < 500
    for groups in ([f"{small}.{places}"] * 50, [f"{places}.{small}"]):
        found = wire.StatsReader().read(text_of(meta, "", *groups))
        assert isinstance(found, wire.WireError)
    with pytest.raises(Malformed, match="more than 1000 characters"):
        packing.unpack(packing.pack(" " * 10_000_000), "", 1_000)
    reader = wire.StatsReader()
    one = text_of(meta, "", f"{packing.pack(' ' * 40_000_000)}.{places}")
    assert len(one) < 60_000
    found = reader.read(one)
    assert list(found.unreadable) == [""]
    assert max(map(len, reader._bodies._contents)) < 60_000


BROKEN = {
    "no base64": "!!!!",
    "a character more": packing.pack("{}") + "A",
    "not compressed": packing.to_base64(b"\xff\xff\xff\xff"),
    "it goes on": packing.to_base64(zlib.compress(b"{}", 6, -15) + b"x"),
    "it ends too early": packing.to_base64(zlib.compress(b"[1,2,3,4,5,6,7]" * 9, 6, -15)[:-3]),
    "no ASCII": packing.to_base64(zlib.compress("{é}".encode(), 6, -15)),
    "no JSON": packing.pack("{"),
    "nothing": "",
    "a number": packing.pack("7"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_part_that_cannot_be_read(broken):
    meta, providers, groups = parts_of(wire.dump_stats(document(), 2))
    said, _, placed = groups[0].partition(".")
    # Of a group: nothing but that, though its family cannot be told.
    found = read(text_of(meta, providers, f"{broken}.{placed}", *groups[1:]))
    assert list(found.unreadable) == [""]
    assert found.unreadable_providers == {ONE}
    assert (found.whole, found.kin, found.context) == (False, None, None)
    assert tokens.Tokens.read(found) is None
    assert [one.address for one in found.devices] == ["0000:82:00.0", "0000:83:00.0"]
    assert found.devices[0] == document().devices[1]
    # Of all that says which provider is whose, and of what the host says of itself: everything.
    for text in (
        text_of(meta, providers, f"{said}.{broken}", *groups[1:]),
        text_of(broken, providers, *groups),
    ):
        assert isinstance(wire.StatsReader().read(text), wire.WireError)


@pytest.mark.parametrize(
    "providers", ["!!!", packing.to_base64(b"123"), "", packing.to_base64(bytes(48))]
)
def test_providers_that_are_not_as_many_as_the_devices_have(providers):
    meta, _, groups = parts_of(wire.dump_stats(document(), 2))
    assert isinstance(wire.StatsReader().read(text_of(meta, providers, *groups)), wire.WireError)


@pytest.mark.parametrize(
    "entry",
    [
        ["0000:81 00", 1, ["VGPU"]],
        [7, 1, ["VGPU"]],
        ["a", 1, ["vgpu;VGPU=x"]],
        ["a", 1, "VGPU"],
        ["a", 1, [7]],
        ["a", 1],
        ["a", 1, None, ["b-"], 4],
        ["a", 1, None, ["0000:82:00.4-0000:82:00.1"]],
        ["a", 1, None, 7],
    ],
)
def test_devices_that_cannot_be_read(entry):
    meta, providers, groups = parts_of(wire.dump_stats(document(), 2))
    said = groups[0].partition(".")[0]
    placed = packing.pack(json.dumps([entry]))
    found = read(text_of(meta, providers, f"{said}.{placed}", *groups[1:]))
    assert list(found.unreadable) == ["gpu"]
    assert found.unreadable_providers == {ONE}
    assert len(found.devices) == 2


@pytest.mark.parametrize("count", [-1, True, "1", None, 1.0, 10**6, 10**30])
def test_a_number_of_providers_that_is_none(count):
    meta, providers, groups = parts_of(wire.dump_stats(document(), 2))
    said = groups[0].partition(".")[0]
    placed = packing.pack(json.dumps([["a", count, None]]))
    text = text_of(meta, providers, f"{said}.{placed}", *groups[1:])
    assert isinstance(wire.StatsReader().read(text), wire.WireError)


@pytest.mark.parametrize("spoil", boundary.ATTRIBUTES.values(), ids=boundary.ATTRIBUTES)
def test_an_attribute_that_cannot_be_read(spoil):
    content = boundary.document()
    assert boundary.families(read(from_format_1(content))) == ["gpu", "nic", "qemu"]
    spoil(content["g"][0]["r"])
    found = read(from_format_1(content))
    assert found.unreadable == {}
    verdict = found.devices[0].accepts.judge(boundary.GPU)
    (reason,) = verdict.reasons
    assert (reason.code, reason.attribute) == (Code.HOST_UNREADABLE, "version")
    assert str(reason).isprintable()


@pytest.mark.parametrize("family", ["GPU", "gpu!", "", 7, None, "gpu\n", "g" * 300, {}])
def test_a_family_that_cannot_be_told(family):
    content = boundary.document()
    content["g"][0]["f"] = family
    found = read(from_format_1(content))
    assert boundary.families(found) == ["nic", "qemu"]
    assert list(found.unreadable) == [""]
    assert found.unreadable_providers == {boundary.ONE}


def test_two_parts_of_one_host_family():
    """Which of them the host is cannot be told, as in format 1."""
    content = boundary.document()
    other = copy.deepcopy(content["g"][2]) | {"d": {"another": []}}
    other["r"]["machine"]["y"] = ["q2"]
    for at in (2, 3):
        turned = copy.deepcopy(content)
        turned["g"].insert(at, other)
        found = read(from_format_1(turned))
        assert (found.unreadable, found.whole) == ({"qemu": "2 parts of the host"}, False)
        assert boundary.families(found) == ["gpu", "nic"]


@settings(max_examples=scaled(60))
@given(st.data())
def test_what_one_says_changes_nothing_of_what_others_say(data):
    """Whoever is read first: parts are remembered by their text alone."""
    meta, providers, groups = parts_of(wire.dump_stats(document(), 2))
    index = data.draw(st.integers(0, len(groups) - 1))
    at = data.draw(st.integers(0, len(groups[index]) - 1))
    wrong = groups[index][:at] + data.draw(st.sampled_from("A.x-_")) + groups[index][at + 1 :]
    texts = [
        wire.dump_stats(document(), 2),
        text_of(meta, providers, *groups[:index], wrong, *groups[index + 1 :]),
    ]
    alone = [wire.StatsReader().read(text) for text in texts]
    reader = wire.StatsReader()
    together = {text: reader.read(text) for text in data.draw(st.permutations(texts))}
    for text, expected in zip(texts, alone, strict=True):
        found = together[text]
        if isinstance(expected, wire.WireError):
            assert str(found) == str(expected)
        else:
            assert found == expected
