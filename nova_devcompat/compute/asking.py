# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Has nova-compute ask placement for traits in lines that servers take.

Before it sets the traits of a provider, Nova's client asks which of them exist, and names all of
them in one request line (nova/scheduler/client/report.py, ``_ensure_traits``). Servers refuse
lines beyond 4 or 8 KiB, and a host that accepts many atoms would then update nothing of its
resources any more. Nova has no option for it, so that method is wrapped, in nova-compute alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection
from typing import Any

from oslo_log import log as logging

from nova_devcompat.stores.placement import in_lines

LOG = logging.getLogger(__name__)

_METHOD = "_ensure_traits"
_PARAMETERS = ["context", "traits"]


def install(driver: Any) -> bool:
    """Wrap that method of the client that a driver's nova-compute has.

    It is reached through a private link of the virt API, ``virtapi._compute.reportclient``.

    :returns: whether it is wrapped: not where there is no such client, or its method takes
        something else than in the releases of Nova that we know, as a WARNING says
    """
    client = getattr(
        getattr(getattr(driver, "virtapi", None), "_compute", None), "reportclient", None
    )
    original = getattr(client, _METHOD, None)
    if original is None or list(inspect.signature(original).parameters) != _PARAMETERS:
        LOG.warning(
            "Nova's %s is not as this release knows it: placement is asked for all that a host "
            "accepts in one line, which the server before it may refuse if it is much",
            _METHOD,
        )
        return False

    @functools.wraps(original)
    def ensure_traits(context: Any, traits: Collection[str]) -> None:
        for some in in_lines(sorted(traits or ())):
            original(context, some)

    setattr(client, _METHOD, ensure_traits)
    return True
