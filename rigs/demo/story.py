# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The steps of the story, each of which checks what it shows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rigs.demo.page import Page

#: What the hosts have when the story begins, and what cmp1 has at its end.
VERSIONS = {"cmp1": "1.0", "cmp2": "1.2", "cmp3": "1.4", "cmp4": "2.0"}
UPGRADED = "1.4"

#: The catalog: the same major, and the host's minor is not older.
FAMILIES = {
    "nic": {
        "match": {"vendor_id": "15b3", "product_id": "101e"},
        "source": "static",
        "rules": {"fw_version": "semver"},
    }
}
TRAITS = "CUSTOM_DEVCOMPAT_NIC__FW_VERSION__"


class Unexpected(Exception):
    """Something did not go as told.

    :param what: what was looked at
    :param expected: what it should be
    :param got: what it is
    """

    def __init__(self, what: str, expected: Any, got: Any) -> None:
        super().__init__(f"{what}: expected {expected!r}, got {got!r}")
        self.what = what
        self.expected = expected
        self.got = got


def expect(what: str, expected: Any, got: Any) -> None:
    """Check an outcome.

    :raises Unexpected: it is another one
    """
    if got != expected:
        raise Unexpected(what, expected, got)


def expect_in(what: str, expected: str, got: str) -> None:
    """Check that a text contains another.

    :raises Unexpected: it does not
    """
    if expected not in got:
        raise Unexpected(what, f"... {expected} ...", got)


class Story:
    """The steps, in order, over one running cloud.

    A step writes what it sees, notes it in the details for ``--json`` and expects what is told.

    :param page: where to write
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        #: The running DeviceCompatFleet, which is there before the first step.
        self.cloud: Any = None
        self.server: Any = None

    def steps(self) -> list[tuple[Callable[[dict[str, Any]], None], str]]:
        """All steps, each with its title."""
        return [
            (self.fleet, "The fleet: a roll-out is under way, four hosts run four versions"),
            (self.start, "A guest is started on cmp2, which runs 1.2"),
            (self.destinations, "Where may the guest go, and why not elsewhere?"),
            (self.forward, "Live migration; the scheduler chooses the host"),
            (self.back, "And back again: a need is not raised by a newer host"),
            (self.named, "An operator asks for cmp1, the oldest host, by name"),
            (self.forced, "The operator insists: force, past the scheduler"),
            (self.upgrade, "cmp1 is upgraded, and then takes the guest"),
        ]

    # The steps. The name of each is its name in --json.

    def fleet(self, details: dict[str, Any]) -> None:
        accepted = {host: self.accepted_by(host) for host in VERSIONS}
        details["hosts"] = [
            {"host": host, "device": "nic", "fw_version": version, "accepts": accepted[host]}
            for host, version in VERSIONS.items()
        ]
        self.page.say(
            "Guests are given virtual functions (VFs) of each host's network card. Such a guest "
            "can move to a card of the same major version whose minor is not older. That is one "
            "line of the operator's catalog, 'fw_version: semver'."
        )
        self.page.say(
            "A host cannot be asked for 'at least 1.2': Placement only knows traits, which a host "
            "has or has not. So each host publishes every version that it would accept:"
        )
        self.page.table(
            ["host", "device", "firmware", "accepts guests that need", "traits in Placement"],
            [
                [host, "nic", version, ", ".join(accepted[host]), self.ends(accepted[host])]
                for host, version in VERSIONS.items()
            ],
        )
        self.page.say(f"Here ..1_2 stands for the trait {TRAITS}1_2.")
        for host, versions in {
            "cmp1": ["1.0"],
            "cmp2": ["1.0", "1.2"],
            "cmp3": ["1.0", "1.2", "1.4"],
            "cmp4": ["2.0"],
        }.items():
            expect(f"versions that {host} accepts, by its traits", versions, accepted[host])

    def start(self, details: dict[str, Any]) -> None:
        from nova_devcompat.compat import traits
        from tests.functional import devcompat

        self.server = self.cloud.boot("cmp2", devcompat.VF)
        need = self.cloud.record_of(self.server)
        (trait,) = (traits.encode(atom) for atom in need.atoms)
        host = self.cloud.host_of(self.server)
        (address,) = self.cloud.pci_devices_of(host, self.server)
        details |= {
            "server": self.server["id"],
            "host": host,
            "device": address,
            "need": sorted(map(str, need.atoms)),
            "trait": trait,
        }
        self.page.say(
            "Its VF starts with firmware 1.2, so from here on the guest depends on 1.2. That is "
            "its need. nova-compute records it with the guest, in instance.system_metadata:"
        )
        self.page.show("guest", f"{self.server['id']}, on {host} with VF {address}")
        self.page.show("need", str(*map(str, need.atoms)))
        self.page.show("as trait", trait)
        expect("host of the guest", "cmp2", host)
        expect("need of the guest", ["nic.fw_version=1.2"], details["need"])
        expect("trait of the need", TRAITS + "1_2", trait)

    def destinations(self, details: dict[str, Any]) -> None:
        judged = self.judge()
        details["verdicts"] = [
            {
                "host": host,
                "accepts": not reasons,
                "reasons": [str(reason) for reason in reasons],
                "codes": [reason.code for reason in reasons],
            }
            for host, reasons in judged.items()
        ]
        self.page.say(
            "A trait only says yes or no, so hosts publish their reasons as well, in the stats "
            "that Nova's scheduler reads anyway. Its verdicts from those:"
        )
        here = self.cloud.host_of(self.server)
        self.page.table(
            ["host", "firmware", "accepts it", "why"],
            [
                [
                    host,
                    VERSIONS[host],
                    "no" if reasons else "yes",
                    "; ".join(map(str, reasons)) or ("(where it is now)" if host == here else ""),
                ]
                for host, reasons in judged.items()
            ],
        )
        expect(
            "why hosts would refuse the guest",
            {"cmp1": ["minor-too-old"], "cmp2": [], "cmp3": [], "cmp4": ["major-differs"]},
            {host: [reason.code for reason in reasons] for host, reasons in judged.items()},
        )

    def forward(self, details: dict[str, Any]) -> None:
        self.page.say(
            "No host is named. So that the right one is not found by luck, the demo makes Nova "
            "rank cmp1 and cmp4 first. This is what the scheduler asks of Placement: our trait "
            "comes from the need, the rest is Nova's own."
        )
        self.cloud.prefer_hosts("cmp1", "cmp4", "cmp3", "cmp2")
        asked, moved = self.migrate(details)
        self.page.show("asked", f"{asked.method} {asked.path}")
        self.page.show("", f"resources={asked.query['resources'][0]}")
        for name, value in self.required(asked):
            self.page.show("", f"{name}={value}")
        offered = details["offered"]
        self.page.show(
            "answer", f"{' and '.join(offered)} (cmp2, where the guest is, is not considered)"
        )
        self.show_move(moved)
        self.expect_moved("cmp3", moved)
        expect_in("traits asked of Placement", TRAITS + "1_2", " ".join(sorted(asked.required)))
        expect("hosts that Placement offered", ["cmp2", "cmp3"], offered)

    def back(self, details: dict[str, Any]) -> None:
        _, moved = self.migrate(details)
        details["need"] = sorted(self.cloud.needed(self.server))
        self.page.say(
            "cmp3 runs 1.4, but live migration moves a running guest, which goes on using what it "
            "was started with. So its need is still 1.2, and the way back stays open:"
        )
        self.page.show("need", ", ".join(details["need"]))
        self.page.show("answer", " and ".join(details["offered"]))
        self.show_move(moved)
        expect("need of the guest", ["nic.fw_version=1.2"], details["need"])
        self.expect_moved("cmp2", moved)
        expect("hosts that Placement offered", ["cmp2", "cmp3"], details["offered"])

    def named(self, details: dict[str, Any]) -> None:
        with self.cloud.logs.during() as lines:
            moved = self.cloud.live_migrate(self.server, "cmp1")
        said = [
            line.text
            for line in lines.find("No host accepts", level=logging.INFO, logger="nova_devcompat")
        ]
        details |= {"tried": moved.tried, "status": moved.status, "log": said}
        self.page.say(
            "A host that is named is still checked by the scheduler. Nova itself says 'No valid "
            "host was found', as ever; the reason is in nova-scheduler's log:"
        )
        for text in said:
            self.page.show("log", text)
        self.show_move(moved)
        expect("log lines with the reason", 1, len(said))
        expect_in("that line", "needs 1.2, offered 1.0", said[0])
        expect_in("error of the migration", "No valid host", moved.error)
        expect("hosts that were asked to take the guest", [], moved.tried)
        self.expect_stays(moved)

    def forced(self, details: dict[str, Any]) -> None:
        with self.cloud.placement_log.during() as calls:
            moved = self.cloud.live_migrate(self.server, "cmp1", force=True)
        # As administrators find it in the action of the instance; its owner learns no versions.
        refusals = list(self.cloud.refusals(self.server).values())
        left = self.cloud.leftovers("cmp1", self.server)
        details |= {
            "scheduler_asked": bool(calls.candidates),
            "tried": moved.tried,
            "refusals": refusals,
            "status": moved.status,
            "left_on_destination": left,
        }
        self.page.say(
            "Up to API microversion 2.67 an operator can force a host: Nova then asks neither the "
            "scheduler nor Placement for candidates. The last word is with nova-compute on the "
            "destination, before a VF there is claimed:"
        )
        for refusal in refusals:
            self.page.show("cmp1 says", refusal)
        self.show_move(moved)
        self.page.show("left there", "; ".join(left) or "nothing is left claimed on cmp1")
        expect("whether the scheduler asked Placement", False, details["scheduler_asked"])
        expect("hosts that were asked to take the guest", ["cmp1"], moved.tried)
        expect_in("what cmp1 said", "needs 1.2, offered 1.0", refusals[0])
        expect("what is left on cmp1", [], left)
        self.expect_stays(moved)

    def upgrade(self, details: dict[str, Any]) -> None:
        from tests.functional import devcompat

        before = self.accepted_by("cmp1")
        self.cloud.set_devices("cmp1", devcompat.nic(UPGRADED))
        self.cloud.run_periodic("cmp1")
        after = self.accepted_by("cmp1")
        with self.cloud.placement_log.during() as calls:
            moved = self.cloud.live_migrate(self.server, "cmp1")
        details |= {
            "accepts_before": before,
            "accepts_after": after,
            "tried": moved.tried,
            "status": moved.status,
            "host": moved.host,
            "need": sorted(self.cloud.needed(self.server)),
            "offered": sorted(self.cloud.offered_hosts(calls.candidates[0])),
        }
        self.page.say(
            f"Its card now runs {UPGRADED} (here: its entry in the inventory file says so). "
            "nova-compute is not restarted: its next periodic cycle, every minute by default, "
            "publishes what has changed."
        )
        self.page.table(
            ["cmp1", "firmware", "accepts guests that need", "traits in Placement"],
            [
                ["before", VERSIONS["cmp1"], ", ".join(before), self.ends(before)],
                ["after", UPGRADED, ", ".join(after), self.ends(after)],
            ],
        )
        self.page.say("The same request as before, by name and without force:")
        self.show_move(moved)
        expect("versions that cmp1 accepted before", ["1.0"], before)
        expect("versions that cmp1 accepts after", ["1.0", "1.2", "1.4"], after)
        expect("need of the guest", ["nic.fw_version=1.2"], details["need"])
        self.expect_moved("cmp1", moved)

    # What steps share

    def accepted_by(self, host: str) -> list[str]:
        """The versions whose traits a host has in placement."""
        from nova_devcompat.compat import traits

        atoms = map(traits.decode, self.cloud.traits_of(host))
        return sorted(atom.value for atom in atoms if atom is not None and atom.family == "nic")

    def ends(self, versions: Sequence[str]) -> str:
        """The traits of versions without what all of them begin with."""
        from nova_devcompat.compat import traits

        names = (traits.encode(traits.Atom("nic", "fw_version", version)) for version in versions)
        return " ".join(f"..{name.removeprefix(TRAITS)}" for name in names)

    def judge(self) -> dict[str, tuple[Any, ...]]:
        """The scheduler's reasons against each host; none where it accepts the guest."""
        from nova_devcompat.compat.ruling import Guest
        from nova_devcompat.scheduler.lookup import Lookup
        from nova_devcompat.scheduler.state import SchedulerState

        state = SchedulerState()
        guest = Guest(record=self.cloud.record_of(self.server))
        request = state.request(Lookup(self.server["id"], guest))
        return {
            host: state.judge(request, self.cloud.stats_of(host), []).ruling.refused
            for host in VERSIONS
        }

    def migrate(self, details: dict[str, Any]) -> tuple[Any, Any]:
        """Live-migrate to where the scheduler chooses.

        :returns: what was asked of placement, and how it ended
        """
        source = self.cloud.host_of(self.server)
        with self.cloud.placement_log.during() as calls:
            moved = self.cloud.live_migrate(self.server)
        expect("whether Placement was asked for candidates", True, bool(calls.candidates))
        asked = calls.candidates[0]
        details |= {
            "asked": {name: asked.query[name] for name in sorted(asked.query)},
            "offered": sorted(self.cloud.offered_hosts(asked)),
            "source": source,
            "tried": moved.tried,
            "status": moved.status,
            "host": moved.host,
        }
        return asked, moved

    def required(self, asked: Any) -> Iterator[tuple[str, str]]:
        """The traits that a question requires: ours first, one to a line."""
        for value in asked.query.get("root_required", []):
            names = sorted(value.split(","), key=lambda name: not name.startswith(TRAITS))
            yield "root_required", ", ".join(names)

    def show_move(self, moved: Any) -> None:
        if moved.status == "completed":
            tried = len(moved.tried)
            outcome = f"completed at the {_ordinal(tried)} attempt; the guest is on {moved.host}"
        else:
            status = self.cloud.api.get_server(self.server["id"])["status"]
            outcome = f"refused; the guest is {status} on {moved.host}"
        self.page.show("migration", outcome)

    def expect_moved(self, host: str, moved: Any) -> None:
        expect(f"how the live migration ended ({moved.error})", "completed", moved.status)
        expect("host of the guest", host, moved.host)
        expect("hosts that were asked to take the guest", [host], moved.tried)

    def expect_stays(self, moved: Any) -> None:
        expect("how the live migration ended", "error", moved.status)
        expect("host of the guest", "cmp2", moved.host)
        server = self.cloud.api.get_server(self.server["id"])
        expect("status of the guest", "ACTIVE", server["status"])
        held = self.cloud.allocations_by_provider_name(self.server["id"])
        expect("hosts on which Placement has the guest", ["cmp2"], sorted(held))
        vfs = self.cloud.pci_devices_of("cmp2", self.server)
        expect("VFs of the guest on cmp2", 1, len(vfs))


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
