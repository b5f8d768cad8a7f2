# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Records and stats documents: what is written is read, what is broken is said."""

import base64
import dataclasses
import json
import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_devcompat import wire
from nova_devcompat.compat.family import Family
from nova_devcompat.compat.kinds import Equal, Semver, Superset
from nova_devcompat.compat.need import DeviceNeed, InMigration, Need
from nova_devcompat.compat.record import Incarnation, Record
from nova_devcompat.compat.verdict import Outcome
from tests.unit.providers import uuid_of

names = st.from_regex(r"[a-z][a-z0-9]{0,8}(_[a-z0-9]{1,4}){0,2}", fullmatch=True)
printed = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=30)
values = st.none() | st.frozensets(printed, max_size=5)
addresses = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=50)


@st.composite
def devices(draw):
    needed = draw(st.dictionaries(names, values, max_size=4))
    return DeviceNeed.of(
        draw(names),
        needed,
        slot=draw(addresses),
        address=draw(addresses),
        assumed=[name for name in needed if draw(st.booleans())],
        in_migration=draw(st.sampled_from(InMigration)),
    )


def second(payload):
    """A record in format 2 of one piece, its checksum right."""
    return f"2 1 {format(zlib.crc32(payload.encode()), '08x')} {payload}"


def packed(content, behind=b""):
    """What somebody else may put in the place of a packed text."""
    deflate = zlib.compressobj(wbits=-15)
    return base64.b85encode(deflate.compress(content) + deflate.flush() + behind).decode()


PORT = "pci:8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11"
ONE_DEVICE = [
    Need(devices=(DeviceNeed.of(family, values, slot=slot, address="0000:81:00.1"), *others))
    for family, values, slot, *others in [
        ("mlx5_vf", {"fw_version": ["28.39"], "caps": ["migration", "p2p"]}, PORT),
        ("nvidia_vgpu", {"vgpu_version": ["14.1"], "vgpu_type": ["nvidia-558"]}, "rc:VGPU"),
        ("qat_vf", {"services": ["sym;asym"], "rings": ["aa", "bb"], "caps": ["0x1f"]}, PORT),
        (
            "mlx5_vf",
            {"fw_version": ["28.39"]},
            PORT,
            DeviceNeed.of("qemu_machine", {"machine_type": ["pc-q35-9.2"]}, slot="host:qemu"),
        ),
    ]
]


needs = st.builds(lambda listed: Need(devices=tuple(listed)), st.lists(devices(), max_size=6))


def _doubled(need):
    """The same and more of it, so that its record has several pieces."""
    return Need(devices=need.devices * 10)


incarnations = st.none() | st.builds(
    Incarnation, node=addresses.filter(bool), start=addresses, time=addresses, request=addresses
)


class TestPostCopy:
    """What a host says of post-copy."""

    @pytest.mark.parametrize("version", sorted(wire.STATS_READERS))
    @pytest.mark.parametrize("permitted", [True, False, None])
    def test_as_it_was_written(self, version, permitted):
        document = wire.HostDocument(catalog="c", devices=(), post_copy=permitted)
        assert wire.load_stats(wire.dump_stats(document, version)).post_copy is permitted

    @pytest.mark.parametrize("said", ["true", 1, [], {}])
    def test_what_cannot_be_read_is_not_known(self, said):
        content = json.loads(wire.dump_stats(wire.HostDocument(catalog="c", devices=())))
        assert wire.load_stats(json.dumps({**content, "t": said})).post_copy is None


class TestRecord:
    @given(needs, incarnations, st.sampled_from(sorted(wire.RECORD_READERS)))
    def test_what_is_written_is_read(self, need, incarnation, version):
        record = wire.dump_record(need, incarnation, version)
        assert wire.load_whole_record(record) == Record(need=need, incarnation=incarnation)
        assert record["devcompat:need"].startswith(f"{version} {len(record)} ")
        assert all(len(key) <= 255 and len(value) <= 255 for key, value in record.items())
        assert all(key.startswith(wire.METADATA_PREFIX) for key in record)

    @given(needs)
    def test_the_same_need_is_the_same_text(self, need):
        again = Need(devices=tuple(need.devices))
        assert wire.dump_record(need) == wire.dump_record(again)

    def test_that_nothing_is_needed_is_recorded(self):
        """No record at all is another thing: then nothing is known."""
        record = wire.dump_record(Need())
        assert record == {"devcompat:need": '1 1 c90d90e1 {"devices":[]}'}
        assert wire.load_record(record) == Need()
        assert wire.load_record({"image_os": "x", "devcompat:other": "y"}) is None

    def test_a_short_record_is_one_entry(self):
        need = Need(
            devices=(
                DeviceNeed.of(
                    "mlx5_vf",
                    {"fw_version": ["28.39"]},
                    slot="pci:8d1b0ef4-5b0b-4a3e-a1e9-7c2f6a9a2d11",
                    address="0000:81:00.1",
                ),
            )
        )
        assert list(wire.dump_record(need)) == ["devcompat:need"]

    @given(needs, incarnations)
    def test_the_same_is_recorded_in_all_formats(self, need, incarnation):
        first, second = (wire.dump_record(need, incarnation, version) for version in (1, 2))
        assert wire.same_record(first, second)
        # What is left of a longer one is no part of it.
        assert not wire.same_record(first, {**second, "devcompat:need.900": "x"})
        other = wire.dump_record(need, Incarnation(node="another"), 2)
        assert not wire.same_record(first, other)
        # Nor is what cannot be read, to itself either: it is written anew.
        for none in ({}, {"devcompat:need": "x"}, {"devcompat:need": "1 1 00000000 {}"}):
            assert not wire.same_record(none, second)
            assert not wire.same_record(none, none)

    @pytest.mark.parametrize("need", ONE_DEVICE)
    def test_one_device_is_one_row(self, need):
        """With the longest tokens that libvirt and Nova make."""
        incarnation = Incarnation(
            node="compute-0017.rack4.example.org",
            start="1124@0b5e8a53-6d0c-4c0a-9a42-2f5c7c1d9e60",
            time="2026-11-27T07:20:18Z",
            request="req-7c2f6a9a-2d11-4a3e-a1e9-8d1b0ef45b0b",
        )
        assert len(wire.dump_record(need, incarnation)) == 2
        assert len(wire.dump_record(need, incarnation, 2)) == 1

    def test_many_devices_of_many_features(self):
        features = [f"VIRTIO_NET_F_FEATURE_{number:02d}" for number in range(60)]
        devices = tuple(
            DeviceNeed.of(
                "vdpa_net",
                {"features": features, "fw_version": ["28.39"]},
                slot=f"pci:{uuid.uuid5(uuid.NAMESPACE_DNS, str(number))}",
                address=f"0000:81:00.{number}",
            )
            for number in range(8)
        )
        need = Need(devices=devices)
        assert len(wire.dump_record(need)) > 50
        assert len(wire.dump_record(need, version=2)) <= 4

    @given(
        st.builds(_doubled, needs.filter(lambda need: need.devices)),
        st.sampled_from(sorted(wire.RECORD_READERS)),
        st.data(),
    )
    def test_a_missing_or_strange_piece_is_noticed(self, need, version, data):
        record = wire.dump_record(need, version=version)
        key = data.draw(st.sampled_from(sorted(record)))
        without = {k: v for k, v in record.items() if k != key}
        if without:  # no record at all is another thing
            with pytest.raises(wire.WireError):
                wire.load_record(without)
        with pytest.raises(wire.WireError):
            wire.load_record({**record, key: record[key][:-1] + "\x7f"})

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "first piece"),
            ("3 1 00000000 {}", "format 3 by a newer nova-devcompat; this one reads 1 and 2"),
            ("2 1 00000000 {}", "checksum"),
            ("2 2 00000000 {}", "piece 2 of 2 is missing"),
            (second("{}"), "cannot be unpacked"),
            (second("\x01"), "cannot be unpacked"),
            (second(packed(b"x" * 9)[:-2]), "its end is missing"),
            (second(packed(b"{}" + bytes(9))), "no JSON"),
            (second(packed(b"\xff")), "cannot be unpacked: 'ascii'"),
            (second(packed(b"", behind=b"more")), "there is more behind its end"),
            (second(packed(bytes(10**6))), "more than 261120 characters"),
            # Each of these UUIDs is twice as long as what stands for it.
            (second(packed((b"\x01" + bytes(16)) * 8_000)), "more than 261120 characters"),
            ("0 1 00000000 {}", "no format version that is known"),
            ("x", "no format version that is known"),
            ("1", "malformed"),
            ("1 1 00000000 {}", "checksum"),
            ("1 3 00000000 {}", "piece 2 of 3 is missing"),
            ("1 x 00000000 {}", "malformed"),
        ],
    )
    def test_garbage(self, text, why):
        with pytest.raises(wire.WireError, match=why):
            wire.load_record({"devcompat:need": text})

    @pytest.mark.parametrize(
        "payload",
        [
            "{}",
            "[]",
            '{"devices":[{}]}',
            '{"devices":[{"family":"A","slot":"","address":"","need":{}}]}',
            '{"devices":[{"family":"a","slot":1,"address":"","need":{}}]}',
            '{"devices":[{"family":"a","slot":"","address":"","need":{"x":[""]}}]}',
            '{"devices":[{"family":"a","slot":"","address":"","need":{"x":[1]}}]}',
            '{"devices":[{"family":"a","slot":"","address":"","need":[]}]}',
            "[" * 100_000,
        ],
    )
    def test_a_whole_record_with_strange_content(self, payload):
        crc = format(zlib.crc32(payload.encode()), "08x")
        text = f"1 1 {crc} {payload}"
        with pytest.raises(wire.WireError, match="malformed"):
            wire.load_record({"devcompat:need": text})

    @given(st.dictionaries(st.just("devcompat:need") | st.text(), st.none() | st.text()))
    def test_nothing_but_a_wire_error(self, metadata):
        try:
            wire.load_record(metadata)
        except wire.WireError:
            pass

    @pytest.mark.parametrize("done", InMigration)
    def test_what_a_live_migration_does(self, done):
        need = Need(devices=(DeviceNeed.of("nic", {"a": ["1"]}, in_migration=done),))
        record = wire.dump_record(need)
        assert wire.load_record(record) == need
        assert ("in_migration" in record["devcompat:need"]) is (done is not InMigration.STAYS)

    @pytest.mark.parametrize("written", ["of-a-later-release", 1, None, ["hidden"]])
    def test_what_is_not_known_asks_for_most(self, written):
        content = {"family": "nic", "slot": "", "address": "", "need": {}, "in_migration": written}
        payload = json.dumps({"devices": [content]})
        crc = format(zlib.crc32(payload.encode()), "08x")
        (device,) = wire.load_record({"devcompat:need": f"1 1 {crc} {payload}"}).devices
        assert device.in_migration is InMigration.STAYS

    def test_unknown_keys_are_passed_over(self):
        """A later release of the same format may add some."""
        payload = (
            '{"new":1,"devices":[{"family":"a","slot":"","address":"","need":{"x":["1"]},"y":2}]}'
        )
        crc = format(zlib.crc32(payload.encode()), "08x")
        need = wire.load_record({"devcompat:need": f"1 1 {crc} {payload}"})
        assert need == Need(devices=(DeviceNeed.of("a", {"x": ["1"]}),))


FAMILY = Family(
    name="gpu", rules={"version": Semver(), "caps": Superset(), "mode": Equal(), "lost": Equal()}
)
ATTRIBUTES = {"caps": ["migration", "p2p"], "mode": "Ecc On", "lost": None}


def accept_set(version, known):
    offers = [FAMILY.offer({"version": other, **ATTRIBUTES}) for other in known]
    atoms = {atom for offer in offers for atom in offer.atoms()}
    return FAMILY.offer({"version": version, **ATTRIBUTES}).accept_set(atoms)


class TestStats:
    def document(self, **options):
        known = ["1.0", "1.2", "2.0"]
        return wire.HostDocument(
            catalog="0123456789ab",
            devices=(
                wire.PublishedDevice(
                    address="0000:81:00.0",
                    accepts=accept_set("1.2", known),
                    providers=("e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10",),
                ),
                wire.PublishedDevice(address="0000:82:00.0", accepts=accept_set("1.0", known)),
            ),
            **options,
        )

    def test_what_is_written_is_read(self):
        document = self.document(whole=True)
        read = wire.load_stats(wire.dump_stats(document))
        assert read == document
        assert read.whole
        verdict = read.devices[0].accepts.judge(
            DeviceNeed.of("gpu", {"version": ["2.0"], "caps": [], "mode": [], "lost": []})
        )
        assert verdict.outcome is Outcome.REJECT
        (reason,) = verdict.reasons
        assert (reason.code, reason.needed, reason.offered) == ("major-differs", "2.0", "1.2")

    def test_the_same_whatever_the_order(self):
        document = self.document()
        turned = wire.HostDocument(
            catalog=document.catalog, devices=tuple(reversed(document.devices))
        )
        assert wire.dump_stats(document) == wire.dump_stats(turned)

    def test_two_parents_with_128_functions_take_less_than_2_kib(self):
        """Budget of the design: a parent stands for its functions."""
        known = ["28.36.1010", "28.39.1002", "28.40.1000", "28.41.1000", "28.42.1000"]
        family = Family(name="mlx5_vf", rules={"fw_version": Semver(), "caps": Superset()})
        offers = [family.offer({"fw_version": v, "caps": ["migration", "p2p"]}) for v in known]
        atoms = {atom for offer in offers for atom in offer.atoms()}
        document = wire.HostDocument(
            catalog="0123456789ab",
            devices=tuple(
                wire.PublishedDevice(
                    address=f"0000:8{index}:00.0",
                    accepts=offers[index].accept_set(atoms),
                    providers=("e5a2e1f0-6a53-4f3c-8d57-6d3e6c8a2b10",),
                )
                for index in range(2)
            ),
        )
        assert len(wire.dump_stats(document)) <= 2048

    def test_too_long(self):
        devices = tuple(
            wire.PublishedDevice(
                address=str(number),
                accepts=accept_set("1.0", ["1.0"]),
                providers=tuple(str(uuid.uuid4()) for _ in range(20)),
            )
            for number in range(100)
        )
        with pytest.raises(wire.StatsTooLong, match="100 devices in 1 unlike groups"):
            wire.dump_stats(wire.HostDocument(catalog="", devices=devices))

    def test_alike_hosts_share_a_shape_and_an_accept_set(self):
        reader = wire.StatsReader()

        def host(provider, version="1.2", whole=True):
            accepts = accept_set(version, ["1.0", "1.2"])
            return reader.read(
                wire.dump_stats(
                    wire.HostDocument(
                        catalog="",
                        whole=whole,
                        devices=(
                            wire.PublishedDevice(
                                address="a", accepts=accepts, providers=(uuid_of(provider),)
                            ),
                        ),
                    )
                )
            )

        one, two, other = host("p1"), host("p2"), host("p3", "1.0")
        assert one.shape == two.shape is not None
        assert one.devices[0].accepts is two.devices[0].accepts
        assert other.shape not in (None, one.shape)
        assert host("p4", whole=False).shape is None
        assert wire.StatsReader().read(wire.dump_stats(self.document(whole=True))).shape is None

    def test_parts_of_the_host_stand_apart(self):
        part = wire.PublishedDevice(address="qemu", accepts=accept_set("1.2", ["1.0", "1.2"]))
        document = self.document(whole=True, host=(part,))
        read = wire.load_stats(wire.dump_stats(document))
        assert read == document
        assert read.by_family == {"gpu": part.accepts}
        assert [device.address for device in read.devices] == ["0000:81:00.0", "0000:82:00.0"]

    def test_the_host_is_part_of_the_shape_and_of_the_kin(self):
        reader = wire.StatsReader()
        devices = self.document().devices[:1]

        def read(*versions, devices=devices):
            host = tuple(
                wire.PublishedDevice(address=f"qemu{index}", accepts=accept_set(version, ["1.0"]))
                for index, version in enumerate(versions)
            )
            document = wire.HostDocument(catalog="", whole=True, devices=devices, host=host)
            return reader.read(wire.dump_stats(document))

        found = [read(), read("1.0"), read("1.2"), read("1.0", devices=())]
        assert len({one.shape for one in found}) == len({one.kin for one in found}) == 4
        assert None not in {one.shape for one in found}
        # Without a host family nothing is as it was not before.
        assert '"h"' not in wire.dump_stats(self.document())

    def test_a_text_is_parsed_once(self):
        reader = wire.StatsReader()
        text = wire.dump_stats(self.document())
        assert reader.read(text) is reader.read(text)

    def test_a_shape_stands_in_the_text(self):
        document = wire.HostDocument(catalog="", whole=True, devices=self.document().devices[:1])
        text = wire.dump_stats(document)
        assert text[wire.SHAPE] == wire.load_stats(text).shape
        forged = text.replace(text[wire.SHAPE], "0" * 16)
        assert wire.load_stats(forged).shape is None
        # An earlier release wrote none; such documents are read all the same.
        without = json.loads(text)
        del without["a"]
        assert wire.load_stats(json.dumps(without)).shape is None

    def test_a_text_that_has_a_shape_says_how_long_it_is(self):
        document = wire.HostDocument(catalog="", whole=True, devices=self.document().devices[:1])
        text = wire.dump_stats(document)
        assert wire.says_its_length(text)
        assert text[wire.HEAD].startswith(text[wire.SHAPE])
        assert text[wire.HEAD].endswith(f"{len(text):05}")
        assert json.loads(text)["b"] == f"{len(text):05}"
        others = [text[:end] for end in range(len(text))]
        others += [f"{text[:at]} {text[at:]}" for at in range(len(text))]
        for other in (*others, f"{text}}}", text.encode(), None, 7, "", [text]):
            assert not wire.says_its_length(other)
        assert not wire.says_its_length(wire.dump_stats(self.document(whole=True)))  # no shape

    def test_whether_placement_knows_the_devices_is_part_of_the_shape(self):
        placed, other = self.document().devices[:1], self.document().devices[:1]
        unplaced = tuple(dataclasses.replace(one, providers=()) for one in other)
        texts = [
            wire.dump_stats(wire.HostDocument(catalog="", whole=True, devices=devices))
            for devices in (placed, unplaced)
        ]
        assert len({text[wire.SHAPE] for text in texts}) == 2

    def test_the_reader_does_not_grow_for_ever(self):
        reader = wire.StatsReader(limit=3)
        for number in range(10):
            reader.read(json.dumps({"v": 1, "c": str(number), "g": []}))
        assert len(reader._documents) <= 3

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "malformed: no JSON"),
            ("[]", "malformed: a list is no mapping"),
            ('"x"', "malformed: 'x' is no mapping"),
            ("{}", "no format version"),
            ('{"v":true}', "no format version"),
            ('{"v":3}', "format 3 by a newer"),
            ('{"v":2}', "malformed: 'd' is missing"),
            ('{"d":7,"v":2}', "malformed: d: no ASCII text"),
            ('{"v":1}', "malformed: 'c' is missing"),
            ('{"v":1,"c":""}', "malformed: 'g' is missing"),
            ('{"v":1,"c":"","g":{}}', "malformed: g: a mapping is no list"),
            ('{"v":1,"c":"a\\n","g":[]}', r"malformed: c: 'a\\+n' cannot be printed"),
            ('{"v":1,"c":"","g":[],"w":1}', "malformed: w: 1 is neither true nor false"),
            ('{"v":1,"v":1,"c":"","g":[]}', "malformed: 'v' is given twice"),
            ('{"v":1,"c":NaN,"g":[]}', "malformed: c: a number without bounds is no text"),
            pytest.param(f'{{"v":{"9" * 5_000}}}', "known: a number without bounds", id="digits"),
            # Python 3.14 goes down to its end, where the others give up.
            pytest.param("[" * 60_000, "malformed: (nested too deep|no JSON)", id="deep"),
            pytest.param(f'"{"x" * 70_000}"', "no text of at most 65536 characters", id="long"),
        ],
    )
    def test_garbage(self, text, why):
        with pytest.raises(wire.WireError, match=why) as caught:
            wire.load_stats(text)
        assert len(str(caught.value)) <= 300
        assert str(caught.value).isprintable()
        assert isinstance(wire.StatsReader().read(text), wire.WireError)

    @pytest.mark.parametrize("opened", ["[", '{"f":'])
    @pytest.mark.parametrize("depth", [100, 7_000])
    def test_what_is_deep_and_well_formed(self, opened, depth):
        """How deep JSON may be depends on the release of Python; what is told of it does not."""
        closed = {"[": "]"}.get(opened, "}")
        deep = f"{opened * depth}1{closed * depth}"
        for text in (
            f'{{"v":1,"c":"","w":true,"g":[{deep}]}}',
            f'{{"v":1,"c":"","w":true,"g":[{{"f":"gpu","d":{{}},"r":{{"a":{deep}}}}}]}}',
        ):
            read = wire.StatsReader().read(text)
            assert isinstance(read, wire.WireError) or (read.unreadable and not read.whole)
            assert len(str(read)) <= 1_000

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["v", "c", "g", "f", "r", "d", "k", "o", "y", "n", "u"]), inner
                )
            ),
            max_leaves=20,
        )
    )
    def test_nothing_but_a_wire_error(self, content):
        if isinstance(content, dict):
            content["v"] = 1
        read = wire.StatsReader().read(json.dumps(content))
        assert isinstance(read, wire.HostDocument | wire.WireError)
