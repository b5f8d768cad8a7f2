# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Puts our driver over the one that ``[devcompat] virt_driver`` names, as far as that fits."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import nova.conf
from nova import exception
from nova.virt import driver as virt_driver
from oslo_log import log as logging
from oslo_utils import importutils

from nova_devcompat.compute import contract, hooks

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

OURS = "devcompat.DeviceCompatDriver"
OursT = TypeVar("OursT", bound=virt_driver.ComputeDriver)


def give_up(message: str) -> NoReturn:
    """Stop the service at start with one line, as Nova does for a driver it cannot load."""
    LOG.critical("nova-devcompat: %s", message)
    sys.exit(1)


def wrapped_class() -> type[virt_driver.ComputeDriver]:
    name = CONF.devcompat.virt_driver
    if name == OURS:
        give_up(f"[devcompat] virt_driver is {OURS}, which would wrap itself")
    try:
        found = importutils.import_class(f"nova.virt.{name}")
    except ImportError as error:
        give_up(
            f"[devcompat] virt_driver = {name}: cannot import nova.virt.{name}: "
            f"{' '.join(str(error).split())[-300:]}"
        )
    if not (isinstance(found, type) and issubclass(found, virt_driver.ComputeDriver)):
        give_up(f"[devcompat] virt_driver = {name} is not a virt driver")
    return found


def _check_contract(wrapped: type) -> set[str]:
    """Compare the driver API with what we rely on.

    :returns: the methods that get no hook; the log tells what is lost. Under ``[devcompat]
        strict_driver_contract`` the service stops instead
    """
    table: tuple[contract.Hook | contract.Called, ...] = (*contract.HOOKS, *contract.CALLED)
    deviations = contract.compare(table, virt_driver.ComputeDriver)
    told = {one.method for one in deviations}
    deviations += [
        one for one in contract.compare(table, wrapped, catch_alls=True) if one.method not in told
    ]
    off = contract.hooks_off(contract.HOOKS, deviations)
    if off and CONF.devcompat.strict_driver_contract:
        give_up(
            "[devcompat] strict_driver_contract is set, and the virt driver API is not the one "
            f"that this release knows: {'; '.join(map(str, deviations))}"
        )
    for hook in contract.HOOKS:
        if hook.method in off:
            LOG.error(
                "nova-devcompat leaves %(method)s alone, since the virt driver API is not the one "
                "that this release knows: %(why)s. What is lost: %(lost)s. Install a release of "
                "nova-devcompat that supports this Nova, and a virt_driver that fits it",
                {
                    "method": hook.method,
                    "why": "; ".join(map(str, off[hook.method])),
                    "lost": hook.off,
                },
            )
    return set(off)


def wrap(ours: type[OursT], wrapped: type[virt_driver.ComputeDriver]) -> type[OursT]:
    """The class of our driver over another one, with a hook around each method that fits.

    :param ours: has the hooks
    """
    off = _check_contract(wrapped)
    made: type[OursT] = type(ours.__name__, (ours, wrapped), {"__module__": ours.__module__})
    for hook in contract.HOOKS:
        if hook.method in off:
            continue
        signatures = [
            signature
            for driver in (wrapped, virt_driver.ComputeDriver)
            if (signature := contract.signature_of(driver, hook.method)) is not None
        ]
        method = hooks.hooked(
            hook,
            getattr(ours, f"_around_{hook.method}"),
            _wrapped_method(made, hook.method),
            signatures,
            tuple(getattr(exception, name) for name in hook.raises),
        )
        setattr(made, hook.method, method)
    return made


def _wrapped_method(made: type, name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(made, name))
    def call(driver: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(made, driver), name)(*args, **kwargs)

    return call
