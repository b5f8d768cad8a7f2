#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


"""Sources read what a host's devices are. Third parties add to them by an entry point."""

from __future__ import annotations

from nova_devcompat.kit import plugins
from nova_devcompat.sources.base import (
    API_VERSION,
    Device,
    Source,
    SourceError,
    SourceOptions,
    normalise_address,
)

__all__ = [
    "Device",
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
