# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat stranded``: on a controller, with the nova.conf of nova-scheduler."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from nova_devcompat.cli import controller
from nova_devcompat.cli.question import LOG, Question, read_of_cell

T = TypeVar("T")


class Stranded(Question):
    """List the running servers that few hosts take, by cause, with what to do about it.

    They are those that no host takes (nowhere), that only their own host takes (only here), that
    only one other host takes (one other left), and those that no other host is known to take,
    since only these hosts themselves can tell (unknown). The exit status is 0 where there are
    none, 3 where there are some, 2 for bad input, and 1 where it could not be asked, or not of
    all.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", metavar="HOST", help="only servers on this host")
        parser.add_argument(
            "--aggregate",
            metavar="AGGREGATE",
            help="only servers on hosts of this aggregate, by name or ID",
        )
        parser.add_argument(
            "--family",
            metavar="FAMILY",
            help="only servers that need something of this family, or that it stands against",
        )
        parser.add_argument(
            "--with-room",
            action="store_true",
            help="count only hosts that have a fitting device free, as placement has it",
        )
        parser.add_argument(
            "--guests", action="store_true", help="a row for each server in place of each cause"
        )
        parser.add_argument(
            "--catalog",
            metavar="FILE",
            action="append",
            help="a catalog in place of those of [devcompat] catalog, to see what its policies "
            "would do; can be repeated",
        )
        self.add_assume_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        from nova.conf import CONF

        from nova_devcompat.catalog import stages
        from nova_devcompat.conf import default_policy
        from nova_devcompat.fleet import census
        from nova_devcompat.fleet.cloud import Cloud

        catalog = controller.catalog_of(parsed_args.catalog)
        cloud = Cloud(self.cells, self.track)
        wanted = census.which(cloud, parsed_args.host, parsed_args.aggregate, parsed_args.family)
        found = census.findings(
            cloud,
            catalog,
            catalog.policies(default_policy(CONF), stages.now()),
            wanted,
            with_room=parsed_args.with_room,
            imagined=bool(parsed_args.catalog),
            assumed=self.assumptions(parsed_args, catalog),
            progress=read_of_cell,
            track=self.track,
        )
        untold = census.NOT_JUDGED + (() if parsed_args.with_room else (census.FREE_DEVICES,))
        LOG.info("Not judged: %s", "; ".join(untold))
        if parsed_args.guests:
            return census.GuestRow._fields, _begun(self._noted(census.by_guest(found)))
        return census.Row._fields, _begun(self._noted(census.by_cause(found)))

    def _noted(self, rows: Iterable[T]) -> Iterator[T]:
        for row in rows:
            self.in_the_way = True
            yield row


def _begun(rows: Iterator[T]) -> Iterator[T]:
    """The rows, the first of which is there: what was asked wrongly is said before any is."""
    first = list(itertools.islice(rows, 1))
    return itertools.chain(first, rows)
