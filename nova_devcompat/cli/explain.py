# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat explain``: on a controller, with the nova.conf of nova-scheduler."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from nova_devcompat.cli import controller
from nova_devcompat.cli.question import LOG, Question


class Explain(Question):
    """Tell of every host whether a server could be live migrated to it, and why not.

    Nothing is migrated and nothing is written. Hosts that take the server come first, then those
    that may, of which only they themselves can tell, then those of which the least is in the way.
    The exit status is 0 where one of the hosts takes it, 3 where none is known to or Nova does not
    migrate it as it is, 2 for bad input, and 1 where it could not be asked, or not of all hosts.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="SERVER", help="UUID of a server")
        parser.add_argument(
            "--host",
            metavar="HOST",
            action="append",
            default=[],
            help="only this host; can be repeated",
        )
        self.add_assume_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        # Of a catalog that is wrong, all is told that is wrong with it, before it is used.
        assumed = self.assumptions(parsed_args, controller.catalog_of(None))
        from nova.scheduler.client import report

        from nova_devcompat.fleet.answers import Row
        from nova_devcompat.fleet.destinations import Destinations
        from nova_devcompat.fleet.explain import Explain as Asked
        from nova_devcompat.scheduler.preview import ATTRIBUTES
        from nova_devcompat.scheduler.state import SchedulerState

        instance, cell = self.cells.instance(parsed_args.server, ATTRIBUTES)
        destinations = Destinations(self.cells, report.report_client_singleton, assumed)
        destinations.track = self.track
        question = Asked(destinations, SchedulerState(), instance, cell)
        answers = question.answers(parsed_args.host)
        for objection in question.against_guest:
            LOG.warning("Nova does not migrate it as it is: %s", objection)
        LOG.info("Not judged: %s", "; ".join(question.not_judged))
        taken = any(answer.surely_takes_it for answer in answers)
        may = sum(answer.takes_it for answer in answers)
        if may and not taken:
            LOG.warning("No host is known to take it, and of %d only they can tell", may)
        self.in_the_way = bool(question.against_guest) or not taken
        return Row._fields, [answer.row for answer in answers]
