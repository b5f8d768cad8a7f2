# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a catalog asks of the sources that it names; it is handed them, and knows none."""

from __future__ import annotations

from typing import Protocol

from nova_devcompat.kit.plugins import PluginError


class SourceClass(Protocol):
    """What a source says of itself: some of :class:`nova_devcompat.sources.Source`."""

    @property
    def capabilities(self) -> frozenset[str]:
        """The optional methods that it brings."""

    @property
    def stands_in(self) -> bool:
        """Whether it tells all that other sources of a family would."""

    def check_file(self, attribute: str, pattern: str) -> None:
        """Look at a file that it is to read.

        :raises ValueError: it cannot
        """


class Registered(Protocol):
    """The sources that are installed."""

    @property
    def names(self) -> list[str]:
        """Theirs, sorted."""

    def check(self, name: str) -> None:
        """Import nothing, and return if there is just one of that name.

        :raises PluginError: there is not
        """

    def load(self, name: str) -> SourceClass:
        """The one of that name.

        :raises PluginError: it cannot be had
        """


class NamedSources:
    """Answers for the sources that a catalog names, and loads each but once.

    :param registered: the sources that are installed
    """

    def __init__(self, registered: Registered) -> None:
        self._registered = registered
        self._classes: dict[str, SourceClass | None] = {}

    def problem(self, name: str) -> str:
        """Why there is no such source; '' if there is."""
        try:
            self._registered.check(name)
        except PluginError as error:
            return f"source {error}"
        return ""

    def stands_in(self, name: str) -> bool:
        """Whether a source tells all that others would.

        One that cannot be had here does not: who reads with it says why it cannot be had.
        """
        source = self._class(name)
        return source is not None and bool(source.stands_in)

    def problem_of_file(self, name: str, attribute: str, pattern: str) -> str:
        """Why a source cannot read a file for an attribute; '' if it can, or is not known here."""
        source = self._class(name)
        if source is None:
            return ""
        if not _reads_files(source):
            readers = [repr(other) for other in self._registered.names if self._reads_files(other)]
            if not readers:
                return "no source reads files; leave 'path' out"
            many = len(readers) > 1
            only = f"only source{'s' * many} {', '.join(readers)} read{'s' * (not many)} files"
            return f"{only}; leave 'path' out"
        try:
            source.check_file(attribute, pattern)
        except Exception as error:  # noqa: BLE001  it is anybody's plugin
            return str(error) or repr(error)
        return ""

    def _reads_files(self, name: str) -> bool:
        source = self._class(name)
        return source is not None and _reads_files(source)

    def _class(self, name: str) -> SourceClass | None:
        if name not in self._classes:
            try:
                self._classes[name] = self._registered.load(name)
            except PluginError:
                self._classes[name] = None
        return self._classes[name]


def _reads_files(source: SourceClass) -> bool:
    return "check_file" in source.capabilities
