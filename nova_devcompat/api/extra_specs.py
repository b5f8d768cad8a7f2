# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Flavor extra specs ``devcompat:<family>.<attribute>``, validated when a flavor gets them.

nova-api asks what the entry points of ``nova.api.extra_spec_validators`` register
(nova/api/validation/extra_specs/validators.py), from microversion 2.86 on; who writes with an
older one can store anything, and nova-scheduler then says that it cannot read the pin.
"""

from __future__ import annotations

import threading

import nova.conf
from nova import exception
from nova.api.validation.extra_specs import base
from nova.scheduler.client import report
from oslo_log import log as logging

from nova_devcompat import conf as devcompat_conf
from nova_devcompat.api import flavors
from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.compat import traits
from nova_devcompat.compat.need import Need
from nova_devcompat.compat.pins import PREFIX, BadPin
from nova_devcompat.service import catalog_keeper
from nova_devcompat.stores.placement import Placement

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

devcompat_conf.register_opts(CONF)


class PinValidator(base.ExtraSpecValidator):
    """Reads a pin by the catalog of nova-api's host.

    The catalog is loaded at the first pin, so that nova-api starts without one; a change of its
    files shows at the next pin. Safe for use by several threads.
    """

    def __init__(self) -> None:
        super().__init__(
            name=f"{PREFIX}{{pin}}",
            description=(
                "The value that guests of the flavor are recorded as needing of their assigned "
                "devices, named as <family>.<attribute>; the devices must accept it."
            ),
            value={"type": str},
            parameters=[{"name": "pin", "pattern": ".*"}],
        )
        self._lock = threading.Lock()
        self._keeper: tuple[tuple[tuple[str, ...], ...], CatalogKeeper] | None = None

    def validate(self, name: str, value: str) -> None:
        """Refuse what no rule can read.

        :raises ValidationError: a 400 that says what is allowed, or why that is not known
        """
        try:
            catalog = self.catalog()
            pins = catalog.pins({name: value})
            for atom in pins.atoms:
                traits.encode(atom)
        except (BadPin, traits.TraitTooLong) as error:
            raise exception.ValidationError(f"Validation failed; {error}") from error
        except CatalogError as error:
            LOG.error("Pins cannot be validated, the catalog cannot be used: %s", error.told)
            raise exception.ValidationError(
                f"Validation failed; {name} cannot be checked, because the catalog on nova-api's "
                f"host cannot be used: {error.told}. Install the one that nova-scheduler has and "
                "name it with [devcompat] catalog in nova.conf"
            ) from error
        self._check_case(name, pins, catalog)

    @staticmethod
    def _check_case(name: str, pins: Need, catalog: Catalog) -> None:
        """Refuse a value that hosts have in another case only: no host would ever accept it.

        :raises ValidationError: with the value to write
        """
        try:
            client = Placement(report.report_client_singleton())
            known = client.known_atoms(associated=True) or frozenset()
        except Exception as error:  # noqa: BLE001  a pin can be set while placement is down
            LOG.debug("What hosts have of %s is not known: %s", name, error)
            return
        found = catalog.in_another_case(pins, known)
        if found is not None:
            pinned, other = found
            raise exception.ValidationError(
                f"Validation failed; {name}: no host has {pinned.value!r}; write {other.value!r}, "
                "which differs in case"
            )

    def catalog(self) -> Catalog:
        """The catalog as its files are now.

        :raises CatalogError: it cannot be used, and never could
        """
        paths, packs = tuple(CONF.devcompat.catalog), tuple(CONF.devcompat.packs)
        with self._lock:
            if self._keeper is None or self._keeper[0] != (paths, packs):
                self._keeper = (paths, packs), catalog_keeper(CONF, min_interval=0, decides=False)
            keeper = self._keeper[1]
        return keeper.current()


class MisspeltPinValidator(base.ExtraSpecValidator):
    """Refuses what was meant as a pin and would be none.

    Nova takes any extra spec of a namespace that it does not know. In another case it would pin
    nothing; without a colon ComputeCapabilitiesFilter compares it with what hosts have, which is
    the whole document that they publish, or nothing.
    """

    def __init__(self) -> None:
        # No colon: what stands before one in a pattern, Nova takes for the pattern of a namespace.
        either_case = "".join(f"[{char}{char.upper()}]" for char in PREFIX.rstrip(":"))
        super().__init__(
            name="{misspelt_pin}",
            description=f"No extra spec: pins are named {PREFIX}<family>.<attribute>.",
            value={"type": str},
            parameters=[{"name": "misspelt_pin", "pattern": rf"{either_case}([\x3a. ].*)?"}],
        )

    def validate(self, name: str, value: str) -> None:
        """Refuse it.

        :raises ValidationError: a 400 that says how pins are named
        """
        raise exception.ValidationError(
            f"Validation failed; {name!r} is no pin, which is named "
            f"{PREFIX}<family>.<attribute>, in lower case"
        )


def register() -> list[base.ExtraSpecValidator]:
    """The validators, for Nova, which asks the first that knows a name."""
    validator = PinValidator()
    flavors.install(validator.catalog)
    return [validator, MisspeltPinValidator()]
