# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The reversible codec between atoms and names of placement traits.

A name is ``CUSTOM_DEVCOMPAT_<FAMILY>__<ATTRIBUTE>__<VALUE>``. In VALUE letters stand in upper
case, ``.`` is ``_``, and any other character (an upper-case letter too) is ``__<code point in
hexadecimal>_``, as is a dot that another ``_`` would follow. Two different atoms therefore never
share a name, and of all names under the prefix exactly those that an atom encodes to decode.

Placement allows ``^[A-Z0-9_]+$`` of at most 255 characters (placement/schemas/trait.py).
"""

from __future__ import annotations

import dataclasses
import re

PREFIX = "CUSTOM_DEVCOMPAT_"
MAX_LENGTH = 255
NAME_PATTERN = "[a-z][a-z0-9]*(_[a-z0-9]+)*"

_NAME = re.compile(NAME_PATTERN)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_TRAIT = re.compile(
    PREFIX + r"(?P<family>[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)"
    r"__(?P<attribute>[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)__(?P<value>[A-Z0-9_]+)"
)
_TOKEN = re.compile(r"(?P<plain>[A-Z0-9])|__(?P<code>[0-9A-F]{1,6})_|(?P<dot>_)")


class TraitTooLong(ValueError):
    """An atom whose name placement would not take.

    :param atom: the atom
    :param length: characters its name would have
    """

    def __init__(self, atom: Atom, length: int) -> None:
        super().__init__(
            f"{atom}: its trait name would have {length} characters, placement takes "
            f"{MAX_LENGTH}; give the family or the attribute a shorter name, or have the source "
            "shorten the value"
        )
        self.atom = atom
        self.length = length


def check_name(name: str) -> str:
    """A valid family or attribute name, unchanged.

    :raises ValueError: it does not match ``[a-z][a-z0-9]*(_[a-z0-9]+)*``
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name: lower-case letters, digits and single underscores, "
            "a letter first, no underscore last"
        )
    return name


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Atom:
    """The smallest piece of a need that placement can match.

    :param family: name of the family
    :param attribute: name of the attribute
    :param value: canonical text of the value, never empty
    :raises ValueError: a name that is none, or an empty value
    """

    family: str
    attribute: str
    value: str

    def __post_init__(self) -> None:
        check_name(self.family)
        check_name(self.attribute)
        if not self.value:
            raise ValueError(f"{self.family}.{self.attribute}: an atom without a value")

    def __str__(self) -> str:
        return f"{self.family}.{self.attribute}={self.value}"


def prefix_of(family: str, attribute: str) -> str:
    """What the names of the traits of all values of an attribute begin with, and no others."""
    return f"{PREFIX}{family.upper()}__{attribute.upper()}__"


def encode(atom: Atom) -> str:
    """The name of the trait that stands for an atom.

    :raises TraitTooLong: the name would have more than 255 characters
    """
    name = prefix_of(atom.family, atom.attribute) + _escape(atom.value)
    if len(name) > MAX_LENGTH:
        raise TraitTooLong(atom, len(name))
    return name


def decode(name: str) -> Atom | None:
    """The atom that a trait stands for; None where it is no name that :func:`encode` makes.

    Anybody with the right to can create a trait under our prefix, so what does not decode is
    no error.
    """
    match = _TRAIT.fullmatch(name)
    if not match or len(name) > MAX_LENGTH:
        return None
    value = _unescape(match["value"])
    # Encoding again is what refuses other spellings of the same atom (__61_ for "a").
    if not value or _escape(value) != match["value"]:
        return None
    return Atom(match["family"].lower(), match["attribute"].lower(), value)


def _escape(value: str) -> str:
    pieces: list[str] = []
    for char, following in zip(value, [*value[1:], ""], strict=True):
        if char in _PLAIN:
            pieces.append(char.upper())
        elif char == "." and (following in _PLAIN or not following):
            pieces.append("_")
        else:
            pieces.append(f"__{ord(char):X}_")
    return "".join(pieces)


def _unescape(text: str) -> str | None:
    pieces: list[str] = []
    position = 0
    while position < len(text):
        # Every character matches: a lone "_" is a dot, all else is plain or part of an escape.
        token = _TOKEN.match(text, position)
        assert token
        if token["plain"]:
            pieces.append(token["plain"].lower())
        elif token["dot"]:
            pieces.append(".")
        else:
            code = int(token["code"], 16)
            if code > 0x10FFFF:
                return None
            pieces.append(chr(code))
        position = token.end()
    return "".join(pieces)
