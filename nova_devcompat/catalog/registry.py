# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a catalog asks of the sources that it names; it is handed them, and knows none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from nova_devcompat.compat.kinds import Floor
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.kit.plugins import PluginError


class SourceClass(Protocol):
    """What a source says of itself: some of :class:`nova_devcompat.sources.Source`."""

    @property
    def capabilities(self) -> frozenset[str]:
        """The optional methods that it brings."""

    @property
    def stands_in(self) -> bool:
        """Whether it tells all that other sources of a family would."""

    @property
    def attribute_types(self) -> Mapping[str, AttributeType] | None:
        """The attributes that it tells, by name; None where it does not say."""

    @property
    def function_attribute_types(self) -> Mapping[str, AttributeType] | None:
        """Those that it tells of functions; None where these have none of their own."""

    @property
    def tells_more(self) -> bool:
        """Whether it may tell others, too."""

    @property
    def implied(self) -> Mapping[str, Floor]:
        """Rules for what it tells of functions that hold for every family that reads it."""

    @property
    def everywhere(self) -> bool:
        """Whether they hold for every family of devices."""

    def is_of_function(self, pattern: str) -> bool:
        """Whether a file that it reads is one of each function."""

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

    @property
    def names(self) -> list[str]:
        """The names of the sources that are installed."""
        return self._registered.names

    def attributes_of(self, name: str, *, of_function: bool = False) -> frozenset[str] | None:
        """The names of the attributes that a source tells; None where it does not say.

        :param of_function: of functions, not of devices
        """
        types = self._types(name, of_function)
        return None if types is None else frozenset(types)

    def type_of(
        self, name: str, attribute: str, *, of_function: bool = False
    ) -> AttributeType | None:
        """The type of an attribute that a source tells; None where it does not say."""
        return (self._types(name, of_function) or {}).get(attribute)

    def _types(self, name: str, of_function: bool) -> Mapping[str, AttributeType] | None:
        source = self._class(name)
        # A source that tells nothing of functions is asked for what it tells of their device.
        kinds = ("function_attribute_types",) * of_function + ("attribute_types",)
        stated = (getattr(source, kind, None) for kind in kinds)
        return next((types for types in stated if types is not None), None)

    def is_open(self, name: str) -> bool:
        """Whether a source may tell attributes that it does not name."""
        source = self._class(name)
        return bool(getattr(source, "tells_more", False))

    @property
    def names_told(self) -> frozenset[str] | None:
        """All that any source tells; None where one that stands in for none does not say."""
        told: set[str] = set()
        for name in self.names:
            names = self.attributes_of(name)
            if names is None and not self.stands_in(name) and self._class(name) is not None:
                return None
            told |= names or set()
        return frozenset(told)

    def implied(self, named: Iterable[str]) -> dict[str, tuple[str, Floor]]:
        """The rules that hold for a family of devices whatever its catalog says, by attribute.

        :param named: the sources that it names
        :returns: each with the source that tells the attribute
        """
        found = {}
        for name in self.names:
            source = self._class(name)
            if source is not None and (name in named or getattr(source, "everywhere", False)):
                for attribute, rule in getattr(source, "implied", {}).items():
                    found[attribute] = (name, rule)
        return found

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

    def is_of_function(self, name: str, pattern: str) -> bool:
        """Whether a file that a source reads is one of each function, however it is stated."""
        source = self._class(name)
        if source is None or not _reads_files(source) or not hasattr(source, "is_of_function"):
            return False
        return bool(source.is_of_function(pattern))

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
