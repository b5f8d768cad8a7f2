# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Plugins of one stevedore namespace, by name.

stevedore alone silently takes the last of two plugins of one name, logs what it cannot import, and
forgets which distribution an entry point is from. Here each is an error, and only for the plugin
that was asked for: the others are never imported.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import stevedore

from nova_devcompat.kit.text import near

SOURCES = "nova_devcompat.sources"
RULES = "nova_devcompat.rules"

T = TypeVar("T")


class PluginError(ValueError):
    """A plugin that cannot be had; the message names it and lists what exists."""


class _One(stevedore.ExtensionManager):  # type: ignore[type-arg,unused-ignore]
    """Loads one plugin, and keeps why it could not."""

    def __init__(self, namespace: str, entry_point: importlib.metadata.EntryPoint) -> None:
        self._wanted = entry_point
        self.failure: BaseException | None = None
        super().__init__(namespace, on_load_failure_callback=self._failed)

    def list_entry_points(self) -> list[importlib.metadata.EntryPoint]:
        # stevedore's own list comes from a cache on disk, which keeps no distributions.
        return [self._wanted]

    def _failed(self, manager: object, entry_point: object, error: BaseException) -> None:
        self.failure = error


class Plugins(Generic[T]):
    """The plugins that are registered in a namespace.

    :param namespace: the group of entry points
    :param base: the class that a plugin must extend
    :param api_version: major and minor of our interface; plugins of this major and the one before
        it load, since a new interface stands beside the old one for a release. None where the
        interface is not ours, as with Nova's filters
    :param adapt: makes a class of this major of one of the major before; None where that one
        needs no help
    """

    def __init__(
        self,
        namespace: str,
        base: type[T],
        api_version: tuple[int, int] | None,
        adapt: Callable[[type[T]], type[T]] | None = None,
    ) -> None:
        self._namespace = namespace
        self._base = base
        self._api_version = api_version
        self._adapt = adapt
        self._registered: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for entry_point in importlib.metadata.entry_points(group=namespace):
            self._registered.setdefault(entry_point.name, []).append(entry_point)

    @property
    def names(self) -> list[str]:
        """What is registered, sorted."""
        return sorted(self._registered)

    def check(self, name: str) -> None:
        """Import nothing, and return if exactly one distribution registers the name.

        :raises PluginError: none does, or several do
        """
        found = self._registered.get(name)
        if not found:
            raise PluginError(
                f"{name!r} is not registered in {self._namespace}; {self._listed()}"
                + near(name, self.names)
            )
        if len(found) > 1:
            owners = " and ".join(sorted(map(_owner, found)))
            raise PluginError(
                f"{name!r} is registered in {self._namespace} by {owners}: uninstall one; "
                + self._listed()
            )

    def load(self, name: str) -> type[T]:
        """The class that is registered under a name.

        :raises PluginError: none is, several are, or it cannot be used: its import fails, it does
            not extend our class, or it is for another version of the interface
        """
        self.check(name)
        (entry_point,) = self._registered[name]
        try:
            manager = _One(self._namespace, entry_point)
            failure = manager.failure
        except AssertionError as error:  # which stevedore passes on
            failure = error
        if failure is not None:
            raise PluginError(
                f"{self._told(entry_point)} cannot be imported: "
                f"{type(failure).__name__}: {failure}"
            ) from failure
        return self._usable(entry_point, manager[name].plugin)

    def load_all(self) -> list[type[T]]:
        """The classes that are registered, by name.

        :raises PluginError: one of them cannot be used
        """
        return [self.load(name) for name in self.names]

    def _usable(self, entry_point: importlib.metadata.EntryPoint, plugin: Any) -> type[T]:
        if not isinstance(plugin, type) or not issubclass(plugin, self._base):
            base = f"{self._base.__module__}.{self._base.__qualname__}"
            raise PluginError(f"{self._told(entry_point)} is no subclass of {base}")
        usable: type[T] = plugin
        if self._api_version is None:
            return usable
        stated: object = getattr(usable, "api_version", None)
        current, minor = self._api_version
        majors = [major for major in (current - 1, current) if major > 0]
        match stated:
            case (int(major), int(stated_minor)) if major in majors:
                if self._adapt is not None and major < current:
                    usable = self._adapt(usable)
                newer = (major, stated_minor) > self._api_version
                problem = _capability_problem(usable, self._base, newer=newer)
                if problem:
                    raise PluginError(f"{self._told(entry_point)} {problem}")
                return usable
        raise PluginError(
            f"{self._told(entry_point)} is for version {stated!r} of the interface; "
            f"this is {current}.{minor}, which takes major {' and '.join(map(str, majors))}: "
            "upgrade the older of the two distributions"
        )

    def _told(self, entry_point: importlib.metadata.EntryPoint) -> str:
        """The plugin, as errors begin with it."""
        return f"{entry_point.name!r} of {self._namespace}, from {_owner(entry_point)},"

    def _listed(self) -> str:
        return f"registered: {', '.join(self.names) or 'none'}"


def _owner(entry_point: importlib.metadata.EntryPoint) -> str:
    """The distribution, for messages only: its metadata are parsed anew each time."""
    if entry_point.dist is None:
        return "an unknown distribution"
    return f"{entry_point.dist.name} {entry_point.dist.version}"


def _capability_problem(plugin: type, base: type, newer: bool) -> str:
    """What is wrong with the capability flags of a plugin, '' if nothing is.

    A flag is the name of an optional method of the interface, one that need not be overridden.

    :param newer: whether the plugin is for a later minor, and may have flags of that
    """
    optional = sorted(
        name
        for name, method in vars(base).items()
        if not name.startswith("_")
        and callable(getattr(base, name))
        and not getattr(method, "__isabstractmethod__", False)
    )
    stated: object = getattr(plugin, "capabilities", frozenset())
    if not isinstance(stated, frozenset):
        return f"states capabilities {stated!r}, which is no frozenset"
    for name in sorted(stated, key=str):
        if name not in optional:
            if newer:
                continue
            return (
                f"states capability {name!r}, which the interface does not have; it has: "
                f"{', '.join(optional)}{near(str(name), optional)}"
            )
        if inspect.getattr_static(plugin, name) is inspect.getattr_static(base, name):
            return f"states capability {name!r}, but has no method {name} of its own"
    return ""
