# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat page``: of a cloud on a controller, or of an inventory anywhere."""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
from typing import Any

from cliff.command import Command

from nova_devcompat.catalog import stages
from nova_devcompat.cli import controller
from nova_devcompat.cli.controller import nova
from nova_devcompat.cli.main import version
from nova_devcompat.cli.options import add_catalog_options, add_known_bad_option, some_paths
from nova_devcompat.cli.progress import progress_of
from nova_devcompat.cli.question import INCOMPLETE, LOG, read_of_cell
from nova_devcompat.cli.rendering import Head, render
from nova_devcompat.fleet.imagined import outlook_of
from nova_devcompat.fleet.overview import Overview
from nova_devcompat.fleet.paper import Paper
from nova_devcompat.kit.replacing import replace
from nova_devcompat.service import load_catalog
from nova_devcompat.sources.static import load_inventory

_ON_PAPER = (
    "policies (mode, on_unknown)",
    "which guests there are: there is one on each device",
    "room, hosts that are down or disabled, Nova's other filters",
)


class Page(Command):
    """Write the fleet as one HTML file that can be opened, mailed and printed.

    It has how many servers can be moved and how many cannot, what to do next, which hosts take
    which servers, and of each server what every host says. It needs no server and no network. With
    --inventory it is about a static inventory, needs no Nova, and has a guest on each device;
    else about the cloud of this controller. The exit status is 0 for done, 2 for bad input, and 1
    where it could not be asked, or not of all, which the page then says.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-o", "--output", metavar="FILE", required=True, help="the file to write"
        )
        parser.add_argument(
            "--inventory",
            metavar="FILE",
            help="a static inventory of all hosts, in place of a cloud",
        )
        parser.add_argument("--title", metavar="TEXT", help="what the fleet is called")
        add_catalog_options(parser, none="With --inventory, this or --pack must be given")
        add_known_bad_option(parser)
        parser.add_argument(
            "--with-room",
            action="store_true",
            help="count only hosts that have a fitting device free, as placement has it",
        )
        controller.add_config_file_option(parser, "the configuration of nova-scheduler")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.inventory is not None:
            return self._of_inventory(parsed_args)
        if parsed_args.pack or parsed_args.known_bad:
            raise ValueError(
                "--pack and --known-bad are for --inventory; a cloud's stand in its nova.conf"
            )
        with nova(parsed_args.config_file):
            return self._of_cloud(parsed_args)

    def _of_inventory(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.with_room:
            raise ValueError("--with-room asks placement, and an inventory has none")
        catalog = load_catalog(
            some_paths(parsed_args.pack, parsed_args.catalog),
            known_bad=parsed_args.known_bad,
            check_sources=False,
        )
        paper = Paper(catalog, load_inventory(parsed_args.inventory, catalog))
        overview = Overview()
        overview.add("inventory", outlook_of(catalog, paper))
        head = Head(
            title=parsed_args.title or f"the inventory {os.path.basename(parsed_args.inventory)}",
            digest=catalog.digest,
            noun="guests, one on each device,",
            not_judged=_ON_PAPER,
            incomplete=_passed_over(paper),
            **_now(),
        )
        self._write(parsed_args.output, render(overview, head))
        return 0

    def _of_cloud(self, parsed_args: argparse.Namespace) -> int:
        from nova import context
        from nova.conf import CONF

        from nova_devcompat.conf import default_policy
        from nova_devcompat.fleet import panorama
        from nova_devcompat.fleet.cloud import Cloud
        from nova_devcompat.stores.cells import Cells

        catalog = controller.catalog_of(parsed_args.catalog)
        cloud = Cloud(Cells(context.get_admin_context()), progress_of(self.app))
        seen = panorama.of(
            cloud,
            catalog,
            catalog.policies(default_policy(CONF), stages.now()),
            with_room=parsed_args.with_room,
            imagined=bool(parsed_args.catalog),
            progress=read_of_cell,
        )
        head = Head(
            title=parsed_args.title or "the cloud",
            digest=catalog.digest,
            noun="running guests",
            not_judged=seen.not_judged,
            incomplete=seen.incomplete,
            aggregates=seen.aggregates,
            **_now(),
        )
        self._write(parsed_args.output, render(seen.overview, head))
        return INCOMPLETE if cloud.cells.incomplete else 0

    def _write(self, path: str, text: str) -> None:
        """Put the page in place in one step.

        :raises ValueError: it cannot be written there
        """
        try:
            write(pathlib.Path(path), text)
        except BrokenPipeError:
            raise  # /dev/stdout, of which somebody has read enough
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}") from error
        LOG.info("Written: %s, %d KiB", path, len(text.encode()) // 1024)


def write(path: pathlib.Path, text: str) -> None:
    """Write a file in place of what was there, in one step.

    It names servers and hosts, as logs do, so not everybody may read it.

    :raises OSError: it cannot be written
    """
    if path.exists() and not path.is_file():
        path.write_text(text, "utf-8")  # such as /dev/stdout
    else:
        replace(path, text, 0o640)


def _passed_over(paper: Paper) -> list[str]:
    count = len(paper.passed_over)
    if not count:
        return []
    return [f"{count} devices of the inventory are of no family of the catalog, and are left out"]


def _now() -> dict[str, Any]:
    return {"when": datetime.datetime.now(datetime.UTC), "version": version()}
