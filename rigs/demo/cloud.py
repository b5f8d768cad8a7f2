# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The services that the story is told on: Nova's and placement, in this process."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

from rigs.demo.page import Page
from rigs.demo.story import FAMILIES, VERSIONS


def _fleet_class(verbose: bool) -> Any:
    """Make the class of the cloud; importing Nova is what takes its time here."""
    from tests.functional import base, devcompat

    class DemoFleet(devcompat.DeviceCompatFleet):
        """VFs that placement does not track, as force is refused by Nova itself for others."""

        FAMILIES = FAMILIES
        DEVICE_SPEC = [base.VF_SPEC]
        ALIASES = [base.VF_BY_ID]
        PCI_IN_PLACEMENT = False

        def configure(self) -> None:
            super().configure()
            # Not earlier: Nova's logging fixture takes away what handlers there are.
            if verbose:
                handler = logging.StreamHandler(sys.__stderr__)
                handler.setLevel(logging.INFO)
                handler.setFormatter(
                    logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
                )
                logging.getLogger().addHandler(handler)
                self.addCleanup(logging.getLogger().removeHandler, handler)

    return DemoFleet


def bring_up_fleet(page: Page, stack: contextlib.ExitStack, *, verbose: bool) -> Any:
    """Start all services; the stack takes them down."""
    with page.doing("Loading Nova"):
        fleet = _fleet_class(verbose)
        from tests.functional import base, devcompat
    with page.doing("Starting Placement, nova-api, nova-conductor and nova-scheduler"):
        cloud = stack.enter_context(base.running(fleet))
    # What is logged when Nova's logging fixture has gone would go to stderr.
    stack.callback(logging.disable, logging.CRITICAL)
    for host, version in VERSIONS.items():
        with page.doing(f"Starting nova-compute on {host}"):
            cloud.set_devices(host, devcompat.nic(version))
            cloud.start_host(host, pfs=[base.Pf()])
    with page.doing("Two periodic cycles, in which hosts learn of each other's versions"):
        cloud.settle()
    return cloud
