# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What does not fit is UNKNOWN where it stands, and nothing beside it is."""

import copy
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.accepts import AcceptSet, Evaluation
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.verdict import Actor, Code, Outcome
from nova_devcompat.kit.text import is_printable
from nova_devcompat.wire import checks
from nova_devcompat.wire.checks import Malformed
from tests.unit.providers import uuid_of

EVIL = "1.0\x1b]0;title\x07\n2026-11-26 12:00:00.000 1 CRITICAL forged"
ONE, TWO = uuid_of("one"), uuid_of("two")


def document():
    """A host with a GPU, a card and a QEMU, as JSON has it."""
    return {
        "v": 1,
        "c": "0123456789ab",
        "w": True,
        "g": [
            {
                "f": "gpu",
                "r": {
                    "version": {
                        "k": "semver",
                        "o": "1.2.3",
                        "y": ["1.2"],
                        "z": ["1.2"],
                        "n": {"minor-too-old host": ["1.3"]},
                    },
                    "caps": {"k": "superset", "o": "p2p", "y": ["p2p"], "z": ["p2p"]},
                },
                "d": {"0000:81:00.0": [ONE]},
            },
            {
                "f": "nic",
                "r": {"mode": {"k": "equal", "o": "x", "y": ["x"], "z": ["x"]}},
                "d": {"0000:82:00.0": [TWO]},
            },
            {
                "f": "qemu",
                "h": True,
                "r": {"machine": {"k": "one_of", "o": "q1", "y": ["q1"]}},
                "d": {"qemu": []},
            },
        ],
    }


GPU = DeviceNeed.of("gpu", {"version": ["1.2"], "caps": ["p2p"]})
NIC = DeviceNeed.of("nic", {"mode": ["x"]})


def read(content):
    text = content if isinstance(content, str) else json.dumps(content)
    found = wire.StatsReader().read(text)
    assert isinstance(found, wire.HostDocument)
    return found


def families(found):
    return [device.family for device in (*found.devices, *found.host)]


def test_the_sample_is_read_whole():
    found = read(document())
    assert families(found) == ["gpu", "nic", "qemu"]
    assert (found.unreadable, found.unreadable_providers) == ({}, frozenset())
    assert found.whole
    assert found.kin is not None
    assert found.problem_of("gpu") is None


# --- groups -------------------------------------------------------------------------------------

GROUPS = {
    "no devices": lambda group: group.pop("d"),
    "an empty list of devices": lambda group: group.update(d={}),
    "devices in a list": lambda group: group.update(d=["0000:81:00.0"]),
    "an address of two lines": lambda group: group.update(d={"0000:81\n": [ONE]}),
    "an address with a space": lambda group: group.update(d={"0000 81": [ONE]}),
    "an address too long": lambda group: group.update(d={"a" * 256: [ONE]}),
    "a provider that is no UUID": lambda group: group.update(d={"a": [ONE, f"{TWO}?x="]}),
    "a provider in a text": lambda group: group.update(d={"a": ONE}),
    "a number for a provider": lambda group: group.update(d={"a": [1]}),
    "no rules": lambda group: group.pop("r"),
    "an attribute that is no name": lambda group: group["r"].update({"A!": {}}),
    "rules in a list": lambda group: group.update(r=[]),
    "too many attributes": lambda group: group["r"].update(
        {f"a{n}": {"k": "", "o": ""} for n in range(300)}
    ),
    "a host that is 1": lambda group: group.update(h=1),
}


@pytest.mark.parametrize("spoil", GROUPS.values(), ids=GROUPS)
def test_a_group_that_cannot_be_read(spoil):
    content = document()
    spoil(content["g"][0])
    found = read(content)
    assert families(found) == ["nic", "qemu"]
    assert list(found.unreadable) == ["gpu"]
    assert found.unreadable["gpu"] == found.problem_of("gpu").detail != ""
    assert found.problem_of("nic") is None
    assert is_printable(found.unreadable["gpu"])
    # Nothing can be concluded from what is not there, and no short cut taken.
    assert (found.whole, found.shape, found.kin) == (False, None, None)
    assert found.devices[0].accepts.judge(NIC).outcome is Outcome.ACCEPT


@pytest.mark.parametrize("family", ["GPU", "gpu!", "", 7, None, ["gpu"], "gpu\n", "g" * 300, {}])
def test_a_group_whose_family_cannot_be_told(family):
    content = document()
    content["g"][0]["f"] = family
    found = read(content)
    assert families(found) == ["nic", "qemu"]
    assert list(found.unreadable) == [""]
    # It may be of any family, so that none is known to be absent.
    assert found.problem_of("gpu").detail == found.problem_of("other").detail != ""
    assert found.unreadable_providers == {ONE}
    assert not found.whole


@pytest.mark.parametrize("group", [None, 7, "x", [], {}])
def test_a_group_that_is_none(group):
    content = document()
    content["g"].insert(1, group)
    found = read(content)
    assert families(found) == ["gpu", "nic", "qemu"]
    assert list(found.unreadable) == [""]


def test_two_groups_of_a_family_of_which_one_cannot_be_read():
    content = document()
    content["g"].append(copy.deepcopy(content["g"][0]) | {"d": {"\n": [TWO, "x"]}})
    found = read(content)
    assert families(found) == ["gpu", "nic", "qemu"]
    assert list(found.unreadable) == ["gpu"]
    assert found.unreadable_providers == {TWO}


def test_a_part_of_the_host_that_cannot_be_read():
    content = document()
    content["g"][2]["d"] = {"q u": []}
    found = read(content)
    assert (found.by_family, list(found.unreadable)) == ({}, ["qemu"])


@pytest.mark.parametrize("key", ["f", "r", "d"])
def test_a_key_given_twice(key):
    """Only what depends on it is lost; the family is known if it is given once."""
    content = document()
    group = content["g"][0]
    twice = json.dumps(group)[:-1] + f',"{key}":{json.dumps(group[key])}}}'
    text = json.dumps(content).replace(json.dumps(group), twice)
    found = read(text)
    assert families(found) == ["nic", "qemu"]
    assert list(found.unreadable) == ["" if key == "f" else "gpu"]


def test_a_key_given_twice_deep_inside_spoils_no_other_host():
    """Readers remember accept-sets by what is said, whoever says it first."""
    good = json.dumps(document())
    bad = good.replace('"k": "semver"', '"k": "semver", "k": "semver"')
    for first, second in ((good, bad), (bad, good)):
        reader = wire.StatsReader()
        found = {text: reader.read(text) for text in (first, second)}
        assert families(found[good]) == ["gpu", "nic", "qemu"]
        assert families(found[bad]) == ["nic", "qemu"]


@pytest.mark.parametrize("addresses", [["a", "b"], ["a"]])
def test_two_parts_of_one_host_family(addresses):
    """Which of them the host is cannot be told, in whatever order they are."""
    content = document()
    other = copy.deepcopy(content["g"][2]) | {"d": {address: [] for address in addresses}}
    other["r"]["machine"]["y"] = ["q2"]
    for at in (2, 3):
        turned = copy.deepcopy(content)
        turned["g"].insert(at, other)
        found = read(turned)
        assert (found.by_family, list(found.unreadable)) == ({}, ["qemu"])
        assert (found.whole, found.shape) == (False, None)
        assert families(found) == ["gpu", "nic"]


def test_what_is_of_the_host_is_no_device():
    """Nor kin to one: judges remember by kin."""
    reader = wire.StatsReader()
    content = document()
    right = reader.read(json.dumps(content))
    del content["g"][2]["h"]
    wrong = reader.read(json.dumps(content))
    assert (families(right), families(wrong)) == (["gpu", "nic", "qemu"],) * 2
    assert (len(right.host), len(wrong.host)) == (1, 0)
    assert right.kin != wrong.kin


# --- attributes ---------------------------------------------------------------------------------

#: An entry of a list of what is known not to work; it is about no guest of these tests.
BAD = {"i": "name", "m": "it stops", "l": "", "o": "numeric", "c": ["<1.0"]}

ATTRIBUTES = {
    "no mapping": lambda rules: rules.update(version=[]),
    "an offer with an escape": lambda rules: rules["version"].update(o=EVIL),
    "an offer too long": lambda rules: rules["version"].update(o="x" * 256),
    "an offer that is a number": lambda rules: rules["version"].update(o=1.2),
    "no offer": lambda rules: rules["version"].pop("o"),
    "no kind": lambda rules: rules["version"].pop("k"),
    "a kind of two lines": lambda rules: rules["version"].update(k="a\nb"),
    "a code of two lines": lambda rules: rules["version"].update(n={"x\ny host": ["1.3"]}),
    "a code in capitals": lambda rules: rules["version"].update(n={"TOO-OLD host": ["1.3"]}),
    "a code too long": lambda rules: rules["version"].update(n={"x" * 65 + " host": ["1.3"]}),
    "nobody to act": lambda rules: rules["version"].update(n={"too-old": ["1.3"]}),
    "somebody else to act": lambda rules: rules["version"].update(n={"too-old you": ["1.3"]}),
    "refused values in a text": lambda rules: rules["version"].update(n={"too-old host": "1.3"}),
    "accepted values in a text": lambda rules: rules["version"].update(y="1.2"),
    "a value that is refused as well": lambda rules: rules["version"].update(
        n={"too-old host": ["1.2"]}
    ),
    "a value that is doubted as well": lambda rules: rules["version"].update(
        d={"not-the-same host": ["1.2"]}
    ),
    "an accepted number": lambda rules: rules["version"].update(y=["1.2", 1.2]),
    "frozen values with an escape": lambda rules: rules["version"].update(z=[EVIL]),
    "an empty frozen value": lambda rules: rules["version"].update(z=[""]),
    "an unknown without detail": lambda rules: rules["version"].update(u=["offer-missing"]),
    "an unknown of two lines": lambda rules: rules["version"].update(u=["offer-missing", EVIL]),
    "an unknown with a strange code": lambda rules: rules["version"].update(u=["A!", ""]),
    "entries that are none": lambda rules: rules["version"].update(b={"name": BAD}),
    "an entry in an order of a later release": lambda rules: rules["version"].update(
        b=[BAD, {**BAD, "o": "calver"}]
    ),
    "an entry whose condition is none": lambda rules: rules["version"].update(
        b=[BAD, {**BAD, "c": ["<"]}]
    ),
    "an entry without a condition": lambda rules: rules["version"].update(b=[{**BAD, "c": []}]),
    "an entry without a name": lambda rules: rules["version"].update(b=[{**BAD, "i": ""}]),
}


def test_entries_of_known_bad_that_can_be_read():
    content = document()
    content["g"][0]["r"]["version"]["b"] = [BAD]
    assert read(content).devices[0].accepts.judge(GPU).outcome is Outcome.ACCEPT
    # As a host publishes it that knows the value: it is not among those that it accepts.
    content["g"][0]["r"]["version"] |= {
        "y": [],
        "n": {f"{Code.KNOWN_BAD} host": ["1.2"]},
        "b": [{**BAD, "c": ["<1.3"]}],
    }
    (reason,) = read(content).devices[0].accepts.judge(GPU).reasons
    assert (reason.code, reason.attribute) == (Code.KNOWN_BAD, "version")
    # Nor does it help that one names it as accepted.
    content["g"][0]["r"]["version"] |= {"y": ["1.2"], "n": {}}
    (reason,) = read(content).devices[0].accepts.judge(GPU).reasons
    assert (reason.code, reason.attribute) == (Code.KNOWN_BAD, "version")


@pytest.mark.parametrize("spoil", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_an_attribute_that_cannot_be_read(spoil):
    content = document()
    spoil(content["g"][0]["r"])
    found = read(content)
    # The family is there, and so is what can be read of it.
    assert families(found) == ["gpu", "nic", "qemu"]
    assert found.unreadable == {}
    verdict = found.devices[0].accepts.judge(GPU)
    (reason,) = verdict.reasons
    assert verdict.outcome is Outcome.UNKNOWN
    assert (reason.code, reason.attribute) == (Code.HOST_UNREADABLE, "version")
    assert str(reason).isprintable()
    assert len(str(reason)) < 600
    caps = DeviceNeed.of("gpu", {"version": [], "caps": ["p2p"]})
    assert found.devices[0].accepts.judge(caps).outcome is Outcome.ACCEPT
    refused = DeviceNeed.of("gpu", {"version": ["1.2"], "caps": ["other"]})
    assert found.devices[0].accepts.judge(refused).outcome is Outcome.UNKNOWN


def test_an_evaluated_value_that_cannot_be_printed_is_passed_over():
    """Anybody's trait may have put it there: no reason to lose the attribute."""
    content = document()
    rules = content["g"][0]["r"]["version"]
    rules["y"] += [EVIL, "x" * 256, ""]
    rules["n"] = {"minor-too-old host": ["1.3", "1.3\n"]}
    accepts = read(content).devices[0].accepts.attributes["version"]
    assert accepts.accepted == {"1.2"}
    assert accepts.rejected == {"1.3": ("minor-too-old", Actor.HOST)}


def test_a_bad_attribute_is_bad_in_each_host_that_says_so():
    reader = wire.StatsReader()
    content = document()
    content["g"][0]["r"]["version"]["o"] = EVIL
    first = reader.read(json.dumps(content))
    content["g"].reverse()
    second = reader.read(json.dumps(content))
    assert first.by_provider[ONE][0] is second.by_provider[ONE][0]
    _, detail = first.by_provider[ONE][0].attributes["version"].unknown
    # No place in the document of one of them.
    assert detail.startswith("version.o: ")


# --- what is written is read --------------------------------------------------------------------

texts = st.text(st.characters(), max_size=300)


@given(
    accepts=st.builds(
        Evaluation,
        kind=texts,
        offered=texts,
        accepted=st.frozensets(texts),
        rejected=st.dictionaries(texts, st.tuples(texts, st.sampled_from(Actor)), max_size=3),
        frozen=st.none() | st.frozensets(texts),
        unknown=st.none() | st.tuples(texts, texts),
    ),
    address=texts,
    of_host=st.booleans(),
)
def test_whatever_plugins_bring_readers_take(accepts, address, of_host):
    """Rules and sources of third parties: what does not fit is not known, never unreadable."""
    part = wire.PublishedDevice(
        address=address, accepts=AcceptSet(family="gpu", attributes={"version": accepts})
    )
    written = wire.HostDocument(
        catalog="", whole=True, devices=() if of_host else (part,), host=(part,) if of_host else ()
    )
    found = read(wire.dump_stats(written))
    assert (found.unreadable, found.whole) == ({}, True)
    (device,) = found.host if of_host else found.devices
    again = device.accepts.attributes["version"]
    assert not (again.unknown and again.unknown[0] == Code.HOST_UNREADABLE)
    if accepts.unknown is None:
        fit = {value for value in accepts.accepted if value and is_printable(value)}
        assert again.accepted == fit
        assert again.frozen in (None, accepts.frozen)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["a", "b"]), st.none() | st.frozensets(texts)),
            texts,
            texts,
        ),
        max_size=3,
    )
)
def test_whatever_is_needed_readers_take(listed):
    need = Need(
        devices=tuple(
            DeviceNeed.of(
                "gpu",
                {
                    name: None if values is None else values - {""}
                    for name, values in needed.items()
                },
                slot=slot,
                address=address,
            )
            for needed, slot, address in listed
        )
    )
    found = wire.load_record(wire.dump_record(need))
    for before, after in zip(need.devices, found.devices, strict=True):
        for (_, old), (_, new) in zip(before.values, after.values, strict=True):
            assert new == old or (new is None and not all(map(is_printable, old)))


# --- records ------------------------------------------------------------------------------------


def load(device):
    payload = json.dumps({"devices": [device]})
    checksum = format(zlib.crc32(payload.encode()), "08x")
    text = f"1 1 {checksum} {payload}"
    return wire.load_record({"devcompat:need": text})


DEVICE = {"family": "gpu", "slot": "rc:VGPU", "address": "0000:81:00.0", "need": {"v": ["1.2"]}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"address": "=cmd|' /C calc'!A0\x1b[31m\n"}, "is no address"),
        ({"address": "a b"}, "is no address"),
        ({"slot": "rc:VGPU\n"}, "is no address"),
        ({"slot": None}, "is no text"),
        ({"family": "GPU!"}, "is no name"),
        ({"need": {"v": [EVIL]}}, "cannot be printed"),
        ({"need": {"v": ["x" * 256]}}, "256 characters, 255 are allowed"),
        ({"need": {"v": "1.2"}}, "is no list"),
        ({"need": {"V!": ["1.2"]}}, "is no name"),
        ({"need": {f"a{n}": None for n in range(300)}}, "300 items, 256 are allowed"),
        ({"assumed": ["other"]}, "an attribute that is not needed"),
        ({"assumed": "v"}, "is no list"),
    ],
)
def test_a_record_that_does_not_fit(change, why):
    assert load(DEVICE) == Need(
        devices=(DeviceNeed.of("gpu", {"v": ["1.2"]}, slot="rc:VGPU", address="0000:81:00.0"),)
    )
    with pytest.raises(wire.WireError, match=why) as caught:
        load(DEVICE | change)
    assert "devices[0]" in str(caught.value)
    assert is_printable(str(caught.value), 300)


def test_an_error_is_short_whatever_was_read():
    for family in ({"x": "y" * 50_000}, "y" * 50_000, EVIL * 100, [EVIL], 10**4_000):
        with pytest.raises(wire.WireError) as caught:
            load(DEVICE | {"family": family})
        assert is_printable(str(caught.value), 300)
        assert is_printable(caught.value.why, 300)


def test_more_pieces_than_any_record_has_are_not_counted():
    with pytest.raises(wire.WireError, match="no number of pieces"):
        wire.load_record({"devcompat:need": '1 9999 00000000 {"devices":[]}'})


# --- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.code_of, ["a", "a-b1", "x" * 64], ["", "A", "a--b", "-a", "a-", "a b", "é"]),
        (checks.address_of, ["", "0000:81:00.0", "~"], [" ", "a\t", "\x7f", "é", "\u200b", None]),
        (checks.uuid_of, [ONE, ONE.upper()], ["", "x", f"{ONE}\n", ONE[1:], ONE.replace("-", "")]),
        (checks.name_of, ["a", "mlx5_vf"], ["", "A", "a__b", "1", "a-b", "a\n", 1, None]),
        (checks.flag_of, [True, False], [0, 1, "true", None, []]),
        (checks.text_of, ["a", "x" * 255, "電"], ["", "x" * 256, "\n", "\u202e", 1, None, []]),
        (checks.actor_of, ["host", "guest", "operator"], ["", "Host", "nobody", 1, None, []]),
    ],
)
def test_shapes(check, good, bad):
    for value in good:
        assert check(value, "place") == value
    for value in bad:
        with pytest.raises(Malformed, match=r"^place: ") as caught:
            check(value, "place")
        assert is_printable(str(caught.value))


@given(texts)
def test_writers_write_what_fits(text):
    assert checks.code_of(checks.fit_code(text), "") == checks.fit_code(text)
    assert checks.address_of(checks.fit_address(text), "") == checks.fit_address(text)


@pytest.mark.parametrize("text", ["fw-too-old", "0000:81:00.0", "a" * 64])
def test_what_fits_is_written_as_it_is(text):
    assert checks.fit_address(text) == text
    assert checks.fit_code(text) == (text if ":" not in text else "0000-81-00-0")
