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
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn

from rigs.demo.cloud import bring_up_fleet
from rigs.demo.page import Page
from rigs.demo.story import Story
from rigs.demo.telling import StepOutcome, attempt, complain, tell


def run(arguments: argparse.Namespace, page: Page) -> tuple[list[StepOutcome], dict[str, str]]:
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
    services = StepOutcome("services", "The services are started")
    with contextlib.ExitStack() as stack:

        def bring_up() -> None:
            story.cloud = bring_up_fleet(page, stack, verbose=arguments.verbose)

        services.ok, services.seconds, services.error = attempt(bring_up)
        if services.error is not None:
            complain("Starting the services", services.error, verbose=arguments.verbose)
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
