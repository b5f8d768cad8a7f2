# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""``nova-devcompat upgrade check``: on a controller, with the nova.conf of nova-scheduler."""

from __future__ import annotations

import argparse
import contextlib
import logging
import types
from typing import Any

from cliff.command import Command

from nova_devcompat.cli import controller
from nova_devcompat.cli.controller import nova
from nova_devcompat.cli.options import add_stage_options, moment_of
from nova_devcompat.cli.progress import progress_of

LOG = logging.getLogger(__name__)

# What oslo.upgradecheck ends with where a check could not be made.
_ERROR = 255


class UpgradeCheck(Command):
    """Check whether the cloud is ready for an upgrade, and whom the next stages would strand.

    The exit status is that of nova-status: 0 where all is well, 1 for a warning, 2 for a failure,
    255 where it could not be checked.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        controller.add_config_file_option(parser, "the configuration of nova-scheduler")
        parser.add_argument(
            "--catalog",
            metavar="FILE",
            action="append",
            help="a catalog in place of those of [devcompat] catalog, to see what it would do; "
            "can be repeated",
        )
        parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
        add_stage_options(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            return int(super().run(parsed_args) or 0)
        except Exception as error:
            LOG.error("%s", " ".join(str(error).split()) or type(error).__name__)
            LOG.debug("The check failed", exc_info=True)
            return _ERROR

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        with nova(parsed_args.config_file):
            from nova import context
            from nova.conf import CONF
            from oslo_upgradecheck import upgradecheck

            from nova_devcompat.catalog.stages import now
            from nova_devcompat.conf import default_policy
            from nova_devcompat.fleet.cloud import Cloud
            from nova_devcompat.fleet.upgrade import UpgradeChecks
            from nova_devcompat.stores.cells import Cells

            cells = Cells(context.get_admin_context())
            checks = UpgradeChecks(
                CONF,
                Cloud(cells, progress_of(self.app)),
                lambda: controller.catalog_of(parsed_args.catalog),
                default_policy(CONF),
                moment_of(parsed_args),
                parsed_args.activating_within,
                now(),
            )
            # Where oslo.upgradecheck looks for the option that its own parser would have.
            options: Any = types.SimpleNamespace(
                command=types.SimpleNamespace(json=parsed_args.json)
            )
            before, upgradecheck.CONF = upgradecheck.CONF, options
            try:
                with contextlib.redirect_stdout(self.app.stdout):
                    status = int(checks.check())
            finally:
                upgradecheck.CONF = before
            return max(status, int(cells.incomplete))
