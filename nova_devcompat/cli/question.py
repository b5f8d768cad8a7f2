# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the commands share that ask something of the whole cloud, and answer in a list."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from nova_devcompat.cli import controller
from nova_devcompat.cli.controller import nova
from nova_devcompat.cli.formatters import FastLister
from nova_devcompat.cli.progress import Progress, progress_of

if TYPE_CHECKING:
    from nova_devcompat.catalog.model import Catalog
    from nova_devcompat.fleet.assume import Assumptions
    from nova_devcompat.stores.cells import Cells

#: Whose INFO lines are for the console.
LOG = logging.getLogger("nova_devcompat.cli")

#: The exit status where something is in the way.
IN_THE_WAY = 3
#: The exit status where not all could be asked.
INCOMPLETE = 1


class Question(FastLister):
    """A question about the cloud, on a controller, with the nova.conf of nova-scheduler.

    The exit status is 0 where nothing is in the way, 3 where something is, 2 for bad input, and 1
    where it could not be asked, or not of all.
    """

    cells: Cells
    #: Follows what takes long.
    track: Progress
    #: Whether something is in the way, as far as could be asked.
    in_the_way = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        controller.add_config_file_option(parser, "the configuration of nova-scheduler")
        return parser

    @staticmethod
    def add_assume_options(parser: argparse.ArgumentParser) -> None:
        """Add ``--assume`` and ``--assume-release``."""
        parser.add_argument(
            "--assume",
            metavar="HOST=FILE",
            action="append",
            default=[],
            help="answer as if the host had the devices of this static inventory: its own entry, "
            "or the only one, as 'inventory dump' prints it elsewhere; can be repeated",
        )
        parser.add_argument(
            "--assume-release",
            metavar="HOST=RELEASE",
            action="append",
            default=[],
            help="answer as if the host had this release of NVIDIA's driver, such as 570.133.20, "
            "as far as is published of it; can be repeated",
        )

    def assumptions(self, parsed_args: argparse.Namespace, catalog: Catalog) -> Assumptions:
        """What is to be assumed of hosts, which is said.

        :raises ValueError: it cannot be read, or there is no such host
        """
        from nova_devcompat.fleet.assume import assumptions

        assumed = assumptions(catalog, parsed_args.assume, parsed_args.assume_release)
        for host in assumed.hosts:
            self.cells.select(host=host)
        for one in assumed.said:
            LOG.info("Assumed: %s", one)
        return assumed

    def run(self, parsed_args: argparse.Namespace) -> int:
        with nova(parsed_args.config_file):
            from nova import context

            from nova_devcompat.stores.cells import Cells

            self.cells = Cells(context.get_admin_context())
            self.track = progress_of(self.app)
            status = int(super().run(parsed_args) or 0)
            if status or self.cells.incomplete:
                return status or INCOMPLETE
            return IN_THE_WAY if self.in_the_way else 0


def read_of_cell(cell: str, hosts: int, guests: int) -> None:
    """Tell the operator what was read of a cell."""
    LOG.info("Read of cell %s: %d hosts, %d running servers", cell, hosts, guests)
