# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Tell the story of a fleet with mixed firmware, on real Nova and Placement in one process.

Four hosts, one guest: where it may go and why not elsewhere, forward and back again, a forced
move that is refused, an upgrade that helps. The facts it shows are read from the running
services, and each step checks that all went as told.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import logging
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

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

_WIDTH = min(max(shutil.get_terminal_size((80, 24)).columns - 1, 60), 100)


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


# --- what is printed ----------------------------------------------------------------------------


class Page:
    """Where the story is written.

    :param quiet: write nothing
    """

    def __init__(self, *, quiet: bool) -> None:
        # Kept, because a test fixture may put something else in its place.
        self._out = None if quiet else sys.stdout
        self._gap = True

    def write(self, text: str, end: str = "\n") -> None:
        self._gap = False
        if self._out is not None:
            print(text, end=end, file=self._out, flush=True)

    def gap(self) -> None:
        """An empty line, unless there is one already."""
        if not self._gap:
            self.write("")
            self._gap = True

    def say(self, text: str, indent: str = "   ") -> None:
        """A paragraph."""
        self.gap()
        self.write(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
        )
        self.gap()

    def show(self, label: str, text: str) -> None:
        """Something that was read from a service, under a label."""
        start = f"     {label:<10} "
        self.write(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=start,
                subsequent_indent=" " * len(start),
                break_on_hyphens=False,
            )
        )

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose last column wraps."""
        self.gap()
        for line in tabulate(head, rows, _WIDTH):
            self.write(line)
        self.gap()

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what is going on, and then how long it took."""
        self.write(f"{what} ... ", end="")
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self.write("")
            raise
        self.write(f"{time.monotonic() - started:.1f} s")


def tabulate(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table; the last column wraps at ``width``."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    start = 5 + sum(widths[:-1]) + 2 * len(widths[:-1])
    # A name longer than the line sticks out rather than break.
    widths[-1] = min(widths[-1], max(width - start, 16))
    lines = []
    for row in (head, ["-" * length for length in widths], *rows):
        cells = [f"{cell:<{length}}  " for cell, length in zip(row, widths, strict=True)][:-1]
        last = textwrap.wrap(
            row[-1], widths[-1], break_long_words=False, break_on_hyphens=False
        ) or [""]
        lines.append(f"     {''.join(cells)}{last[0]}".rstrip())
        lines += [" " * start + more for more in last[1:]]
    return lines


# --- the story ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Told:
    """What became of one step."""

    name: str
    title: str
    ok: bool = False
    seconds: float = 0.0
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        content = dataclasses.asdict(self) | {"seconds": round(self.seconds, 2)}
        if self.error is None:
            del content["error"]
        return content


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


def tell(story: Story, page: Page, *, verbose: bool) -> list[Told]:
    """Go through the steps until one does not go as told."""
    told = []
    for number, (step, title) in enumerate(story.steps(), start=1):
        one = Told(step.__name__, title)
        told.append(one)
        page.gap()
        page.write(f"{number}. {title}")
        page.gap()
        one.ok, one.seconds, one.error = _attempt(functools.partial(step, one.details))
        if one.error is None:
            page.gap()
            page.write(f"   As told ({one.seconds:.1f} s).")
            continue
        _complain(f"Step {number}, {title!r}", one.error, verbose=verbose)
        break
    return told


def _attempt(do: Callable[[], None]) -> tuple[bool, float, dict[str, Any] | None]:
    """Do something; whether it went well, how long it took, and what was wrong."""
    started = time.monotonic()
    error: dict[str, Any] | None = None
    try:
        do()
    except BrokenPipeError:
        raise
    except Unexpected as unexpected:
        error = {
            "what": unexpected.what,
            "expected": unexpected.expected,
            "got": unexpected.got,
        }
    except Exception as other:  # noqa: BLE001 - whatever it is, it was not expected
        error = {
            "what": "no error",
            "expected": None,
            "got": f"{type(other).__name__}: {other}",
            "traceback": traceback.format_exc(),
        }
    return error is None, time.monotonic() - started, error


def _complain(where: str, error: Mapping[str, Any], *, verbose: bool) -> None:
    lines = [f"\nFAILED. {where} did not go as told."]
    if "traceback" in error:
        lines.append(f"  {error['got']}")
        if verbose:
            lines.append(error["traceback"])
    else:
        lines += [
            f"  {error['what']}",
            f"    expected  {error['expected']!r}",
            f"    got       {error['got']!r}",
        ]
    if not verbose:
        lines.append("Nova's logs may tell more: ./tools/demo.sh -v")
    print("\n".join(lines), file=sys.stderr, flush=True)


# --- bringing it up -----------------------------------------------------------------------------


def _fleet_class(verbose: bool) -> Any:
    """Make the class of the cloud; importing Nova is what takes its time here."""
    from tests.functional import base, devcompat

    class DemoFleet(devcompat.DeviceCompatFleet):
        """VFs that placement does not track, as force is refused by Nova itself for others."""

        FAMILIES = FAMILIES
        DEVICE_SPEC = [base.VF_SPEC]
        ALIASES = [base.VF_BY_ID]
        PCI_IN_PLACEMENT = False

        def configure(self) -> None:
            super().configure()
            # Not earlier: Nova's logging fixture takes away what handlers there are.
            if verbose:
                handler = logging.StreamHandler(sys.__stderr__)
                handler.setLevel(logging.INFO)
                handler.setFormatter(
                    logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
                )
                logging.getLogger().addHandler(handler)
                self.addCleanup(logging.getLogger().removeHandler, handler)

    return DemoFleet


def _bring_up(page: Page, stack: contextlib.ExitStack, *, verbose: bool) -> Any:
    """Start all services; the stack takes them down."""
    with page.doing("Loading Nova"):
        fleet = _fleet_class(verbose)
        from tests.functional import base, devcompat
    with page.doing("Starting Placement, nova-api, nova-conductor and nova-scheduler"):
        cloud = stack.enter_context(base.running(fleet))
    # What is logged when Nova's logging fixture has gone would go to stderr.
    stack.callback(logging.disable, logging.CRITICAL)
    for host, version in VERSIONS.items():
        with page.doing(f"Starting nova-compute on {host}"):
            cloud.set_devices(host, devcompat.nic(version))
            cloud.start_host(host, pfs=[base.Pf()])
    with page.doing("Two periodic cycles, in which hosts learn of each other's versions"):
        cloud.settle()
    return cloud


def run(arguments: argparse.Namespace, page: Page) -> tuple[list[Told], dict[str, str]]:
    """Bring everything up, tell the story and take everything down."""
    versions = {
        "python": ".".join(map(str, sys.version_info[:3])),
        **{
            name: importlib.metadata.version(distribution)
            for name, distribution in (("nova", "nova"), ("placement", "openstack-placement"))
        },
    }
    page.write("nova-devcompat: guests with assigned devices in a fleet of mixed versions")
    page.say(
        f"Real services in this process: nova-api, scheduler, conductor, four nova-computes "
        f"(Nova {versions['nova']}, unmodified) and Placement {versions['placement']}. libvirt, "
        "the cards and the rest of OpenStack are the stand-ins of Nova's own tests.",
        indent="",
    )
    story = Story(page)
    services = Told("services", "The services are started")
    with contextlib.ExitStack() as stack:

        def bring_up() -> None:
            story.cloud = _bring_up(page, stack, verbose=arguments.verbose)

        services.ok, services.seconds, services.error = _attempt(bring_up)
        if services.error is not None:
            _complain("Starting the services", services.error, verbose=arguments.verbose)
            return [services], versions
        return [services, *tell(story, page, verbose=arguments.verbose)], versions


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/demo.sh",
        description=__doc__,
        epilog="Exit status: 0 if every step went as told, 1 if one did not, 2 if it cannot run\n"
        "here, 130 after Ctrl-C. No root, no server; nothing is left behind but .venvs.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document instead of the story: steps with name, ok and details",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="Nova's logs (INFO), to stderr; Nova logs the refusals of steps 6 and 7 as errors",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    _check_environment()
    started = time.monotonic()
    page = Page(quiet=arguments.json)
    stdout = sys.stdout
    if arguments.json:
        # Whatever else in this process prints has no business in the document.
        sys.stdout = sys.stderr
    with tempfile.TemporaryDirectory(prefix="nova-devcompat-demo-") as scratch:
        # All temporary files are made in there, so that an interruption can remove them.
        tempfile.tempdir = scratch
        _end_quietly_on_signals(scratch)
        told, versions = run(arguments, page)
        tempfile.tempdir = None
    ok = all(one.ok for one in told)
    seconds = time.monotonic() - started
    if arguments.json:
        document = {
            "ok": ok,
            "seconds": round(seconds, 2),
            "versions": versions,
            "steps": [one.as_json() for one in told],
        }
        print(json.dumps(document, indent=2, default=str), file=stdout, flush=True)
    elif ok:
        page.say(
            f"Everything went as told, in {seconds:.0f} s. You saw a guest's need recorded when "
            "it started, and Placement, the scheduler and the destination each hold to it: no "
            "host that cannot take the guest was given it, and each refusal said why.",
            indent="",
        )
        page.write(
            "Next: README.rst for the nova.conf that enables this; and for your own fleet, on\n"
            "paper and without Nova: nova-devcompat matrix --catalog FILE --inventory FILE"
        )
    return 0 if ok else 1


def _check_environment() -> None:
    """Leave with advice if what the demo needs is not there."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is run by any Python there is
        _cannot(f"this is Python {sys.version_info[0]}.{sys.version_info[1]}, not 3.11 or newer")
    # Fixed by Nova's first import. Nova 34's own default is still eventlet.
    os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "true")
    # Left from a test run, they would make Nova's fixtures swallow what is printed.
    for name in ("OS_STDOUT_CAPTURE", "OS_STDERR_CAPTURE", "OS_DEBUG"):
        os.environ.pop(name, None)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # deprecations in the libraries that Nova uses
    # Only looked for: the order in which they are imported matters to Nova.
    for module in ("nova", "placement", "fixtures", "nova_devcompat"):
        if importlib.util.find_spec(module) is None:
            _cannot(f"it has no module {module}")
    if not importlib.metadata.entry_points(group="nova_devcompat.scheduler_filters"):
        _cannot("nova-devcompat is not installed into it")
    nova = importlib.util.find_spec("nova")
    places = (nova and nova.submodule_search_locations) or ()
    if not any((pathlib.Path(place) / "virt" / "devcompat").is_dir() for place in places):
        _cannot("its Nova has no nova.virt.devcompat, which our wheel brings")


def _cannot(why: str) -> NoReturn:
    print(
        f"The demo cannot run with {sys.executable or 'this Python'}: {why}.\n"
        "Run ./tools/demo.sh, which makes an environment that has all it needs.",
        file=sys.stderr,
    )
    sys.exit(2)


def _end_quietly_on_signals(scratch: str) -> None:
    """End at once and without a word; Nova's threads would take their time to be joined."""

    def end(signum: int, frame: object) -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(128 + signum)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), end)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the story has enough of it (| head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
