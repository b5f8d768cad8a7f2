# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Real sources, each in a world of its own host's."""

from collections.abc import Callable

from nova_devcompat.sources import Source, SourceOptions


class PerHost(Source):
    """Real sources, each in its own host's world; services of all hosts run in this process.

    :param name: of the source
    :param make: makes the source of a host
    """

    def __init__(
        self, name: str, options: SourceOptions, make: Callable[[str, SourceOptions], Source]
    ) -> None:
        super().__init__(options)
        self.name = name
        self._make = make
        self._made: dict[str, Source] = {}

    def read(self, host):
        if host not in self._made:
            self._made[host] = self._make(host, self.options)
        return self._made[host].read(host)
