# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is asked of Nova for each operation, and what came of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from typing import Any

from rigs.chaos.access import COMPUTE, FORCED, Access
from rigs.chaos.checks import Asked, Guest, Migration, Server, Snapshot
from rigs.chaos.model import FLAVORS
from rigs.chaos.plan import AFTER, Operation

#: What can come of an operation. VOID: Nova does not do that to what the guest is by now.
ACCEPTED, REFUSED, VOID, ERROR = "accepted", "refused", "void", "error"
LIVE = ("live", "live-named", "live-forced")
#: What takes a guest to another host, and leaves a migration.
MOVES = (*LIVE, "cold", "cold-named", "resize")
#: What places a guest.
PLACES = (*MOVES, "boot", "boot-named", "unshelve")
#: Where a migration has done what was asked.
_DONE = ("completed", "finished", "confirmed", "done")
#: Statuses of migrations that go on.
GOING = {
    *("accepted", "queued", "pre-migrating", "preparing", "running", "migrating"),
    *("post-migrating", "confirming", "reverting"),
}
_NAMED = ("live-named", "live-forced", "cold-named", "boot-named")
_ACTIONS: dict[str, Any] = {
    "cold": {"migrate": None},
    "reboot-hard": {"reboot": {"type": "HARD"}},
    "reboot-soft": {"reboot": {"type": "SOFT"}},
    "stop": {"os-stop": None},
    "start": {"os-start": None},
    "suspend": {"suspend": None},
    "resume": {"resume": None},
    "rescue": {"rescue": {}},
    "unrescue": {"unrescue": None},
    "shelve": {"shelve": None},
    "unshelve": {"unshelve": None},
    "confirm": {"confirmResize": None},
    "revert": {"revertResize": None},
}


@dataclasses.dataclass(kw_only=True)
class Begun:
    """An operation of a step.

    :ivar guest: whose it is; of a boot the new one, once it is known
    :ivar before: the server before, None for a boot
    :ivar host: that is named, '' for none
    :ivar status: of the API's answer, 0 where it has not answered
    :ivar answer: what it says
    :ivar outcome: what came of it, '' until it is known
    """

    operation: Operation
    guest: Guest | None
    before: Server | None
    host: str
    status: int = 0
    answer: Any = None
    outcome: str = ""

    @property
    def asked(self) -> Asked | None:
        """What has to be found a place for, None for nothing."""
        name = self.operation.name
        if name not in PLACES:
            return None
        flavor = FLAVORS[self.operation.flavor]
        if self.guest is not None and name != "resize":
            flavor = self.guest.flavor
        left = self.guest.left if self.guest and name != "resize" else None
        return Asked(
            guest=self.guest.uuid if self.guest else "",
            flavor=dataclasses.replace(flavor, vfs=max(flavor.vfs, left.vfs if left else 0)),
            live=name in LIVE,
            current=self.before.host if self.before else "",
            named=self.host,
        )


def prepare(
    operation: Operation, guest: Guest | None, snapshot: Snapshot, access: Access
) -> Begun:
    """Look up what an operation is about; nothing is begun yet."""
    before = snapshot.servers.get(guest.uuid) if guest else None
    host = ""
    if operation.name in _NAMED:
        current = before.host if before else ""
        cell = access.cells.get(current)
        others = [one for one, where in access.cells.items() if cell in (None, where)]
        others = [one for one in others if one != current] or list(access.cells)
        host = others[operation.host % len(others)]
    return Begun(operation=operation, guest=guest, before=before, host=host)


def begin(begun: Begun, access: Access) -> None:
    """Ask Nova for it, at its time."""
    time.sleep(begun.operation.delay)
    operation, guest = begun.operation, begun.guest
    if operation.name in ("boot", "boot-named"):
        if guest is not None:
            return
        name = f"chaos-{operation.slot}"
        begun.status, begun.answer = access.boot(name, operation.flavor, begun.host)
    elif guest is None:
        return
    elif operation.name == "delete":
        begun.status, begun.answer = access.send("DELETE", f"/servers/{guest.uuid}")
    else:
        version = FORCED if operation.name == "live-forced" else COMPUTE
        action = _action(begun, access)
        begun.status, begun.answer = access.act(guest.uuid, action, version)


def _action(begun: Begun, access: Access) -> Any:
    name = begun.operation.name
    if name in LIVE:
        forced = {"force": True} if name == "live-forced" else {}
        host = {"host": begun.host or None, "block_migration": "auto"}
        return {"os-migrateLive": {**host, **forced}}
    if name == "cold-named":
        return {"migrate": {"host": begun.host}}
    if name == "resize":
        return {"resize": {"flavorRef": access.flavors[begun.operation.flavor]}}
    return _ACTIONS[name]


def outcome(begun: Begun, snapshot: Snapshot, known: Collection[str]) -> str:
    """What came of an operation, in a cloud in which nothing is being done any more.

    :param known: UUIDs of the migrations from before
    """
    name = begun.operation.name
    if begun.guest is None or (begun.before is None and name not in ("boot", "boot-named")):
        return VOID if begun.status in (0, 400, 403, 404, 409) else ERROR
    if begun.status == 0 or begun.status >= 500:
        return ERROR
    if begun.status >= 400:
        return REFUSED if "No valid host" in str(begun.answer) else VOID
    server = snapshot.servers.get(begun.guest.uuid)
    if name == "delete":
        return ACCEPTED if server is None else ERROR
    if server is None or server.task:
        return ERROR
    if name in MOVES:
        return _of_move(begun, server, snapshot, known)
    if server.status == AFTER.get(name, "ACTIVE"):
        return ACCEPTED
    if name in ("confirm", "revert") and server.status == "SHUTOFF":
        # It was stopped before.
        return ACCEPTED
    unplaced = server.status == "ERROR" and name in ("boot", "boot-named")
    if not server.host and (unplaced or name == "unshelve"):
        return REFUSED
    return ERROR


def _of_move(begun: Begun, server: Server, snapshot: Snapshot, known: Collection[str]) -> str:
    assert begun.guest is not None
    last = newest(snapshot, begun.guest.uuid, known)
    if last is None or server.status == "ERROR" or last.status in GOING:
        # One that goes on for ever, or for longer than is waited for, was not refused.
        return ERROR
    return ACCEPTED if last.status in _DONE else REFUSED


def newest(snapshot: Snapshot, server: str, known: Collection[str]) -> Migration | None:
    """The last migration of a server, but for those with known UUIDs.

    Each cell numbers its own, so that a new one can have a lower number than those of others.
    """
    found = [one for one in snapshot.migrations if one.server == server and one.uuid not in known]
    return found[-1] if found else None
