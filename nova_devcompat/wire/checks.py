# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The strict boundary: what must be true of everything that another process wrote.

Each function takes a value as JSON has it and its place, and returns it typed, or raises
:class:`Malformed`. What has passed can stand in a log line, a terminal and a table as it is. The
``fit_*`` functions are for writers: what they return, readers take.
"""

from __future__ import annotations

import collections
import json
import re
import urllib.parse
from collections.abc import Mapping, Sized
from typing import Any

from nova_devcompat.compat.traits import check_name
from nova_devcompat.compat.verdict import Actor
from nova_devcompat.kit.text import LINE, is_printable, printable

#: Bounds, well above what design and databases let anybody write.
MOST_DEVICES = 4_096
MOST_ATTRIBUTES = 256
MOST_VALUES = 16_384
CODE_SIZE = 64
_MOST_DIGITS = 20

_CODE = re.compile("[a-z0-9]+(?:-[a-z0-9]+)*")
_NO_CODE = re.compile("[^a-z0-9]+")
# ASCII from "!" to "~": no white space, nothing that a terminal acts on.
_ADDRESS = re.compile("[!-~]*")
_PRINTED_ASCII = "".join(map(chr, range(ord("!"), ord("~") + 1)))
_UUID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Malformed(ValueError):
    """A value that is not what it must be.

    :param place: where it stands, such as ``g[2].r.version``
    :param why: what is wrong with it
    """

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}" if place else why)


class GivenTwice:
    """What stands for a JSON object of which a key is given more than once.

    It is no mapping, so that only what depends on the object is lost; nor can it be written.

    :param pairs: its keys and values
    """

    __slots__ = ("once", "twice")

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        names = collections.Counter(name for name, _ in pairs)
        self.twice = sorted(name for name, count in names.items() if count > 1)
        self.once = {name: value for name, value in pairs if names[name] == 1}


class NoNumber:
    """What stands for a number that JSON does not have, or that has more than 20 digits."""

    __slots__ = ()


def parse(text: str, limit: int) -> object:
    """The value of a JSON text.

    What is no JSON of ours, but can be told from what is around it, is a :class:`GivenTwice` or a
    :class:`NoNumber` in it, which no check takes and no JSON writes.

    :param limit: characters, at most
    :raises Malformed: no JSON, too long, or nested too deep
    """
    if len(text) > limit:
        raise Malformed("", f"{len(text)} characters, {limit} are allowed")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed("", f"no JSON: {error}") from error
    except RecursionError as error:
        raise Malformed("", "nested too deep") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | GivenTwice:
    made = dict(pairs)
    return made if len(made) == len(pairs) else GivenTwice(pairs)


def _integer(digits: str) -> int | NoNumber:
    # Python reads no more than 4,300 digits, and hash and compare take their time.
    return int(digits) if len(digits) <= _MOST_DIGITS else NoNumber()


# Made once: to make one takes as long as to read a short document.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_constant=lambda name: NoNumber()
)


def object_of(value: object, place: str) -> Mapping[str, Any]:
    """A JSON object, each key given once."""
    if isinstance(value, GivenTwice):
        raise Malformed(place, f"{shown(value.twice[0])} is given twice")
    if not isinstance(value, dict):
        raise Malformed(place, f"{shown(value)} is no mapping")
    return value


def member(value: Mapping[str, Any], key: str, place: str) -> object:
    """What an object has under a key."""
    try:
        return value[key]
    except KeyError:
        raise Malformed(place, f"{key!r} is missing") from None


def member_at_all(value: object, key: str) -> object:
    """What something that may be an object has under a key, None where it cannot be told."""
    if isinstance(value, GivenTwice):
        return value.once.get(key)
    return value.get(key) if isinstance(value, dict) else None


def list_of(value: object, place: str, most: int) -> list[Any]:
    """A list.

    :param most: how many items it may have
    """
    if not isinstance(value, list):
        raise Malformed(place, f"{shown(value)} is no list")
    _check_size(value, place, most)
    return value


def mapping_of(value: object, place: str, most: int) -> Mapping[str, Any]:
    """An object with keys of the writer's choice.

    :param most: how many it may have
    """
    mapping = object_of(value, place)
    _check_size(mapping, place, most)
    return mapping


def _check_size(value: Sized, place: str, most: int) -> None:
    if len(value) > most:
        raise Malformed(place, f"{len(value)} items, {most} are allowed")


def flag_of(value: object, place: str) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise Malformed(place, f"{shown(value)} is neither true nor false")
    return value


def text_of(value: object, place: str, *, empty: bool = False) -> str:
    """One line of at most 255 characters that can be printed.

    :param empty: whether it may be ''
    """
    if not isinstance(value, str):
        raise Malformed(place, f"{shown(value)} is no text")
    if not (value or empty):
        raise Malformed(place, "an empty text")
    if not is_printable(value):
        raise Malformed(place, _why_not_printable(value))
    return value


def texts_of(value: object, place: str) -> list[str]:
    """A list of texts, none of them empty."""
    return [text_of(item, place) for item in list_of(value, place, MOST_VALUES)]


def readable_texts_of(value: object, place: str) -> list[str]:
    """The texts of a list that are any: others are passed over, as traits that do not decode are.

    For values that hosts evaluated. Anybody's trait may have put one there; no need that can be
    read has it.
    """
    listed = list_of(value, place, MOST_VALUES)
    if not all(isinstance(item, str) for item in listed):
        raise Malformed(place, "an item is no text")
    return [item for item in listed if item and is_printable(item)]


def name_of(value: object, place: str) -> str:
    """The name of a family or an attribute."""
    text = text_of(value, place)
    try:
        return check_name(text)
    except ValueError:
        raise Malformed(place, f"{shown(text)} is no name") from None


def code_of(value: object, place: str) -> str:
    """The code of a reason: lower-case letters, digits and single hyphens."""
    text = text_of(value, place)
    if len(text) > CODE_SIZE or not _CODE.fullmatch(text):
        raise Malformed(place, f"{shown(text)} is no code")
    return text


def actor_of(value: object, place: str) -> Actor:
    """Who can change a verdict."""
    try:
        return Actor(text_of(value, place))
    except ValueError:
        raise Malformed(place, f"{shown(value)} is none of {', '.join(Actor)}") from None


def address_of(value: object, place: str) -> str:
    """The address of a device, or a slot: printable ASCII without white space, '' if not known."""
    if not isinstance(value, str):
        raise Malformed(place, f"{shown(value)} is no text")
    if len(value) > LINE or not _ADDRESS.fullmatch(value):
        raise Malformed(place, f"{shown(value)} is no address")
    return value


def is_uuid(value: object) -> bool:
    """Whether it is the UUID of a resource provider or a consumer, and can stand in a URL."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def uuid_of(value: object, place: str) -> str:
    """The UUID of a resource provider."""
    if not isinstance(value, str) or not is_uuid(value):
        raise Malformed(place, f"{shown(value)} is no UUID")
    return value


def _why_not_printable(value: str) -> str:
    if len(value) > LINE:
        return f"{len(value)} characters, {LINE} are allowed"
    return f"{shown(value)} cannot be printed"


def shown(value: object) -> str:
    """A value as an error quotes it: short, in one line, whatever it is."""
    if isinstance(value, str):
        return repr(printable(value, 40))
    if isinstance(value, bool | int | float) or value is None:
        return json.dumps(value)
    if isinstance(value, NoNumber):
        return "a number without bounds"
    return "a list" if isinstance(value, list) else "a mapping"


# --- for writers --------------------------------------------------------------------------------


def fit_code(code: str) -> str:
    """A code of a third party's rule as :func:`code_of` takes it."""
    if len(code) <= CODE_SIZE and _CODE.fullmatch(code):
        return code
    return _NO_CODE.sub("-", code.lower())[:CODE_SIZE].strip("-") or "refused"


def fit_address(address: str) -> str:
    """An address as :func:`address_of` takes it: what does not fit is percent-encoded."""
    if len(address) <= LINE and _ADDRESS.fullmatch(address):
        return address
    quoted = urllib.parse.quote(address, safe=_PRINTED_ASCII, errors="replace")
    return quoted[:LINE]
