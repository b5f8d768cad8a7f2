# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Versions with the numbers and words of a build, and how far these can be compared.

``6.8.0-45-generic``, ``1.60.0-73``, ``1.15.9-C-22``, ``5.14.0-427.13.1.el9_4.x86_64``,
``8.2.2+ds-0ubuntu1.4``, ``4.40 0x8001c967``. What such a version holds is compared, or the answer
is that it cannot be: no digit is passed over. Words are the same or they are not; which of two
unlike ones is the newer, only a package's own format knows.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from nova_devcompat.compat.attributes import (
    Unreadable,
    Version,
    compare_versions,
    format_version,
    is_pre_release,
    text_of,
)

#: Numbers and words by turns, numbers first: ``1.15.9-C-22`` is ``((1, 15, 9), "-c-", (22,))``.
Build = tuple[Version | str, ...]

_FIRST = re.compile(r"[vV]?([0-9]+(?:\.[0-9]+)*)")
# A hash or a hexadecimal number is a word, whatever digits are in it; else numbers are numbers.
_TOKEN = re.compile(
    r"(?P<word>(?<![0-9a-z])(?:0x[0-9a-f]+|g[0-9a-f]{7,40}|(?=[0-9]*[a-f])(?=[a-f]*[0-9])"
    r"[0-9a-f]{7,40})(?![0-9a-z]))"
    r"|(?P<numbers>[0-9]+(?:\.[0-9]+)*)"
    r"|(?P<other>[^0-9])"
)
# An epoch, a list, a path: several versions, or none.
_SEVERAL = re.compile(r"[,:;/]|\.\.")
_HASH = re.compile(r"g[0-9a-f]{7,40}")


def parse_build(value: object) -> Build:
    """The numbers and words of a version, in lower case; a last word without digits is left out.

    :raises Unreadable: it begins with no number, has a letter grown onto its first one (a
        hexadecimal version, or a package's name), or is more than one version
    """
    text = text_of(value)
    match = _FIRST.match(text)
    if not match or not text.isascii():
        raise Unreadable(value, "is not a version such as '8.2.2' or '6.8.0-45'")
    rest = text[match.end() :].lower()
    if _SEVERAL.search(rest):
        raise Unreadable(value, f"is more than one version, or a broken one; {_advice(text)}")
    if rest[:1].isalnum():
        raise Unreadable(
            value,
            "has a letter on a number that counts; a hexadecimal version needs 'base: 16', "
            f"a package's version an ordering that knows its format: {_advice(text)}",
        )
    parts: list[Version | str] = [_numbers(match[1])]
    for token in _TOKEN.finditer(rest):
        if token["numbers"]:
            parts.append(_numbers(token["numbers"]))
        elif isinstance(parts[-1], str):
            parts[-1] += token[0]
        else:
            parts.append(token[0])
    if isinstance(parts[-1], str) and _says_nothing(parts[-1]):
        parts.pop()
    return tuple(parts)


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _says_nothing(word: str) -> bool:
    """Whether a last word is a name and no more: ``-generic``, ``-lowlatency``, ``-lts``."""
    has_digits = any(char.isdigit() for char in word)
    return not has_digits and not is_pre_release(word) and not _HASH.search(word)


def format_build(build: Build) -> str:
    """The canonical text."""
    return "".join(part if isinstance(part, str) else format_version(part) for part in build)


def compare_builds(left: Build, right: Build) -> int | None:
    """-1, 0 or 1; None where only their words differ before anything else does.

    A build counts only where the version before it is equal: 8.2-10 is older than 8.2.2. The
    numbers of a build are newer than none: 6.8.0-45 than 6.8.0.
    """
    for place, (one, other) in enumerate(zip_longest(left, right)):
        if isinstance(one, str) or isinstance(other, str):
            if one == other or (one is None and other == "-") or (other is None and one == "-"):
                continue
            return None
        result = compare_versions(one or (), other or ())
        if result and (one is None or other is None) and _is_early((left, right), place):
            return None
        if result:
            return result
    return 0


def _is_early(builds: tuple[Build, Build], place: int) -> bool:
    """Whether a build that another version has none of may be one from before its release:
    ``6.8.0-050800rc1``, as Ubuntu numbers the kernels that lead to 6.8."""
    words = (part for build in builds for part in build[place:] if isinstance(part, str))
    return any(map(is_pre_release, words))


def _advice(text: str) -> str:
    """Which ordering knows the format."""
    return f"try ordering {ordering_of(text)}"


def ordering_of(text: str) -> str:
    """The ordering that most likely knows the format of a version."""
    lowered = text.lower()
    if re.search(r"\.el[0-9]|\.fc[0-9]|module[+_]|\.x86_64|\^", lowered):
        return "rpm_evr"
    if re.search(r"ubuntu|deb[0-9]|\+ds|\+dfsg|~|^[0-9]+:", lowered):
        return "debian"
    return "numeric"
