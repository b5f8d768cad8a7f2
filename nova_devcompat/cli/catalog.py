# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat catalog ...``."""

from __future__ import annotations

import argparse

from cliff.command import Command

from nova_devcompat.catalog import inforce
from nova_devcompat.cli.options import (
    add_known_bad_option,
    add_pack_option,
    add_stage_options,
    moment_of,
    some_paths,
)
from nova_devcompat.service import load_catalog


class CatalogValidate(Command):
    """Check catalog files as nova.conf would list them, and print all that is wrong with them.

    Later files add families or override those of the same name. Of each family its policy as of
    today is told, where it comes from, what it overrides, and which others might match the same
    device. Stages that begin soon are listed,
    and those of a later release of Nova. The exit status is 2 where anything is wrong.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("files", metavar="FILE", nargs="*", help="a catalog")
        add_pack_option(parser)
        add_known_bad_option(parser)
        add_stage_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        catalog = load_catalog(
            some_paths(parsed_args.pack, parsed_args.files), known_bad=parsed_args.known_bad
        )
        rules = sum(len(family.family.rules) for family in catalog.families.values())
        self.app.stdout.write(
            f"OK: families: {len(catalog.families)}, rules: {rules}, digest: {catalog.digest}\n"
        )
        moment = moment_of(parsed_args)
        for line in inforce.told(catalog, None, moment):
            self.app.stdout.write(f"{line}\n")
        for line in (*inforce.overriding(catalog), *inforce.nothing(catalog)):
            self.app.stdout.write(f"WARNING: {line}\n")
        for told in catalog.may_overlap:
            self.app.stdout.write(f"{told}\n")
        for one in catalog.coming(moment, parsed_args.activating_within):
            self.app.stdout.write(f"{one.line(moment)}\n")
        return 0
