# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How an instance is refused: what is logged, who is told, and what Nova makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn

from nova import exception
from oslo_log import log as logging

from nova_devcompat.compat import words
from nova_devcompat.compat.policy import Ruling
from nova_devcompat.compat.verdict import Actor, Code, Reason
from nova_devcompat.stores import events
from nova_devcompat.stores.ports import lost_claims

LOG = logging.getLogger(__name__)

#: Logs why an instance is refused, has whoever else should know told, and raises what Nova wants.
Refuse = Callable[[Any, str, Callable[[], None]], NoReturn]

_CLAIM_LOST = Reason(code=Code.CLAIM_LOST, actor=Actor.GUEST)
# What it comes to where devices are compared.
_OF_LOST_CLAIMS = frozenset({Code.NO_DEVICE, Code.NEED_MISSING})


def tell_waived(context: Any, instance: Any, ruling: Ruling, host: str) -> None:
    """Say what was let pass because of accepted risks, if anything was.

    :param host: this one
    """
    if not ruling.waived:
        return
    lines = [f"{reason.of(host)}: {risk}" for reason, risk in ruling.waived]
    LOG.info("Let pass because of accepted risks: %s", "; ".join(lines), instance=instance)
    events.add(
        context,
        instance.uuid,
        events.RISK,
        summary=f"let pass on {host} because of accepted risks",
        lines=lines,
        host=host,
        result="Success",
    )


def with_lost_claims(ruling: Ruling, instance: Any) -> Ruling:
    """The ruling on a live migration, with why the guest's device has no other here or no need, if
    that is because Nova has lost its claim of it.

    Nova maps devices by the claims of the guest's host (nova/compute/manager.py,
    _flavor_based_pci_claim): none takes the place of one that it does not know of, and what it
    claims here all the same is one of which the record says nothing. Nobody is asked for it: where
    the caller's copy of the instance does not have its devices, nothing is said.

    :param instance: as the caller has it
    """
    told = {reason.code for reason in (*ruling.refused, *ruling.reported)}
    if told.isdisjoint(_OF_LOST_CLAIMS):
        return ruling
    if not all(map(instance.obj_attr_is_set, ("pci_requests", "pci_devices"))):
        return ruling
    if not lost_claims(instance):
        return ruling
    return dataclasses.replace(
        ruling,
        refused=ruling.refused and (_CLAIM_LOST, *ruling.refused),
        reported=ruling.reported and (_CLAIM_LOST, *ruling.reported),
    )


def refuse_migration(instance: Any, reasons: str, tell: Callable[[], None]) -> NoReturn:
    """Have the conductor try another destination."""
    LOG.warning("Live migration to this host refused: %s", reasons, instance=instance)
    tell()
    raise exception.MigrationPreCheckError(reason=words.CANNOT_ACT)


def refuse_build(instance: Any, reasons: str, tell: Callable[[], None]) -> NoReturn:
    """Have the conductor try the next host, and count no failed build of this one.

    Nova reschedules a build that failed by any exception but a few, and counts it unless it was
    for a server group's sake (nova/compute/manager.py: RescheduledByPolicyException), so that the
    BuildFailureWeigher would prefer other hosts for everybody. The text is ours.
    """
    LOG.warning("The devices cannot act as the flavor wants: %s", reasons, instance=instance)
    tell()
    raise exception.GroupAffinityViolation(words.CANNOT_ACT)


def refuse_move(instance: Any, reasons: str, tell: Callable[[], None]) -> NoReturn:
    """Keep the guest as it is where it is."""
    LOG.warning(
        "The devices at the destination cannot act as the flavor wants: %s",
        reasons,
        instance=instance,
    )
    tell()
    raise exception.InstanceFaultRollback(
        inner_exception=exception.MigrationPreCheckError(reason=words.CANNOT_ACT)
    )
