# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat matrix``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence

from nova_devcompat.cli.formatters import FastLister
from nova_devcompat.cli.options import add_catalog_options, add_known_bad_option, some_paths
from nova_devcompat.cli.progress import progress_of
from nova_devcompat.fleet import matrix
from nova_devcompat.kit.text import printable
from nova_devcompat.service import load_catalog
from nova_devcompat.sources.static import load_inventory

LOG = logging.getLogger(__name__)


class Matrix(FastLister):
    """Tell whether a guest on any device of an inventory could move to any other host.

    Uses the rules that nova-compute uses, over a static inventory: what to run on paper before a
    driver or firmware roll-out. Policies (mode, on_unknown) are not applied. The exit status is 0
    whatever the verdicts, and 2 for bad input.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_catalog_options(parser, none="This or --pack must be given")
        add_known_bad_option(parser)
        parser.add_argument(
            "--inventory", metavar="FILE", required=True, help="a static inventory of all hosts"
        )
        parser.add_argument(
            "--from", dest="source", metavar="HOST", help="only guests that leave this host"
        )
        parser.add_argument(
            "--to", dest="destination", metavar="HOST", help="only guests that go to this host"
        )
        parser.add_argument("--family", metavar="FAMILY", help="only devices of this family")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[matrix.Move]]:
        # The inventory says what any source would, so none need be installed on this machine.
        catalog = load_catalog(
            some_paths(parsed_args.pack, parsed_args.catalog),
            known_bad=parsed_args.known_bad,
            check_sources=False,
        )
        inventory = load_inventory(parsed_args.inventory, catalog)
        verdicts = matrix.Matrix(catalog, inventory)
        moves = verdicts.moves(
            source=parsed_args.source,
            destination=parsed_args.destination,
            family=parsed_args.family,
        )
        self._note(verdicts.passed_over)
        return matrix.Move._fields, _noted(progress_of(self.app)(moves, "Moves judged"))

    def _note(self, passed_over: list[tuple[str, str]]) -> None:
        if not passed_over:
            return
        shown = ", ".join(printable(f"{address} on {host}") for host, address in passed_over[:10])
        more = f" and {len(passed_over) - 10} more" if len(passed_over) > 10 else ""
        LOG.info(
            "Passed over, because no family of the catalog matches: %d of the devices (%s%s)",
            len(passed_over),
            shown,
            more,
        )


def _noted(moves: Iterable[matrix.Move]) -> Iterator[matrix.Move]:
    """The moves; that there are none is said, since it is not that all are fine."""
    some = False
    for move in moves:
        some = True
        yield move
    if not some:
        LOG.info("Nothing is judged: no such device, or no other host for its guests")
