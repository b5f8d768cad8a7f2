# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat drain ...``: on a controller, with the nova.conf of nova-scheduler."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from nova_devcompat.cli import controller
from nova_devcompat.cli.question import LOG, Question


class DrainCheck(Question):
    """Tell whether all servers of some hosts could be live migrated away now, at the same time.

    Nothing is migrated and nothing is written. None of the hosts is a destination of the others.
    Servers that cannot leave come first, then those of which only their destination can tell
    whether they can. The exit status is 0 where all can leave, 3 where it is not known of all that
    they can, 2 for bad input, and 1 where it could not be asked, or not of all.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("hosts", metavar="HOST", nargs="+", help="a host to drain")
        self.add_assume_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        # Of a catalog that is wrong, all is told that is wrong with it, before it is used.
        assumed = self.assumptions(parsed_args, controller.catalog_of(None))
        from nova.scheduler.client import report

        from nova_devcompat.fleet.destinations import Destinations
        from nova_devcompat.fleet.drain import Drain, Result, Row
        from nova_devcompat.scheduler.state import SchedulerState

        destinations = Destinations(self.cells, report.report_client_singleton, assumed)
        drain = Drain(destinations, SchedulerState(), parsed_args.hosts, self.track)
        rows = drain.rows()
        LOG.info("Not judged: %s", "; ".join(drain.not_judged))
        self.in_the_way = any(row.result != Result.LEAVES for row in rows)
        return Row._fields, rows
