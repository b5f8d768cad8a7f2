# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat atom ...``: on a controller, with the nova.conf of nova-scheduler."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nova_devcompat.cli import controller
from nova_devcompat.cli.formatters import FastLister
from nova_devcompat.cli.need import OnController

if TYPE_CHECKING:
    from nova_devcompat.fleet.atoms import Atoms


class _OnAtoms(OnController, FastLister):
    """A command on the atoms that placement knows."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--family", metavar="FAMILY", help="only atoms of this family")
        return parser

    @property
    def atoms(self) -> Atoms:
        """Those of the cloud that nova.conf is of."""
        from nova_devcompat.fleet.atoms import Atoms
        from nova_devcompat.fleet.cloud import Cloud

        return Atoms(Cloud(self.cells), controller.catalog_of(None))


class AtomList(_OnAtoms):
    """List the values that placement knows as traits of ours, and who makes use of each.

    Placement is asked once for each that a provider has.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--unused", action="store_true", help="only those that nobody makes use of"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        from nova_devcompat.fleet.atoms import Row

        listed = self.atoms.listed(family=parsed_args.family, unused=parsed_args.unused)
        return Row._fields, listed


class AtomPrune(_OnAtoms):
    """Remove traits of ours that no guest needs and no host offers or accepts.

    Without --yes nothing is removed, and those that would be are printed. A trait that a provider
    has is never removed, nor one that is not under our prefix; and none is where a cell does not
    answer.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--yes", action="store_true", help="remove them")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        from nova_devcompat.fleet.atoms import Pruned

        pruned = self.atoms.pruned(family=parsed_args.family, dry_run=not parsed_args.yes)
        return Pruned._fields, pruned
