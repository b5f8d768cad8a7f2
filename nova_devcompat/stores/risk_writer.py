# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Keeping accepted risks with an instance, and taking them away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from nova_devcompat.stores import writer
from nova_devcompat.wire.risks import RISK_PREFIX, AcceptedRisk, dump_risk, load_risks

LOG = logging.getLogger(__name__)


def write(uuid: str, read: Callable[[], Any], risk: AcceptedRisk) -> None:
    """Keep a risk with an instance.

    :param uuid: of the instance
    :param read: reads it from the database, with its system_metadata
    :raises RiskTooLong: it does not fit
    :raises writer.NotKept: somebody else writes the metadata all the time
    """
    key, text = dump_risk(risk)
    _set(uuid, read, key, text)


def remove(uuid: str, read: Callable[[], Any], name: str) -> bool:
    """Take a risk away from an instance.

    :returns: whether there was one of that name
    :raises writer.NotKept: see :func:`write`
    """
    return _set(uuid, read, f"{RISK_PREFIX}{name}", None)


def end_moves(uuid: str, read: Callable[[], Any], host: str) -> None:
    """Take away the risks that were for the move that has brought an instance to a host.

    :raises writer.NotKept: see :func:`write`
    """
    for risk in load_risks(read().system_metadata):
        if risk.host and risk.host != host:
            remove(uuid, read, risk.name)
            LOG.info("A risk for one move has ended with it: %s", risk.risk)


def _set(uuid: str, read: Callable[[], Any], key: str, text: str | None) -> bool:
    lost = "the instance is written by somebody else all the time; try again"
    return writer.keep_entry(uuid, read, key, text, lost)
