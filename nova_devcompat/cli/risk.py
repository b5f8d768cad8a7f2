# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat risk ...``: on a controller, with the nova.conf of nova-scheduler."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nova_devcompat.cli import controller
from nova_devcompat.cli.formatters import FastLister
from nova_devcompat.cli.need import OnController

if TYPE_CHECKING:
    from nova_devcompat.fleet.risks import Risks


class _OnRisks(OnController, FastLister):
    """A command on accepted risks."""

    @property
    def risks(self) -> Risks:
        """Those of the cloud that nova.conf is of."""
        from nova.conf import CONF

        from nova_devcompat.fleet.risks import Risks

        return Risks(self.cells, CONF.devcompat.accepted_risks)


def _add_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NAME",
        help="an entry of a known-bad list, or FAMILY:unknown for what is not known of a family",
    )
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--server", metavar="SERVER", help="of this guest, by its UUID")
    of.add_argument("--host", metavar="HOST", help="of this host, whatever guest it takes")


class RiskAccept(_OnRisks):
    """Let one named thing pass, of one guest or on one host, for a while.

    What a rule refuses cannot be accepted. A guest's risk is kept with the guest; a host's in the
    file of [devcompat] accepted_risks, which nova-scheduler and the host must both have. Every
    decision that makes use of it says so, and it ends by itself.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_of(parser)
        parser.add_argument(
            "--until",
            metavar="TIME",
            required=True,
            help="when it ends: 2026-12-01, or 2026-12-01T18:00, in UTC where no zone is named",
        )
        parser.add_argument("--reason", metavar="TEXT", required=True, help="why")
        parser.add_argument(
            "--who", metavar="NAME", default=_who(), help="who accepts it (default: %(default)s)"
        )
        parser.add_argument(
            "--once",
            action="store_true",
            help="of a guest, for one move: it ends when the guest leaves its host",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from nova.conf import CONF

        from nova_devcompat.fleet.risks import Row, check_name, check_until
        from nova_devcompat.stores.risks import now, parse_moment
        from nova_devcompat.wire.risks import AcceptedRisk

        if parsed_args.once and parsed_args.host:
            raise ValueError("--once is for a guest; a host takes many")
        if not parsed_args.reason.strip():
            raise ValueError("--reason is empty; say why")
        if not parsed_args.who.strip():
            raise ValueError("--who is empty; say who accepts it")
        check_name(parsed_args.name, controller.catalog_of(None))
        moment = now()
        risk = AcceptedRisk(
            name=parsed_args.name,
            until=check_until(
                parse_moment(parsed_args.until), moment, CONF.devcompat.accepted_risk_days
            ),
            who=parsed_args.who.strip(),
            reason=parsed_args.reason.strip(),
            accepted=moment,
        )
        if parsed_args.server:
            row = self.risks.accept_of_server(parsed_args.server, risk, once=parsed_args.once)
        else:
            row = self.risks.accept_of_host(parsed_args.host, risk)
        return Row._fields, [row]


class RiskList(_OnRisks):
    """List accepted risks: who accepted what, until when and why."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--all", action="store_true", help="those that have ended or were used, too"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from nova_devcompat.fleet.risks import Row

        return Row._fields, self.risks.listed(ended=parsed_args.all)


class RiskRevoke(_OnRisks):
    """Take an accepted risk back. What is under way is refused at the last look."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_of(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from nova_devcompat.fleet.risks import Row

        row = self.risks.revoke(parsed_args.name, server=parsed_args.server, host=parsed_args.host)
        return Row._fields, [row]


def _who() -> str:
    """The person at the terminal, as far as that can be told."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # no such user, and no environment that tells
        return "unknown"
