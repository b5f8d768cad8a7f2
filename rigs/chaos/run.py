# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Goes through a plan: does what each step says, waits until the cloud has settled, and checks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from rigs.chaos import checks, operations
from rigs.chaos.access import Access
from rigs.chaos.blame import violates
from rigs.chaos.checks import NOVAS, Finding, Guest, Snapshot
from rigs.chaos.faults import GENTLE, SETTLED, Faults
from rigs.chaos.model import FLAVORS, Versions
from rigs.chaos.operations import LIVE, REFUSED, Begun
from rigs.chaos.plan import NO_FAULT, Step
from rigs.chaos.report import Found, Report
from rigs.cloud.layout import CloudError

#: Seconds that what was begun may take: longer than the minute for which Nova waits for an answer,
#: which no fault need have lost (doc/source/cloud.rst says of which move), with what it does then.
_ENDS = 90.0
#: Seconds until all must be as it should be.
_SETTLES, _SETTLES_AFTER_FAULT = 30.0, 40.0
#: Seconds after which what does not mend itself is so.
_NO_MORE = 10.0
_PAUSE = 0.4
#: What a guest is after a resize was confirmed or reverted.
_BACK = ("ACTIVE", "SHUTOFF")
#: A migration goes on without a task of its server for so long, in seconds, where it may have been
#: left as it is for ever; else for as long as anything.
_GOES_ON = 20.0


class Run:
    """A run of a plan.

    :param access: to the cloud
    :param slots: how many guests there are at most
    :param versions: that hosts have, by host
    :param say: takes a line for whoever looks on
    """

    def __init__(
        self,
        access: Access,
        *,
        slots: int,
        versions: dict[str, Versions],
        say: Callable[[str], None] = print,
    ) -> None:
        self.report = Report(stock=access.stock)
        self._access = access
        self._versions = versions
        self._slots: list[Guest | None] = [None] * slots
        self._faults = Faults(access=access, versions=versions, settle=self.publish)
        self._say = say
        #: What was found before and is still so, which is not counted again.
        self._seen: set[Finding] = set()

    # --- settling -------------------------------------------------------------------------------

    def publish(self) -> None:
        """Wait until hosts publish what they accept.

        :raises CloudError: they do not
        """
        if self._access.stock:
            self._access.cycle(list(self._versions))
            return
        for _ in range(6):
            # Twice where some must learn of traits that others create.
            self._access.cycle(list(self._versions))
            if not self._wrong_traits(self._access.snapshot()):
                return
        wrong = self._wrong_traits(self._access.snapshot())
        raise CloudError(f"hosts do not publish what they accept: {wrong}")

    def _wrong_traits(self, snapshot: Snapshot) -> list[Finding]:
        found = checks.check(snapshot, {}, self._versions)
        return [one for one in found if one.kind == "trait"]

    def _guests(self) -> dict[str, Guest]:
        return {guest.uuid: guest for guest in self._slots if guest is not None}

    def _ended(self, known: Collection[str], *, gentle: bool = True) -> Snapshot:
        """Wait until nothing is being done any more, or for as long as it may be: see _busy."""
        began, quiet = time.monotonic(), 0
        mine = set(self._guests())
        while True:
            snapshot = self._access.snapshot()
            waited = time.monotonic() - began
            goes_on = gentle or waited < _GOES_ON
            quiet = 0 if _busy(snapshot, mine, known, goes_on=goes_on) else quiet + 1
            if quiet > 1 or waited > _ENDS:
                return snapshot
            time.sleep(_PAUSE)

    def _settled(self, limit: float) -> list[Finding]:
        """What is wrong still when all has had the time to become right."""
        began = time.monotonic()
        while True:
            snapshot = self._access.snapshot(records=True)
            found = [
                one
                for one in checks.check(
                    snapshot, self._guests(), self._versions, stock=self._access.stock
                )
                if one not in self._seen
            ]
            waited = time.monotonic() - began
            if not found or waited > limit or (waited > _NO_MORE and _final(found)):
                return found
            time.sleep(_PAUSE)
            self._access.cycle(list(self._versions))

    # --- a step ---------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Do what a step says, and check what came of it."""
        began = time.monotonic()
        self._repair(step)
        fault = step.fault
        if not self._faults.possible(fault.name):
            self._say(f"      {fault.name} cannot be made here")
            fault = dataclasses.replace(fault, name=NO_FAULT)
        had = {host: {versions} for host, versions in self._versions.items()}
        self._access.mark_logs()
        with self._faults.around(fault):
            for host, versions in self._versions.items():
                # A change before the operations: what was before does not count.
                had[host] = {versions}
            before = self._access.snapshot()
            known = frozenset(one.uuid for one in before.migrations)
            begun = [
                operations.prepare(one, self._slots[one.slot], before, self._access)
                for one in step.operations
            ]
            _at_once(
                [
                    *(functools.partial(operations.begin, one, self._access) for one in begun),
                    functools.partial(self._faults.happen, fault),
                ]
            )
            for host, versions in self._versions.items():
                had[host].add(versions)
            self._come_to_be(begun)
            gentle = fault.name in GENTLE
            after = self._ended(known, gentle=gentle)
        found = self._judged(begun, before, after, known, had, settled=fault.name in SETTLED)
        found += self._settled(_SETTLES if gentle else _SETTLES_AFTER_FAULT)
        self._tell(step, fault.name, begun, found, time.monotonic() - began)
        self._tidy(found)

    def _come_to_be(self, begun: Sequence[Begun]) -> None:
        """Take in what guests the operations make."""
        for one in begun:
            name = one.operation.name
            if name in ("boot", "boot-named") and one.guest is None and one.status == 202:
                uuid = one.answer["server"]["id"]
                one.guest = Guest(uuid=uuid, flavor=FLAVORS[one.operation.flavor])
                self._slots[one.operation.slot] = one.guest

    def _judged(
        self,
        begun: Sequence[Begun],
        before: Snapshot,
        after: Snapshot,
        known: Collection[str],
        had: Mapping[str, Collection[Versions]],
        *,
        settled: bool,
    ) -> list[Finding]:
        """Note what came of operations, and find refusals and arrivals that are wrong."""
        found: list[Finding] = []
        for one in begun:
            one.outcome = operations.outcome(one, after, known)
            if one.guest is None:
                continue
            server = after.servers.get(one.guest.uuid)
            if settled and one.outcome == REFUSED:
                found += self._wrongly_refused(one, begun, before)
            if server is not None and one.operation.name in LIVE:
                running = before.running.get(one.guest.uuid)
                found += checks.unfit(running, server, had, one.guest.uuid)
            self._follow(one, server)
        return found

    def _wrongly_refused(
        self, one: Begun, begun: Sequence[Begun], before: Snapshot
    ) -> list[Finding]:
        asked = one.asked
        if asked is None or one.guest is None:
            return []
        if self._access.placement_failed() or self._access.allocating_failed():
            # An unshelve that fails on its host leaves the guest as one that found none does.
            return []
        others = [other.asked for other in begun if other is not one and other.asked is not None]
        hosts = checks.hosts_for(asked, before, self._versions, self._access.cells, others)
        if not hosts:
            return []
        text = f"{one.operation.name} was refused, and {', '.join(hosts)} would do: {one.answer}"
        return [Finding(kind="refusal", guest=one.guest.uuid, text=text)]

    def _follow(self, one: Begun, server: checks.Server | None) -> None:
        """Have the model follow what was done."""
        guest, name = one.guest, one.operation.name
        assert guest is not None
        if server is None and name == "delete":
            self._slots[one.operation.slot] = None
        elif server is not None and server.status == "VERIFY_RESIZE" and one.before is not None:
            if guest.before is None:
                guest.before = (guest.flavor, one.before.host)
                if name == "resize":
                    guest.flavor = FLAVORS[one.operation.flavor]
        elif server is not None and guest.before is not None and server.status in _BACK:
            if name == "revert":
                guest.left, guest.flavor = guest.flavor, guest.before[0]
            elif guest.flavor != guest.before[0]:
                guest.left = None
            guest.before = None
        if name in ("boot", "boot-named") and one.outcome == REFUSED:
            # What was never placed holds nothing, and is no use.
            self._access.send("DELETE", f"/servers/{guest.uuid}")
            self._slots[one.operation.slot] = None

    # --- what is found --------------------------------------------------------------------------

    def _tell(
        self,
        step: Step,
        fault: str,
        begun: Sequence[Begun],
        found: Sequence[Finding],
        seconds: float,
    ) -> None:
        names = {one.guest.uuid: one.operation.name for one in begun if one.guest}
        for one in begun:
            self.report.count(one.operation.name, fault, one.outcome)
        done = ", ".join(
            f"{one.operation.slot}:{one.operation.name} {one.outcome}" for one in begun
        )
        self.report.took(fault, seconds)
        self._say(f"{step.number:>5} {seconds:5.1f} s  {fault:<22} {done}")
        broken = bool(found) and self._access.allocating_failed()
        for finding in found:
            judged = self._judge(finding, step, fault, names.get(finding.guest, ""), broken)
            self.report.found(judged)
            word = "VIOLATION" if judged.violation else "found"
            self._say(f"      {word} {judged.kind}: {judged.text}")

    def _judge(
        self, finding: Finding, step: Step, fault: str, operation: str, broken: bool
    ) -> Found:
        text = f"{finding.guest}: {finding.text}"
        violation = violates(finding, fault, operation, broken=broken, stock=self._access.stock)
        if violation and finding.kind in NOVAS and self._access.cut_off(finding.guest):
            violation, text = False, f"{text}; placement's answer to its request was lost"
        return Found(
            step=step.number,
            fault=fault,
            operation=operation,
            kind=finding.kind,
            text=text,
            violation=violation,
        )

    def _tidy(self, found: Sequence[Finding]) -> None:
        """Take away what is wrong, so that it is found once."""
        if not found:
            return
        for number, guest in enumerate(self._slots):
            if guest is not None and any(one.guest == guest.uuid for one in found):
                self._remove(guest.uuid)
                self._slots[number] = None
        wanted = self._guests()
        snapshot = self._access.snapshot()
        moving = {one.uuid for one in snapshot.migrations if one.server in wanted}
        for consumer in snapshot.allocations.keys() - wanted.keys() - moving:
            self._access.forget_allocations(consumer)
        for uuid in snapshot.running.keys() - wanted.keys():
            for path in (self._access.cloud / "guests").glob(f"{uuid}.*"):
                path.unlink()
        with contextlib.suppress(CloudError):
            self._access.cycle(list(self._versions))
        left = checks.check(
            self._access.snapshot(records=True),
            self._guests(),
            self._versions,
            stock=self._access.stock,
        )
        self._seen = set(left)

    def _remove(self, *uuids: str) -> None:
        """Delete servers, whatever they are."""
        for uuid in uuids:
            self._access.send("DELETE", f"/servers/{uuid}")
        end = time.monotonic() + 20
        while left := self._left(uuids):
            if time.monotonic() > end:
                for uuid in left:
                    self._access.act(uuid, {"os-resetState": {"state": "error"}})
                    self._access.act(uuid, {"forceDelete": None})
                end = time.monotonic() + 20
            time.sleep(_PAUSE)

    def _left(self, uuids: Collection[str]) -> set[str]:
        snapshot = self._access.snapshot()
        return {uuid for uuid in uuids if uuid in snapshot.servers or uuid in snapshot.building}

    def clear(self) -> None:
        """Delete all servers and what anybody holds, for a cloud to begin or end with."""
        snapshot = self._access.snapshot()
        self._remove(*snapshot.servers, *snapshot.building)
        for consumer in self._access.snapshot().allocations:
            self._access.forget_allocations(consumer)
        for path in (self._access.cloud / "guests").glob("*"):
            path.unlink()

    def _repair(self, step: Step) -> None:
        """Boot the guests that a step's operations are about, where the plan has one."""
        missing = []
        for one in step.operations:
            flavor = step.flavors[one.slot]
            booting = one.name in ("boot", "boot-named")
            if booting and (guest := self._slots[one.slot]) is not None:
                self._remove(guest.uuid)
                self._slots[one.slot] = None
            elif not booting and self._slots[one.slot] is None and flavor:
                missing.append((one.slot, flavor))
        for slot, flavor in missing:
            status, answer = self._access.boot(f"chaos-{slot}", flavor)
            if status == 202:
                uuid = answer["server"]["id"]
                self._slots[slot] = Guest(uuid=uuid, flavor=FLAVORS[flavor])
        if missing:
            snapshot = self._ended(known=())
            for slot, _ in missing:
                guest = self._slots[slot]
                if guest and not _active(snapshot, guest):
                    self._remove(guest.uuid)
                    self._slots[slot] = None


def _active(snapshot: Snapshot, guest: Guest) -> bool:
    # One that was never scheduled has no cell, and stands nowhere.
    server = snapshot.servers.get(guest.uuid)
    return server is not None and server.status == "ACTIVE"


def _final(found: Sequence[Finding]) -> bool:
    """Whether nothing but guests that are lost is left to find, with what they hold."""
    lost = {one.guest for one in found if one.kind in ("in-error", "stuck")}
    return all(one.guest in lost for one in found)


def _busy(
    snapshot: Snapshot, guests: Collection[str], known: Collection[str], *, goes_on: bool
) -> bool:
    """Whether anything is being done.

    :param known: migrations of before
    :param goes_on: whether others count whose servers have no task
    """
    if any(uuid in snapshot.building for uuid in guests):
        return True
    servers = [snapshot.servers[uuid] for uuid in guests if uuid in snapshot.servers]
    if any(one.task or one.status in ("BUILD", "SHELVED") for one in servers):
        return True
    return goes_on and any(
        one.status in operations.GOING and one.server in guests and one.uuid not in known
        for one in snapshot.migrations
    )


def _at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Run several things at the same time; raise what one of them raises."""
    errors: list[Exception] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001  raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
