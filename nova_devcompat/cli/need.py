# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat need ...``: on a controller, with its nova.conf."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn
from cliff.command import Command

from nova_devcompat.catalog import Catalog
from nova_devcompat.cli import controller
from nova_devcompat.cli.controller import nova
from nova_devcompat.cli.formatters import FastLister, SafeShowOne
from nova_devcompat.cli.progress import progress_of
from nova_devcompat.compat.need import host_slot
from nova_devcompat.kit.text import printable

if TYPE_CHECKING:
    from nova_devcompat.stores.cells import Cells


class OnController(Command):
    """A command that asks Nova's databases.

    Nova is imported when such a command runs: the others, and --help, need none.
    """

    cells: Cells

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        controller.add_config_file_option(parser, "Nova's configuration")
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        with nova(parsed_args.config_file):
            from nova import context

            from nova_devcompat.stores.cells import Cells

            self.cells = Cells(context.get_admin_context())
            status = int(super().run(parsed_args) or 0)
            return status or int(self.cells.incomplete)


class _WithCatalog(OnController):
    """A command that reads values by the catalog's rules."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--catalog",
            metavar="FILE",
            action="append",
            help="a catalog in place of those of [devcompat] catalog; can be repeated",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="print what would change, and change nothing"
        )
        return parser

    @staticmethod
    def catalog(parsed_args: argparse.Namespace) -> Catalog:
        return controller.catalog_of(parsed_args.catalog)


class NeedList(OnController, FastLister):
    """List what instances need: a row for each assigned device of a family.

    Deleted instances are not listed. Cells that do not answer are named on standard error, and the
    exit status is 1 then.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", metavar="HOST", help="only instances on this host")
        parser.add_argument("--family", metavar="FAMILY", help="only devices of this family")
        parser.add_argument("--cell", metavar="CELL", help="only this cell, by name or UUID")
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--assumed",
            action="store_true",
            help="only needs that were read off a device after its guest had started",
        )
        which.add_argument(
            "--missing",
            action="store_true",
            help="devices of running guests whose need is not recorded, or not all of it, judged "
            "by what their hosts publish",
        )
        which.add_argument(
            "--restart-pending",
            action="store_true",
            help="only what keeps guests from hosts because of where they were started, so that a "
            "restart frees them",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        from nova_devcompat.fleet.records import Records, Row

        which = {
            "cell": parsed_args.cell,
            "host": parsed_args.host,
            "family": parsed_args.family,
        }
        records = Records(self.cells)
        if parsed_args.missing:
            rows = records.missing(**which)
        else:
            rows = records.recorded(
                **which, assumed=parsed_args.assumed, restart=parsed_args.restart_pending
            )
        return Row._fields, progress_of(self.app)(rows, "Needs listed")


class NeedShow(OnController, SafeShowOne):
    """Show what one instance needs, and what its own host makes of that now.

    The verdict is that of the host the instance is on: after an upgrade in place it tells whether
    the guest could come back to it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("instance", metavar="INSTANCE", help="UUID of an instance")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        from nova_devcompat.fleet.records import Records

        shown = Records(self.cells).show(parsed_args.instance)
        shown["needs"] = _Devices(shown["needs"])
        shown["pins"] = _Mapping(shown["pins"])
        return tuple(shown), tuple(shown.values())


class NeedSet(_WithCatalog, FastLister):
    """Record other values for what an instance needs, and print what changed.

    For attributes that are recorded already, and while nothing else is being done to the instance.
    What is set is no longer assumed. The next reboot of the guest freezes its need anew.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("instance", metavar="INSTANCE", help="UUID of an instance")
        parser.add_argument(
            "values",
            metavar="FAMILY.ATTRIBUTE=VALUE",
            nargs="+",
            help="the value as a flavor would pin it",
        )
        parser.add_argument(
            "--address",
            metavar="ADDRESS",
            help="only the device at this address; else all devices of the family",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        from nova_devcompat.fleet.edits import Change
        from nova_devcompat.fleet.mending import Mending

        return Change._fields, Mending(self.cells).set_values(
            parsed_args.instance,
            parsed_args.values,
            self.catalog(parsed_args),
            address=parsed_args.address,
            dry_run=parsed_args.dry_run,
        )


class NeedClear(OnController, FastLister):
    """Drop the record of an instance, and print the entries of system_metadata that it was.

    Without a record the guest's need is not known, which on_unknown decides.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("instance", metavar="INSTANCE", help="UUID of an instance")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        from nova_devcompat.fleet.mending import Dropped, Mending

        if not parsed_args.yes and not self._agreed(parsed_args.instance):
            raise ValueError("nothing is cleared; add --yes to clear it without a question")
        return Dropped._fields, Mending(self.cells).clear(parsed_args.instance)

    def _agreed(self, instance: str) -> bool:
        # There is none where whoever started us has closed it.
        if self.app.stdin is None or not self.app.stdin.isatty():
            return False
        self.app.stderr.write(f"Drop what is recorded of instance {instance}? [y/N] ")
        self.app.stderr.flush()
        return self.app.stdin.readline().strip().lower() in ("y", "yes")


class NeedBackfill(_WithCatalog, FastLister):
    """Complete the records of running guests from what their hosts publish, and print the changes.

    What is recorded stays as it is; what is added is marked as assumed, since the device may have
    been upgraded after the guest started. nova-compute does the same for its own guests when it
    starts.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--host", metavar="HOST", help="only instances on this host")
        which.add_argument("--instance", metavar="INSTANCE", help="only this instance, a UUID")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        from nova_devcompat.fleet.edits import Change
        from nova_devcompat.fleet.mending import Mending

        return Change._fields, Mending(self.cells).backfill(
            self.catalog(parsed_args),
            host=parsed_args.host,
            instance=parsed_args.instance,
            dry_run=parsed_args.dry_run,
        )


class _Devices(FormattableColumn[list[dict[str, Any]]]):
    """The needs of an instance's devices: nested for machines, a few lines each for people."""

    def human_readable(self) -> str:
        return "\n".join(_described(device) for device in self._value) or "none recorded"


def _described(device: dict[str, Any]) -> str:
    lines = [f"{device['family']} {_where(device)}"]
    for name, values in device["values"].items():
        text = "unknown" if values is None else ",".join(values) or "nothing"
        lines.append(f"  {name} {text}{' (assumed)' if name in device['assumed'] else ''}")
    if device["verdict"]:
        lines.append(f"  its host: {device['verdict']}")
        lines += [f"    {reason}" for reason in device["reasons"]]
    return "\n".join(lines)


def _where(device: dict[str, Any]) -> str:
    if device["slot"] == host_slot(device["family"]):
        return "of its host"
    return f"at {device['address'] or 'an address not known'}"


class _Mapping(FormattableColumn[dict[str, str]]):
    """Texts by name."""

    def human_readable(self) -> str:
        return "\n".join(printable(f"{name}={value}", None) for name, value in self._value.items())
