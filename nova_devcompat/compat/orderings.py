# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Ways to order versions, by the names that a catalog uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import univers.debian
import univers.rpm

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.builds import Build, compare_builds, format_build, parse_build


class Ordering(Protocol):
    """Compares versions of one format."""

    def parse(self, value: object) -> Any:
        """A version.

        :raises Unreadable: it is not of the format
        """

    def canonical(self, parsed: Any) -> str:
        """The one way to write it."""

    def compare(self, left: Any, right: Any) -> int | None:
        """Below 0 where the left one is older, above it where it is newer, 0 where neither is;
        None where that cannot be told."""


class Numeric:
    """Numbers, and the numbers of a build: libvirt, QEMU, kernels, firmware.

    See :mod:`nova_devcompat.compat.builds`.
    """

    def parse(self, value: object) -> Build:
        return parse_build(value)

    def canonical(self, parsed: Build) -> str:
        return format_build(parsed)

    def compare(self, left: Build, right: Build) -> int | None:
        return compare_builds(left, right)


class RpmEvr:
    """``[epoch:]version[-release]`` as rpm compares it (rpmvercmp)."""

    def parse(self, value: object) -> str:
        text = text_of(value)
        # rpm itself takes a version that begins with a letter, and sorts it before all numbers: so
        # would "v2.4.1", or a package's name before its version, be older than everything.
        if not re.fullmatch(r"(?:[0-9]{1,9}:)?[0-9][\w.+~^]*(?:-[\w.+~^]+)?", text, re.ASCII):
            raise Unreadable(value, "is not [epoch:]version[-release], the version a digit first")
        return text

    def canonical(self, parsed: str) -> str:
        return parsed

    def compare(self, left: str, right: str) -> int:
        return univers.rpm.compare_rpm_versions(left, right)


class Debian:
    """``[epoch:]upstream[-revision]`` as dpkg compares it."""

    def parse(self, value: object) -> str:
        text = text_of(value)
        # The grammar of deb-version(7), whose upstream version begins with a digit.
        if not re.fullmatch(r"(?:[0-9]{1,9}:)?[0-9][A-Za-z0-9.+~-]*(?<!-)", text):
            raise Unreadable(value, "is not [epoch:]upstream-version[-revision]")
        return text

    def canonical(self, parsed: str) -> str:
        return parsed

    def compare(self, left: str, right: str) -> int:
        return _compare_debian(left, right)


# univers.debian has no annotations.
_compare_debian: Callable[[str, str], int] = univers.debian.compare_versions

ORDERINGS: Mapping[str, Ordering] = {
    "numeric": Numeric(),
    "rpm_evr": RpmEvr(),
    "debian": Debian(),
}
