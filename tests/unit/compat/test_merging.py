# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What becomes of a record: whose a device is, and whether it can be read, are two questions."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_devcompat.compat import merging
from nova_devcompat.compat.merging import Findings, Found
from nova_devcompat.compat.need import DeviceNeed, InMigration, Need, host_slot
from tests.budget import scaled

RULES = {
    "gpu": {"version", "driver_origin"},
    "nic": {"version"},
    "qemu": {"version", "machine", "more"},
}
GPU_SLOT, NIC_SLOT = "rc:VGPU", "pci:one"
HERE, THERE = "0000:81:00.1", "0000:82:00.1"
MERGES = (
    merging.initialised,
    merging.assumed,
    merging.completed,
    merging.arrived,
    merging.followed,
)


def need(
    family="nic",
    version="1.2",
    slot=NIC_SLOT,
    address=HERE,
    *,
    assumed=(),
    in_migration=InMigration.STAYS,
    **others,
):
    return DeviceNeed.of(
        family,
        {"version": None if version is None else [version], **others},
        slot=slot,
        address=address,
        assumed=assumed,
        in_migration=in_migration,
    )


def found(now=None, slot=NIC_SLOT, address=HERE, **options):
    return Found(slot=slot, address=address, now=now, **options)


def findings(*devices, **options):
    return Findings(devices=devices, rules=RULES, **options)


def of(*needs):
    return Need(devices=needs)


class TestMoreDevicesThanRecorded:
    """Nobody told what the guest needs of the others."""

    def test_the_record_is_of_one(self):
        before = need("nic", address="0000:83:00.1")
        other = need(version="1.4", address=THERE)
        both = findings(found(need(version="1.3")), found(other, address=THERE))
        (first, second) = merging.completed(of(before), both).devices
        assert first == before.moved(HERE)
        assert second == other.assuming()

    def test_one_that_cannot_be_read_needs_nothing(self):
        for in_migration in InMigration:
            one = found(in_migration=in_migration)
            assert merging.arrived(of(), findings(one)) == of()


class TestInitialised:
    def test_read_anew(self):
        now = need(version="1.4")
        assert merging.initialised(of(need()), findings(found(now))) == of(now)

    def test_one_that_cannot_be_read_is_not_known(self):
        before = of(need(), need("gpu", slot=GPU_SLOT, address=THERE))
        now = need("gpu", "1.4", slot=GPU_SLOT, address=THERE)
        both = findings(found(), found(now, slot=GPU_SLOT, address=THERE))
        assert merging.initialised(before, both) == of(need(version=None), now)

    def test_where_one_is_that_cannot_be_read(self):
        """It is known where it is and what becomes of it, but not what it is."""
        before = need(assumed=["version"])
        there = found(address=THERE, in_migration=InMigration.HIDDEN)
        assert merging.initialised(of(before), findings(there)) == of(
            need(version=None, address=THERE, in_migration=InMigration.HIDDEN)
        )

    def test_one_that_it_has_no_more(self):
        """As after the revert of a resize."""
        assert merging.initialised(of(need()), findings()) == of()

    @pytest.mark.parametrize("slot", [GPU_SLOT, NIC_SLOT])
    def test_while_placement_does_not_tell(self, slot):
        before = of(need(slot=slot))
        kept = merging.initialised(before, findings(complete=False))
        # Nova's PCI tracker tells all the same.
        assert kept == (of(need(version=None, slot=slot)) if slot == GPU_SLOT else of())

    def test_a_family_that_is_gone(self):
        assert merging.initialised(of(need("old")), findings(found())) == of()

    def test_started_when_nobody_looked(self):
        now = need(version="1.4")
        assert merging.assumed(of(need()), findings(found(now))) == of(now.assuming())


class TestCompleted:
    def test_what_is_recorded_stays(self):
        now = need(version="1.4")
        assert merging.completed(of(need()), findings(found(now))) == of(need())
        assert merging.completed(of(need()), findings(found())) == of(need())

    def test_what_is_not_known_is_assumed(self):
        now = need(version="1.4")
        for before in (of(), of(need(version=None))):
            assert merging.completed(before, findings(found(now))) == of(now.assuming())

    def test_a_family_that_was_renamed(self):
        now = need("nic", "1.2")
        assert merging.completed(of(need("old")), findings(found(now))) == of(now.assuming())

    def test_a_family_that_is_gone(self):
        assert merging.completed(of(need("old")), findings(found())) == of()

    def test_one_that_it_has_no_more(self):
        assert merging.completed(of(need()), findings()) == of()

    def test_one_that_nova_has_lost(self):
        """It is asked for, and nothing is claimed for it. A restart takes it away."""
        there = findings(requested={NIC_SLOT})
        assert merging.completed(of(need()), there) == of(need())
        assert merging.initialised(of(need()), there) == of()
        assert merging.completed(of(), there) == of()

    def test_while_placement_does_not_tell(self):
        """What nobody names is kept beside what is there, unless its family is gone."""
        kept = need("gpu", slot=GPU_SLOT, address=THERE)
        old = need("old", slot=GPU_SLOT, address="0000:83:00.1")
        now = need(version="1.4")
        some = findings(found(now), complete=False)
        assert merging.completed(of(need(), kept, old), some) == of(need(), kept)
        assert merging.completed(of(need(), kept, old), findings(found(now))) == of(need())

    def test_what_a_live_migration_does_with_it_is_as_it_is_now(self):
        """As Nova tells of the port, whatever was recorded."""
        hidden = found(need(), in_migration=InMigration.HIDDEN)
        (part,) = merging.completed(of(need()), findings(hidden)).devices
        assert part == need(in_migration=InMigration.HIDDEN)

    @pytest.mark.parametrize("old", ["", "0000:99:00.1"])
    def test_an_address_that_is_not_its_own(self, old):
        """As one that arrived while nobody looked has it, which usage would never find."""
        now = need(version="1.4")
        assert merging.completed(of(need(address=old)), findings(found(now))) == of(need())

    def test_a_request_that_got_a_new_id(self):
        now = need(version="1.4", slot="pci:two")
        assert merging.completed(of(need()), findings(found(now, slot="pci:two"))) == of(
            need(slot="pci:two")
        )

    def test_an_entry_that_was_withdrawn(self):
        """What the guest was started on goes, of devices that can be read and of others.

        An attribute of any other name stays: its rule may have yet to come to this host.
        """
        kept = need("gpu", slot=GPU_SLOT, address=THERE, driver_origin=["4"])
        other = need("nic", driver=["4"])
        host = need("qemu", slot=host_slot("qemu"), address="")
        before = of(
            kept,
            need("nic", driver=["4"], driver_origin=["4"], assumed=["driver_origin"]),
            need("qemu", slot=host_slot("qemu"), address="", own_origin=["9.0"]),
        )
        there = found(need("gpu", slot=GPU_SLOT, address=THERE), slot=GPU_SLOT, address=THERE)
        for now in None, need("nic", "1.4"):
            for here in findings(there, found(now)), findings(there, found(now), host=(host,)):
                assert merging.completed(before, here) == of(kept, other, host)

    def test_of_the_host(self):
        slot = host_slot("qemu")
        now = DeviceNeed.of("qemu", {"machine": ["q2"], "more": ["x"]}, slot=slot)
        before = DeviceNeed.of("qemu", {"machine": ["q1"]}, slot=slot)
        here = findings(host=(now,))
        assert merging.completed(of(), here) == of(now.assuming())
        (part,) = merging.completed(of(before), here).devices
        assert dict(part.values) == {"machine": frozenset({"q1"}), "more": frozenset({"x"})}
        assert part.assumed == {"more"}
        assert merging.completed(of(before), findings()) == of(before), "libvirt is silent"
        gone = Findings(rules={"nic": {"version"}})
        assert merging.completed(of(before), gone) == of()


class TestArrived:
    def test_what_stays(self):
        there = found(need(version="1.6", address=THERE), address=THERE)
        assert merging.arrived(of(need()), findings(there)) == of(need(address=THERE))

    @pytest.mark.parametrize("done", [InMigration.REPLUGGED, InMigration.HIDDEN])
    def test_what_does_not(self, done):
        before = of(need(in_migration=done))
        now = need(version="1.0", address=THERE, in_migration=done)
        there = found(now, address=THERE, in_migration=done)
        assert merging.arrived(before, findings(there)) == of(now)
        silent = dataclasses.replace(there, now=None)
        unknown = need(version=None, address=THERE, in_migration=done)
        assert merging.arrived(before, findings(silent)) == of(unknown)
        assert merging.arrived(before, findings()) == of(), "it was detached"

    def test_one_that_nova_does_not_name(self):
        assert merging.arrived(of(need()), findings()) == of(need(address=""))

    def test_one_that_nova_names_and_one_that_it_does_not(self):
        other = need("gpu", slot=GPU_SLOT)
        there = findings(found(address=THERE))
        assert merging.arrived(of(need(), other), there) == of(
            need(address=THERE), other.moved("")
        )

    def test_each_answers_its_own_request(self):
        """In whatever order they are found."""
        one, two = need(version="1.0"), need(version="1.4", slot="pci:two")
        there = findings(
            found(slot="pci:two", address="0000:83:00.1"), found(address="0000:84:00.1")
        )
        assert set(merging.arrived(of(one, two), there).devices) == {
            one.moved("0000:84:00.1"),
            two.moved("0000:83:00.1"),
        }

    @pytest.mark.parametrize("was", InMigration)
    def test_several_alike_of_one_request(self, was):
        """It does not matter which is which, nor what another migration did with them."""
        one, two = need(address="s0"), need(address="s1", in_migration=was)
        there = findings(found(address="d0"), found(address="d1"))
        moved = merging.arrived(of(one, two), there).devices
        assert {part.address for part in moved} == {"d0", "d1"}

    def test_one_of_several_of_one_request(self):
        """What is recorded of it does not change when Nova names it once more."""
        one, two = need(version="1.0", address="s0"), need(version="1.4", address="s1")
        there = findings(found(address="d0"))
        once = merging.arrived(of(one, two), there)
        assert once == of(one.moved("d0"), two.moved(""))
        assert merging.arrived(once, there) == once

    @pytest.mark.parametrize("merge", [merging.arrived, merging.followed])
    def test_addresses_of_the_host_that_it_left(self, merge):
        """Here they are of others, so that requests decide."""
        one, two = need(version="1.0"), need(version="1.4", slot="pci:two", address=THERE)
        there = findings(found(address=THERE), found(slot="pci:two", address=HERE))
        assert merge(of(one, two), there) == of(one.moved(THERE), two.moved(HERE))

    def test_several_of_one_request(self):
        """The source has said which is which; without that, nobody knows."""
        one, two = need(version="1.0", address="s0"), need(version="1.4", address="s1")
        there = findings(found(address="d0"), found(address="d1"))
        moved = of(one.moved("d1"), two.moved("d0"))
        assert set(merging.arrived(moved, there).devices) == set(moved.devices)
        untold = merging.arrived(of(one, two), there).devices
        assert [part.address for part in untold] == ["", ""]
        assert set(untold) == {one.moved(""), two.moved("")}


class TestFollowed:
    """Live migrated to where nobody looked."""

    def test_what_stays(self):
        there = found(need(version="1.6", address=THERE), address=THERE)
        assert merging.followed(of(need()), findings(there)) == of(need(address=THERE))
        now = need(version="1.6", address=THERE)
        assert merging.followed(of(), findings(there)) == of(now.assuming())

    @pytest.mark.parametrize("done", [InMigration.REPLUGGED, InMigration.HIDDEN])
    def test_what_does_not(self, done):
        """It was initialised there, but that may have been long ago."""
        now = need(version="1.0", address=THERE, in_migration=done)
        there = findings(found(now, address=THERE, in_migration=done))
        assert merging.followed(of(need(in_migration=done)), there) == of(now.assuming())


# --- whatever there is ---------------------------------------------------------------------------

slots = st.sampled_from([GPU_SLOT, NIC_SLOT, "pci:two"])
addresses = st.sampled_from(["", HERE, THERE, "0000:83:00.1"])
versions = st.sampled_from([None, "1.2", "1.4"])
ways = st.sampled_from(InMigration)


@st.composite
def recorded(draw):
    parts = draw(
        st.lists(
            st.builds(
                need,
                st.sampled_from(["gpu", "nic", "old"]),
                versions,
                slots,
                addresses,
                in_migration=ways,
                driver_origin=st.just(["4"]),
            ),
            max_size=4,
        )
    )
    host = draw(st.lists(versions, max_size=1))
    parts += [need("qemu", one, host_slot("qemu"), "") for one in host]
    return of(*parts)


@st.composite
def anything_found(draw):
    devices = []
    for address in draw(st.lists(addresses.filter(bool), unique=True, max_size=3)):
        slot, way = draw(slots), draw(ways)
        family = draw(st.sampled_from([None, "gpu", "nic"]))
        now = (
            None
            if family is None
            else need(family, draw(versions), slot, address, in_migration=way)
        )
        devices.append(found(now, slot, address, in_migration=way))
    host = draw(st.lists(versions, max_size=1))
    return findings(
        *devices,
        host=tuple(need("qemu", one, host_slot("qemu"), "") for one in host),
        complete=draw(st.booleans()),
        requested=draw(st.sets(slots, max_size=1)),
    )


def wherever(need):
    """What is needed, but not of which of the guest's devices."""
    return [
        dataclasses.replace(one, address="", in_migration=InMigration.STAYS)
        for one in need.devices
    ]


@given(recorded(), anything_found(), st.sampled_from(MERGES))
@settings(max_examples=scaled(200))
def test_whatever_there_is(before, there, merge):
    after = merge(before, there)
    if there.complete:
        # Where one is that is told from another by what became of that is known the next time.
        again = merge(after, there)
        assert wherever(again) == wherever(after)
        assert merge(again, there) == again
    assert len(after.assigned) <= len(there.devices) + len(before.assigned)
    named = {one.slot for one in there.devices}
    for part in after.assigned:
        if merge is not merging.arrived:
            assert part.family in RULES
            assert part.slot in named | there.requested or not there.complete
            assert part.family == "gpu" or "driver_origin" not in dict(part.values)
    if merge is not merging.arrived:
        # Of a device that can be read, something is recorded.
        readable = [one for one in there.devices if one.now is not None]
        assert len(after.assigned) >= len(readable)
