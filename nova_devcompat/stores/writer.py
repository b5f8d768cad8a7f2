# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The one way in which records are written.

Whoever has something to record hands over a function that makes the new need of the recorded one.
The record is read afresh under the guest's lock, so that nothing which another thread has recorded
meanwhile is lost, and read again once it is saved, since Nova's own saves of an instance write its
``system_metadata`` as a whole, and other processes do, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from nova import exception
from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_devcompat import wire
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.record import Incarnation, Record
from nova_devcompat.stores import records

LOG = logging.getLogger(__name__)

_TRIES = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What is to be recorded.

    :param need: what the guest needs
    :param assigned: whether it has a record even if it needs nothing
    :param incarnation: which start of it that is of; None for the one that is recorded
    """

    need: Need
    assigned: bool = False
    incarnation: Incarnation | None = None


#: Makes what is to be recorded of what is, None where there is no record; None to leave it alone.
#: It asks nothing and nobody.
Merge = Callable[[Record | None], Change | None]


class NotKept(Exception):
    """What was saved was not there afterwards, time and again."""


def write(
    uuid: str,
    read: Callable[[], Any],
    merge: Merge,
    *,
    copy: Any = None,
    idle: bool = False,
    replaces_unreadable: bool = False,
) -> bool:
    """Record what follows from what is recorded.

    :param uuid: of the instance
    :param read: reads the instance from the database, with what
        :data:`nova_devcompat.stores.records.RECORD_ATTRIBUTES` names
    :param copy: the caller's instance, which is saved by somebody else later, and is to neither
        undo nor repeat this
    :param idle: whether it is saved only where nothing else is being done to the instance
    :param replaces_unreadable: whether a record that cannot be read is written over
    :returns: whether the record changed
    :raises WireError: there is a record that cannot be read
    :raises UnexpectedTaskStateError: something is being done to the instance
    :raises NotKept: somebody else writes the record all the time
    :raises Exception: whatever Nova raises where its database cannot be asked
    """

    def apply(fresh: Any) -> bool:
        return _apply(fresh, merge, replaces_unreadable)

    def follow(fresh: Any) -> None:
        if copy is not None:
            _follow(copy, fresh)

    lost = f"the record of instance {uuid} is written by somebody else, too"
    return keep(uuid, read, apply, records.entries, lost, idle=idle, then=follow)


def keep(
    uuid: str,
    read: Callable[[], Any],
    change: Callable[[Any], bool],
    entries: Callable[[Any], object],
    lost: str,
    *,
    idle: bool = False,
    then: Callable[[Any], None] = lambda fresh: None,
) -> bool:
    """Change what is kept in an instance's ``system_metadata``, and look whether it stays.

    All that this process keeps there for an instance is written under one lock, since each save
    writes all of it.

    :param uuid: of the instance
    :param read: reads the instance from the database, with its system_metadata
    :param change: changes the instance; whether there was anything to change
    :param entries: what of the instance is to be there afterwards
    :param lost: what is said where somebody else writes it all the time
    :param idle: see :func:`write`
    :param then: is given the instance as it is, under the lock
    :returns: whether something changed
    :raises UnexpectedTaskStateError: something is being done to the instance
    :raises NotKept: somebody else writes it all the time
    """
    changed = False
    saved: object = None
    with lockutils.lock(f"devcompat-record-{uuid}"):
        for _ in range(_TRIES):
            fresh = read()
            if changed and entries(fresh) == saved:
                break
            if idle and fresh.task_state is not None:
                raise exception.UnexpectedTaskStateError(
                    instance_uuid=uuid,
                    expected={"task_state": [None]},
                    actual={"task_state": fresh.task_state},
                )
            if not change(fresh):
                break
            changed = True
            saved = entries(fresh)
            if idle:
                fresh.save(expected_task_state=[None])
            else:
                fresh.save()
        else:
            fresh = read()
            if entries(fresh) != saved:
                raise NotKept(lost)
        then(fresh)
    return changed


def keep_entry(
    uuid: str,
    read: Callable[[], Any],
    key: str,
    text: str | None,
    lost: str,
    *,
    idle: bool = False,
) -> bool:
    """Keep one entry of an instance's ``system_metadata``, or take it away.

    All else is as :func:`keep` has it.

    :param key: of the entry
    :param text: what it is to be; None for none
    """

    def entry(instance: Any) -> object:
        return instance.system_metadata.get(key)

    def change(instance: Any) -> bool:
        if entry(instance) == text:
            return False
        if text is None:
            del instance.system_metadata[key]
        else:
            instance.system_metadata[key] = text
        return True

    return keep(uuid, read, change, entry, lost, idle=idle)


def _apply(fresh: Any, merge: Merge, replaces_unreadable: bool) -> bool:
    """Whether the merge changes a record that was read a moment ago."""
    recorded: Record | None = None
    try:
        recorded = records.load_whole(fresh)
    except wire.WireError:
        if not replaces_unreadable:
            raise
    change = merge(recorded)
    if change is None:
        return False
    incarnation = change.incarnation
    if incarnation is None and recorded is not None:
        incarnation = recorded.incarnation
    if (
        incarnation is not None
        and incarnation.start
        and recorded is not None
        and recorded.incarnation is not None
        and (incarnation.node, incarnation.start)
        == (recorded.incarnation.node, recorded.incarnation.start)
        and change.need == recorded.need
    ):
        # The same of the same start: no reason to write it again.
        incarnation = recorded.incarnation
    return records.store(fresh, change.need, assigned=change.assigned, incarnation=incarnation)


def _follow(copy: Any, fresh: Any) -> None:
    """Let a copy of the instance have the record of another, and say that this is no change."""
    others = "system_metadata" in copy.obj_what_changed()
    mine = {k: v for k, v in copy.system_metadata.items() if not wire.is_record_key(k)}
    theirs = {k: v for k, v in fresh.system_metadata.items() if wire.is_record_key(k)}
    if others:
        # It will be saved as a whole for the sake of what else has changed.
        copy.system_metadata = {**mine, **theirs}
        return
    copy.system_metadata = {**fresh.system_metadata}
    copy.obj_reset_changes(["system_metadata"])
