# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat metrics``: on a controller, with the nova.conf of nova-scheduler."""

from __future__ import annotations

import argparse

from cliff.command import Command

from nova_devcompat.cli import controller
from nova_devcompat.cli.controller import nova
from nova_devcompat.cli.question import INCOMPLETE, LOG, read_of_cell

_SUFFIX = ".prom"


class Metrics(Command):
    """Write numbers of the whole cloud for node_exporter's textfile collector (Prometheus).

    Running servers that few hosts take, what is refused or would be, hosts that publish and those
    that do not, accepted risks. No server and no host is named. The file is replaced in one step.
    The exit status is 0 for done, 2 for bad input, and 1 where it could not be asked, or not of
    all, which the file then says.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        controller.add_config_file_option(parser, "the configuration of nova-scheduler")
        parser.add_argument(
            "--textfile",
            metavar="FILE",
            required=True,
            type=_prom,
            help="a file in the folder that node_exporter's --collector.textfile.directory names; "
            f"its name ends in {_SUFFIX}",
        )
        parser.add_argument(
            "--with-room",
            action="store_true",
            help="count only hosts that have a fitting device free, as placement has it",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        with nova(parsed_args.config_file):
            from nova import context
            from nova.conf import CONF

            from nova_devcompat.catalog import stages
            from nova_devcompat.conf import default_policy
            from nova_devcompat.fleet import metrics
            from nova_devcompat.fleet.cloud import Cloud
            from nova_devcompat.stores import risks
            from nova_devcompat.stores.cells import Cells

            catalog = controller.catalog_of(None)
            cloud = Cloud(Cells(context.get_admin_context()))
            began = risks.now()
            tally = metrics.ask(
                cloud,
                catalog,
                catalog.policies(default_policy(CONF), stages.now()),
                risk_file=CONF.devcompat.accepted_risks,
                with_room=parsed_args.with_room,
                progress=read_of_cell,
            )
            gauges = metrics.Gauges(tally, catalog, began, risks.now())
            metrics.write(parsed_args.textfile, gauges)
            LOG.info("Written: %s", parsed_args.textfile)
            return INCOMPLETE if cloud.cells.incomplete else 0


def _prom(text: str) -> str:
    if not text.endswith(_SUFFIX):
        raise argparse.ArgumentTypeError(
            f"node_exporter reads files that end in {_SUFFIX} only, and {text!r} does not"
        )
    return text
