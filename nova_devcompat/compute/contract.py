# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What we rely on in Nova's virt driver API, as one table, and how a driver is compared with it.

The API is internal to Nova and no release of it is promised, so at start the driver is compared
with the table (:func:`compare`), and a hook whose method is not as the table says is not put in
place: the wrapped driver's own method stands there, as without us. This module imports no Nova.

The facts are of ``nova/virt/driver.py`` and ``nova/compute/manager.py`` of Nova 31 (2025.1) to 34
(2026.2). In these releases every parameter below has the same name and stands in the same order,
in ``ComputeDriver``, libvirt's driver and the fake ones, so nothing here depends on the release.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CATCH_ALLS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Hook:
    """A method of ``ComputeDriver`` that we stand around.

    :param method: its name
    :param relies_on: the parameters that we read, by name and in this order; others may stand
        between them, come and go
    :param lost: what an operator no longer has where the hook is off
    :param wrong_accept: whether a live migration may then be accepted that should be refused
    :param raises: exceptions of ``nova.exception`` that we add to what the method raises; nothing
        else of ours leaves it
    :param calls: names of :data:`CALLED` that it cannot do without
    """

    method: str
    relies_on: tuple[str, ...]
    lost: str
    wrong_accept: bool = False
    raises: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()

    @property
    def off(self) -> str:
        """What an ERROR says is lost."""
        return self.lost + (
            "; a live migration may be accepted that should be refused" * self.wrong_accept
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Called:
    """A method of ``ComputeDriver`` that our hooks call.

    :param method: its name
    :param passes: the parameters that we pass, all by name
    """

    method: str
    passes: tuple[str, ...] = ()


CALLED = (
    Called(method="get_available_nodes"),
    Called(method="get_info", passes=("instance", "use_cache")),
)

_NODES = ("get_available_nodes",)
_KEEPS_THE_RECORD = "keeps the record of before, though its devices are initialised anew"

HOOKS = (
    Hook(
        method="init_host",
        relies_on=("host",),
        lost="a service that is not named as [DEFAULT] host says does not find its guests",
    ),
    Hook(
        method="get_available_resource",
        relies_on=("nodename",),
        lost="nova-scheduler learns nothing of this host's devices (host-silent), and guests "
        "without a record are not adopted",
    ),
    Hook(
        method="update_provider_tree",
        relies_on=("provider_tree", "nodename"),
        lost="the traits of this host stay as they are in placement, so the prefilter passes it "
        "over for what it accepts since",
    ),
    Hook(
        method="spawn",
        relies_on=("context", "instance", "allocations"),
        lost="guests that are created, rebuilt, evacuated or unshelved here keep the record that "
        "they had, if any, and the pins of their flavors are not checked",
        wrong_accept=True,
        raises=("GroupAffinityViolation",),
        calls=_NODES,
    ),
    Hook(
        method="migrate_disk_and_power_off",
        relies_on=("context", "instance", "flavor"),
        lost="the devices that a resize or a cold migration claims at its destination are not "
        "compared with the pins of the flavor",
        raises=("InstanceFaultRollback",),
        calls=_NODES,
    ),
    Hook(
        method="finish_migration",
        relies_on=("context", "instance", "allocations"),
        lost="a guest that was resized or cold migrated to this host keeps the record of the host "
        "that it left",
        wrong_accept=True,
        calls=_NODES,
    ),
    Hook(
        method="finish_revert_migration",
        relies_on=("context", "instance"),
        lost="a guest whose resize was reverted keeps the record of the host that it left",
        wrong_accept=True,
        calls=_NODES,
    ),
    *(
        Hook(
            method=method,
            relies_on=("context", "instance"),
            lost=f"a guest that {what} {_KEEPS_THE_RECORD}",
            wrong_accept=True,
            calls=_NODES,
        )
        for method, what in (
            ("reboot", "is rebooted"),
            ("power_on", "is started"),
            ("resume", "is resumed from suspension"),
            ("rescue", "is rescued"),
            ("unrescue", "is unrescued"),
        )
    ),
    Hook(
        method="resume_state_on_host_boot",
        relies_on=("context", "instance"),
        lost=f"a guest that is started after its host has booted {_KEEPS_THE_RECORD}",
        wrong_accept=True,
        calls=("get_available_nodes", "get_info"),
    ),
    Hook(
        method="suspend",
        relies_on=("instance",),
        lost=f"a guest of which a cold snapshot is taken {_KEEPS_THE_RECORD}",
        wrong_accept=True,
    ),
    Hook(
        method="snapshot",
        relies_on=("context", "instance"),
        lost=f"a guest of which a cold snapshot is taken {_KEEPS_THE_RECORD}",
        wrong_accept=True,
        calls=_NODES,
    ),
    Hook(
        method="attach_interface",
        relies_on=("context", "instance", "vif"),
        lost="the device of a port that is attached to a running guest is not recorded",
        wrong_accept=True,
        calls=_NODES,
    ),
    Hook(
        method="detach_interface",
        relies_on=("context", "instance", "vif"),
        lost="the device of a port that is detached stays in the guest's record, and goes on to "
        "be required",
    ),
    Hook(
        method="post_live_migration",
        relies_on=("context", "instance", "migrate_data"),
        lost="of a guest with several devices of one request, the record does not tell their "
        "addresses after a live migration",
    ),
    Hook(
        method="post_live_migration_at_destination",
        relies_on=("context", "instance"),
        lost="a guest that has arrived here is not moved on (record-stale) until the next cycle, "
        "and what the devices of its ports need is only assumed",
        calls=_NODES,
    ),
    Hook(
        method="check_can_live_migrate_destination",
        relies_on=("context", "instance"),
        lost="a live migration to this host is refused only after its devices were claimed",
        raises=("MigrationPreCheckError",),
        calls=_NODES,
    ),
    Hook(
        method="check_can_live_migrate_source",
        relies_on=("context", "instance"),
        lost="a guest that was started behind Nova's back since the last cycle is moved by the "
        "record of its earlier start",
        wrong_accept=True,
        raises=("MigrationPreCheckError",),
        calls=_NODES,
    ),
    Hook(
        method="pre_live_migration",
        relies_on=("context", "instance", "migrate_data"),
        lost="what changes while a live migration waits for others goes unnoticed",
        wrong_accept=True,
        raises=("MigrationPreCheckError",),
        calls=_NODES,
    ),
    Hook(
        method="check_source_migrate_data_at_dest",
        relies_on=("ctxt", "instance", "migrate_data", "allocs"),
        lost="the devices that a live migration claims here are not looked at until just before "
        "the copy, when it fails rather than tries the next host",
        raises=("MigrationPreCheckError",),
        calls=_NODES,
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Deviation:
    """In what a method of a class is not as the table says.

    :param method: its name
    :param what: the difference, naming class and method
    """

    method: str
    what: str

    def __str__(self) -> str:
        return self.what


def compare(
    table: Iterable[Hook | Called], driver: type, *, catch_alls: bool = False
) -> list[Deviation]:
    """In what a driver class is not as the table says; empty if it is.

    :param catch_alls: whether ``*args`` or ``**kwargs`` may stand for parameters that have no
        name. A driver may hand calls on unread; of ``ComputeDriver`` itself the names are wanted
    """
    found = []
    for entry in table:
        what = _difference(entry, driver, catch_alls)
        if what:
            found.append(Deviation(entry.method, f"{driver.__name__}.{entry.method} {what}"))
    return found


def _difference(entry: Hook | Called, driver: type, catch_alls: bool) -> str:
    signature = signature_of(driver, entry.method)
    if signature is None:
        return "is missing" if not hasattr(driver, entry.method) else "has no readable signature"
    if isinstance(entry, Called):
        return _cannot_call(signature, entry.passes)
    return _cannot_read(signature, entry.relies_on, catch_alls)


def _cannot_call(signature: inspect.Signature, passes: Sequence[str]) -> str:
    try:
        signature.bind(None, **dict.fromkeys(passes))
    except TypeError as error:
        return f"cannot be called with ({', '.join(passes)}): {error}"
    return ""


def _cannot_read(signature: inspect.Signature, relies_on: Sequence[str], catch_alls: bool) -> str:
    parameters = signature.parameters.values()
    named = [one.name for one in parameters if one.kind not in _CATCH_ALLS]
    if catch_alls and len(named) < len(parameters):
        relies_on = [name for name in relies_on if name in named]
    absent = [name for name in relies_on if name not in named]
    if absent:
        return (
            f"has no parameter {' and no '.join(absent)}; it has {', '.join(named[1:]) or 'none'}"
        )
    if [name for name in named if name in relies_on] != list(relies_on):
        return f"has {', '.join(relies_on)} in another order: {', '.join(named[1:])}"
    return ""


def signature_of(driver: type, method: str) -> inspect.Signature | None:
    """The signature of a class's method, ``self`` included; None if there is none to read."""
    try:
        return inspect.signature(getattr(driver, method))
    except (AttributeError, TypeError, ValueError):
        return None


def hooks_off(
    table: Iterable[Hook], deviations: Iterable[Deviation]
) -> dict[str, list[Deviation]]:
    """The hooks that cannot stand, by method, with the deviations that are why."""
    deviations = list(deviations)
    why = {
        hook.method: [one for one in deviations if one.method in (hook.method, *hook.calls)]
        for hook in table
    }
    return {method: found for method, found in why.items() if found}


def relied_on(
    hook: Hook,
    signatures: Iterable[inspect.Signature],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> dict[str, Any] | None:
    """What a call passes for the parameters that a hook relies on; None where that is not clear.

    :param signatures: what the call may be meant for. Nova calls as ``ComputeDriver`` has it, a
        driver that calls itself as it has it
    :param args: with the driver itself as the first
    """
    for signature in signatures:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            continue
        bound.apply_defaults()
        if all(name in bound.arguments for name in hook.relies_on):
            return {name: bound.arguments[name] for name in hook.relies_on}
    return None
