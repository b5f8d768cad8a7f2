# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Ways to order versions, by the names that a catalog uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

import univers.debian
import univers.rpm

from nova_devcompat.compat.attributes import (
    Unreadable,
    Version,
    compare_versions,
    format_version,
    parse_build_version,
    text_of,
)


class Numeric:
    """Dotted numbers and the numbers of a build: libvirt, QEMU, kernels."""

    def parse(self, value: object) -> tuple[Version, ...]:
        return parse_build_version(value)

    def canonical(self, parsed: tuple[Version, ...]) -> str:
        return "-".join(map(format_version, parsed))

    def compare(self, left: tuple[Version, ...], right: tuple[Version, ...]) -> int:
        for one, other in zip_longest(left, right, fillvalue=()):
            result = compare_versions(one, other)
            if result:
                return result
        return 0


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

ORDERINGS: Mapping[str, Any] = {
    "numeric": Numeric(),
    "rpm_evr": RpmEvr(),
    "debian": Debian(),
}
