# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Sources read what a host's devices are. Third parties add to them by an entry point."""

from __future__ import annotations

from nova_devcompat.compat.device import Device, Function, normalise_address
from nova_devcompat.kit import plugins
from nova_devcompat.sources.base import API_VERSION, Listing, Source, SourceError, SourceOptions

__all__ = [
    "Device",
    "Function",
    "Listing",
    "Source",
    "SourceError",
    "SourceOptions",
    "load_source",
    "normalise_address",
    "registered",
]


def registered() -> plugins.Plugins[Source]:
    """The sources that are installed."""
    # mypy allows no abstract class as a value of type[T] (python/mypy#4717).
    return plugins.Plugins(plugins.SOURCES, Source, API_VERSION)  # type: ignore[type-abstract]


def load_source(name: str, options: SourceOptions) -> Source:
    """The source of this name.

    :raises PluginError: there is none that can be used
    :raises SourceError: it cannot be used with these options
    """
    return registered().load(name)(options)
