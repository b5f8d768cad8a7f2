# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Tells placement what flavors pin, once a flavor is stored.

Hosts evaluate the traits that there are, so a new pin has to become one before the first guest is
scheduled with it. A validator of extra specs is asked of each key alone, before Nova knows whether
it takes the others; what it made of a request that is then refused would stay for ever. Nova has
no hook for what was stored, so ``Flavor.save`` is wrapped, in nova-api alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from keystoneauth1 import exceptions as ks_exc
from nova.objects import flavor as nova_flavor
from nova.scheduler.client import report
from oslo_log import log as logging

from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import choice, traits
from nova_devcompat.compat.pins import is_pin
from nova_devcompat.stores.placement import Placement, PlacementError

LOG = logging.getLogger(__name__)

_ORIGINAL = "_devcompat_original"


def install(catalog: Callable[[], Catalog]) -> None:
    """Have placement told of the pins of each flavor that is stored from now on.

    An earlier installation is replaced.

    :param catalog: reads them; it may raise
    """
    original = getattr(nova_flavor.Flavor.save, _ORIGINAL, nova_flavor.Flavor.save)

    @functools.wraps(original)
    def save(flavor: Any, *args: Any, **kwargs: Any) -> Any:
        pins = _changed_pins(flavor)
        result = original(flavor, *args, **kwargs)
        if pins:
            tell(pins, catalog)
        return result

    setattr(save, _ORIGINAL, original)
    nova_flavor.Flavor.save = save


def _changed_pins(flavor: Any) -> dict[str, str]:
    """The pins of a flavor that is about to be stored, if its extra specs have changed."""
    if "extra_specs" not in flavor.obj_what_changed():
        return {}
    return {key: value for key, value in flavor.extra_specs.items() if is_pin(key)}


def tell(pins: Mapping[str, str], catalog: Callable[[], Catalog]) -> None:
    """Create the traits of a flavor's pins that do not exist. Never raises.

    nova-scheduler would create them at the first boot, which would fail for want of them.

    :param pins: extra specs; those that cannot be read are passed over
    """
    listed = ", ".join(sorted(pins))
    try:
        need, _ = catalog().read_pins(pins)
        left_out = Placement(report.report_client_singleton()).make_traits(
            _names(need.atoms), most=choice.MOST_PINNED
        )
    except (PlacementError, ks_exc.ClientException) as error:
        LOG.warning(
            "Placement was not told of extra specs %(pins)s, so hosts learn of them when a guest "
            "is first scheduled with them: %(error)s",
            {"pins": listed, "error": error},
        )
    except Exception:
        # Nova's client was never meant to be made here; the flavor is stored all the same.
        LOG.exception("Placement was not told of extra specs %s", listed)
    else:
        if left_out:
            LOG.warning(
                "Placement was not told of some values of extra specs %(pins)s, since it has "
                "%(most)d or more of the attribute already, so hosts may never evaluate them: "
                "%(names)s",
                {"pins": listed, "most": choice.MOST_PINNED, "names": ", ".join(sorted(left_out))},
            )


def _names(atoms: frozenset[traits.Atom]) -> list[str]:
    names = []
    for atom in atoms:
        try:
            names.append(traits.encode(atom))
        except traits.TraitTooLong as error:
            # Stored by a request that nobody validated.
            LOG.warning("Placement is not told: %s", error)
    return names
