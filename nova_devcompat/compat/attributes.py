# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading the versions that vendors print.

Real versions have two to four parts, leading zeros and suffixes (``28.39.1002``,
``550.54.15``, ``v2.4.1-lts``, ``6.8.0-45-generic``); numbers are compared as numbers.
"""

from __future__ import annotations

import re
from itertools import zip_longest

# A limit against nonsense: the longest real version met is a firmware string of 48 characters,
# and int() refuses text of more than 4,300 digits with an error of its own.
MAX_TEXT = 255

_DOTTED = re.compile(r"[vV]?([0-9]+(?:\.[0-9]+)*)")
_HEX = re.compile(r"[0-9a-fA-F]+(?:\.[0-9a-fA-F]+)*")
# A tilde sorts before the end in rpm and dpkg. Single letters mark a pre-release only where they
# have grown onto the version ("2.4b2"): set off, they are a vendor's mark ("1.15.9-C-22").
# "-preempt" is a kernel's flavour.
_PRE_RELEASE_WORD = "rc|alpha|beta|devel|dev|prerelease|preview|pre|snapshot|nightly|milestone"
_PRE_RELEASE = re.compile(
    r"~"
    r"|[abc][.\-]?[0-9]*(?![a-z])"
    rf"|(?:.*[^a-z])?(?:{_PRE_RELEASE_WORD})[.\-]?[0-9]*(?![a-z])",
    re.IGNORECASE,
)
# The board that a version is of, as mlx5 prints it for ethtool (drivers/net/ethernet/mellanox/
# mlx5/core/en_ethtool.c, mlx5e_ethtool_get_drvinfo): "22.41.1000 (MT_0000000359)".
_BOARD = re.compile(r"\s*\([A-Z]{2,4}_?[0-9]{10}\)")
# Digits behind a separator that no version has there (2..4, "1,5", 14.1 in another script's
# digits): what is missing between them might be what counts.
_BROKEN = re.compile(r"[.,:;/]+\d")

Version = tuple[int, ...]


class Unreadable(ValueError):
    """A value that a rule cannot read.

    :param value: the value, quoted in the message
    :param why: what is wrong with it, and what to write instead
    """

    def __init__(self, value: object, why: str) -> None:
        try:
            shown = repr(value)
        except (ValueError, RecursionError):
            # An integer of more digits than Python writes, or lists too deep in each other.
            shown = f"a value of type {type(value).__name__}"
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{shown}: {why}")
        self.value = value
        self.why = why


def text_of(value: object) -> str:
    """The text of a scalar attribute, without white space around it.

    :raises Unreadable: it is no text, is empty, is longer than any version, or has characters in
        it that cannot be printed
    """
    if isinstance(value, bool | int | float):
        raise Unreadable(value, "is not text; put it in quotes")
    if not isinstance(value, str):
        raise Unreadable(value, "is not text")
    text = value.strip()
    if not text:
        raise Unreadable(value, "is empty")
    if len(text) > MAX_TEXT:
        raise Unreadable(value, f"is longer than {MAX_TEXT} characters")
    if not text.isprintable():
        raise Unreadable(value, "has characters that cannot be printed")
    return text


def parse_version(value: object, base: int = 10, significant: int | None = None) -> Version:
    """Numbers of a dotted version: ``'28.39.1002'`` is ``(28, 39, 1002)``.

    In base 10 a word that is set off (``2.4.1-lts``) is passed over, and so is a letter on a part
    that does not count (``2.4.1b`` to semver), and the board behind it (``28.39.1002
    (MT_0000000838)``). Digits never are: ``1.60.0-73`` has a build.

    :param value: the text; any number of parts
    :param base: 10 or 16; base 16 knows neither prefix nor suffix
    :param significant: how many parts count; None for all
    :raises Unreadable: no number, a letter on one that counts (``1A.1``, ``14.F``: hexadecimal?),
        digits behind the version, or a pre-release (``2.4.0-rc1`` is older than 2.4.0, and nobody
        knows what it has)
    """
    text = text_of(value)
    if base == 16:
        if not _HEX.fullmatch(text):
            raise Unreadable(value, "is not a hexadecimal version such as '1A.1'")
        return tuple(int(part, 16) for part in text.split("."))
    match = _DOTTED.match(text)
    if not match:
        raise Unreadable(value, "is not a version such as '2.4.1'")
    numbers = tuple(int(part) for part in match[1].split("."))
    counts = significant is None or len(numbers) <= significant
    suffix = text[match.end() :]
    if suffix and counts and _HEX.fullmatch(text):
        raise Unreadable(value, "is hexadecimal, which needs 'base: 16', or a pre-release")
    _check_suffix(value, suffix, counts=counts)
    return numbers


def is_pre_release(suffix: str) -> bool:
    """Whether what is behind a version says that it is older than the version."""
    return bool(_PRE_RELEASE.match(suffix))


def _check_suffix(value: object, suffix: str, *, counts: bool) -> None:
    if not suffix or _BOARD.fullmatch(suffix):
        return
    patch_letter = not counts and len(suffix) == 1 and suffix.isalpha()
    if is_pre_release(suffix) and not patch_letter:
        raise Unreadable(value, "is a pre-release, which no rule can place")
    if _BROKEN.match(suffix):
        raise Unreadable(value, "is more than one version, or a broken one")
    if suffix[0].isalnum() and counts:
        raise Unreadable(
            value,
            "has a letter on a number that counts; a hexadecimal version needs 'base: 16', "
            "a package's version a rule of kind 'ordered' with its ordering",
        )
    if any(char.isdigit() for char in suffix):
        raise Unreadable(
            value,
            "has digits behind the version, which this rule does not compare; one of kind "
            "'ordered' does, with ordering numeric, or rpm_evr or debian for packages",
        )


def compare_versions(left: Version, right: Version) -> int:
    """-1, 0 or 1; a part that is not there counts as 0, so 2.5 equals 2.5.0."""
    for one, other in zip_longest(left, right, fillvalue=0):
        if one != other:
            return -1 if one < other else 1
    return 0


def format_version(numbers: Version, base: int = 10) -> str:
    """The canonical text: no leading zeros, hexadecimal digits in lower case."""
    return ".".join(format(number, "x" if base == 16 else "d") for number in numbers)
