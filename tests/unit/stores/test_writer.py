# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The one writer: what others write meanwhile is neither lost nor passed over."""

import copy
import threading

import pytest
from nova import exception, objects
from oslo_utils.fixture import uuidsentinel as uuids

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.record import Incarnation
from nova_devcompat.compat.ruling import NO_RECORD, Doubt
from nova_devcompat.compat.verdict import Code
from nova_devcompat.stores import asked, records, writer
from nova_devcompat.stores.writer import Change

objects.register_all()

HERE = Incarnation(node="cmp1", start="7@0a1b2c3d", time="2026-11-27T00:00:00Z", request="req-1")


def part(family, version="1.2"):
    return DeviceNeed.of(family, {"version": [version]}, slot=f"pci:{family}")


def needing(*parts, **options):
    return Change(need=Need(devices=parts), assigned=True, **options)


class Database:
    """One instance, and how often it was saved."""

    def __init__(self):
        self.metadata = {"image_os": "x"}
        self.task_state = None
        self.saves = 0
        self.after_save = lambda: None

    def read(self):
        database = self

        class Instance(objects.Instance):
            def save(self, expected_task_state=None):
                if expected_task_state and database.task_state not in expected_task_state:
                    raise exception.UnexpectedTaskStateError(
                        instance_uuid=self.uuid, expected={}, actual={}
                    )
                database.saves += 1
                database.metadata = dict(self.system_metadata)
                database.after_save()

        made = Instance(
            uuid=uuids.vm,
            system_metadata=dict(self.metadata),
            task_state=self.task_state,
            node="cmp1",
        )
        made.obj_reset_changes()
        return made

    def write(self, merge, **options):
        return writer.write(uuids.vm, self.read, merge, **options)

    @property
    def families(self):
        return wire.load_record(self.metadata).families


@pytest.fixture
def database():
    return Database()


def test_written_once(database):
    for wanted in (True, False, False):
        assert database.write(lambda record: needing(part("gpu"))) is wanted
    assert database.saves == 1
    assert database.metadata["image_os"] == "x"


def test_left_alone(database):
    assert not database.write(lambda record: None)
    assert not database.saves


def test_two_that_write_at_once(database):
    """Each sees what the other has recorded."""
    inside, go = threading.Event(), threading.Event()

    def slow(record):
        inside.set()
        go.wait(5)
        return needing(*(record.need.devices if record else ()), part("gpu"))

    def quick(record):
        return needing(*(record.need.devices if record else ()), part("nic"))

    first = threading.Thread(target=database.write, args=(slow,))
    first.start()
    inside.wait(5)
    second = threading.Thread(target=database.write, args=(quick,))
    second.start()
    go.set()
    first.join(5)
    second.join(5)
    assert database.families == {"gpu", "nic"}


def test_the_mark_that_asks_for_a_guest_is_taken_away_by_the_same_writer(database, monkeypatch):
    """Each save writes all metadata, so that it would take away what was recorded meanwhile."""
    database.metadata[asked.KEY] = "1"
    meanwhile = threading.Thread(
        target=database.write, args=(lambda record: needing(part("gpu")),)
    )

    def read(context, uuid, expected_attrs):
        found = database.read()
        if meanwhile.ident is None:
            meanwhile.start()
            meanwhile.join(0.2)  # it has to wait
        return found

    monkeypatch.setattr(objects.Instance, "get_by_uuid", read)
    asked.answered(None, database.read())
    meanwhile.join(5)
    assert asked.KEY not in database.metadata
    assert database.families == {"gpu"}


def test_the_mark_stays_while_something_is_done_to_the_guest(database, monkeypatch):
    database.metadata[asked.KEY] = "1"
    before = database.read()
    database.task_state = "rebuilding"
    monkeypatch.setattr(objects.Instance, "get_by_uuid", lambda *args, **kwargs: database.read())
    with pytest.raises(exception.UnexpectedTaskStateError):
        asked.answered(None, before)
    assert asked.KEY in database.metadata


def test_somebody_else_who_saves_an_old_copy(database):
    old = dict(database.metadata)

    def undo():
        database.metadata = dict(old)
        database.after_save = lambda: None

    database.after_save = undo
    assert database.write(lambda record: needing(part("gpu")))
    assert database.families == {"gpu"} and database.saves == 2


def test_somebody_else_who_never_stops(database):
    old = dict(database.metadata)
    database.after_save = lambda: setattr(database, "metadata", dict(old))
    with pytest.raises(writer.NotKept, match=uuids.vm):
        database.write(lambda record: needing(part("gpu")))
    assert database.saves == 3


def test_only_where_nothing_is_done_to_it(database):
    database.task_state = "rebooting"
    with pytest.raises(exception.UnexpectedTaskStateError):
        database.write(lambda record: needing(part("gpu")), idle=True)
    assert not database.saves
    assert database.write(lambda record: needing(part("gpu")))
    database.task_state = None

    def begin(record):
        database.task_state = "rebooting"
        return needing(part("nic"))

    with pytest.raises(exception.UnexpectedTaskStateError):
        database.write(begin, idle=True)
    assert database.families == {"gpu"}


def test_a_record_that_cannot_be_read(database):
    database.metadata["devcompat:need"] = "nonsense"
    with pytest.raises(wire.WireError):
        database.write(lambda record: needing(part("gpu")))
    assert database.write(lambda record: needing(part("gpu")), replaces_unreadable=True)
    assert database.families == {"gpu"}


def test_the_callers_copy_follows(database):
    untouched, changed = database.read(), database.read()
    changed.system_metadata["old_vm_state"] = "active"
    for mine in (untouched, changed):
        database.write(lambda record: needing(part("gpu")), copy=mine)
        assert records.load(mine) == Need(devices=(part("gpu"),))
    assert "system_metadata" not in untouched.obj_what_changed()
    # What else its owner has changed is still to be saved, with the record as it is.
    assert "system_metadata" in changed.obj_what_changed()
    assert changed.system_metadata["old_vm_state"] == "active"


class TestIncarnation:
    def test_kept_until_another_is_told(self, database):
        database.write(lambda record: needing(part("gpu"), incarnation=HERE))
        database.write(lambda record: needing(part("gpu", "1.4")))
        recorded = wire.load_whole_record(database.metadata)
        assert recorded.incarnation == HERE
        assert recorded.need.devices == (part("gpu", "1.4"),)

    def test_the_same_start_later_is_no_news(self, database):
        database.write(lambda record: needing(part("gpu"), incarnation=HERE))
        later = Incarnation(node="cmp1", start=HERE.start, time="2026-11-28T00:00:00Z")
        assert not database.write(lambda record: needing(part("gpu"), incarnation=later))
        again = Incarnation(node="cmp1", start="8@0a1b2c3d", time=later.time)
        assert database.write(lambda record: needing(part("gpu"), incarnation=again))
        assert wire.load_whole_record(database.metadata).incarnation == again

    def test_without_a_token_each_is_news(self, database):
        """Its time is all that tells it from others."""
        for time in ("2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"):
            told = Incarnation(node="cmp1", time=time)
            assert database.write(lambda record, told=told: needing(part("gpu"), incarnation=told))

    @pytest.mark.parametrize(
        ("other", "same"),
        [
            (HERE, True),
            (Incarnation(node="cmp1"), True),
            (Incarnation(node="cmp1", start="8@0a1b2c3d"), False),
            (Incarnation(node="cmp1", start="7@ffffffff"), False),
            (Incarnation(node="cmp2", start=HERE.start), False),
            (Incarnation(node="cmp2"), False),
        ],
    )
    def test_which_start_it_is(self, other, same):
        assert HERE.is_of(other) is same and other.is_of(HERE) is same

    @pytest.mark.parametrize("node", ["cmp1", "cmp2", None, "Größe mit Leerraum", "x" * 300])
    def test_a_record_of_another_node(self, database, node):
        told = Incarnation(node=records.node_name("cmp1"), time=HERE.time)
        database.write(lambda record: needing(part("gpu"), incarnation=told))
        instance = copy.copy(database.read())
        instance.node = node
        found = records.read(instance)
        if node in ("cmp1", None):
            assert isinstance(found, Need)
        else:
            assert isinstance(found, Doubt) and found is not NO_RECORD
            assert found.reason.code == Code.RECORD_STALE
            assert "on cmp1 at 2026-11-27" in found.reason.detail

    def test_a_node_of_any_name_is_itself(self, database):
        for name in ("Größe mit Leerraum", "x" * 300):
            told = Incarnation(node=records.node_name(name))
            database.write(lambda record, told=told: needing(part("gpu"), incarnation=told))
            instance = database.read()
            instance.node = name
            assert isinstance(records.read(instance), Need)
