# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests that an operator wants their nova-compute to look at.

A command on a controller cannot tell what a guest uses of its host, which its domain says. So it
leaves a mark with the instance, for which nova-compute asks in each of its cycles: one query, and
as cheap however many guests there are.
"""

from __future__ import annotations

from typing import Any

from nova import objects

from nova_devcompat import wire
from nova_devcompat.stores import writer

#: No record's key, so that older releases pass it over.
KEY = wire.METADATA_PREFIX + "asked"
_VALUE = "1"


def ask(instance: Any) -> bool:
    """Mark an instance, for the caller to save.

    :returns: whether that is a change
    """
    changed: bool = instance.system_metadata.get(KEY) != _VALUE
    instance.system_metadata[KEY] = _VALUE
    return changed


def guests(context: Any, host: str, nodename: str) -> set[str]:
    """The UUIDs of the marked instances of a node.

    :raises Exception: whatever Nova raises where its database cannot be asked
    """
    found = objects.InstanceList.get_by_filters(
        context,
        {"host": host, "deleted": False, "system_metadata": {KEY: _VALUE}},
        expected_attrs=[],
    )
    return {each.uuid for each in found if each.node == nodename}


def answered(context: Any, instance: Any) -> None:
    """Take the mark away, if there is one, and save that.

    :param instance: as it was read before it was looked at
    :raises UnexpectedTaskStateError: something is being done to the instance
    :raises Exception: whatever Nova raises where its database cannot be asked
    """
    if KEY not in instance.system_metadata:
        return

    def read() -> Any:
        return objects.Instance.get_by_uuid(
            context, instance.uuid, expected_attrs=["system_metadata"]
        )

    lost = f"the mark of instance {instance.uuid} is written by somebody else, too"
    writer.keep_entry(instance.uuid, read, KEY, None, lost, idle=True)
