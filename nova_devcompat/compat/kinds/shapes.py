# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Shapes of offers, and options, that several kinds have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nova_devcompat.compat.attributes import Unreadable, text_of
from nova_devcompat.compat.rules import BadOptions


def mapping(raw: object, required: Iterable[str], optional: Iterable[str]) -> dict[str, object]:
    """What a mapping of a given shape has, keys without a value left out.

    :raises Unreadable: it has another shape
    """
    required, optional = tuple(required), tuple(optional)
    shape = "{" + ", ".join([*required, *(f"{name}?" for name in optional)]) + "}"
    if not isinstance(raw, Mapping):
        raise Unreadable(raw, f"is not a mapping {shape}")
    for name in required:
        if raw.get(name) is None:
            raise Unreadable(raw, f"{name} is missing from {shape}")
    for name in raw:
        if name not in required and name not in optional:
            raise Unreadable(raw, f"unknown key {name!r}; the shape is {shape}")
    return {name: value for name, value in raw.items() if value is not None}


def texts(raw: object) -> frozenset[str]:
    """The texts of a list.

    :raises Unreadable: it is no list of texts
    """
    if isinstance(raw, str) or not isinstance(raw, list | tuple | set | frozenset):
        raise Unreadable(raw, "is not a list of texts")
    return frozenset(text_of(item) for item in raw)


def members(raw: object, name: str) -> tuple[frozenset[str], object]:
    """A list, or ``{<name>: list, in_use: ...}`` where the source knows what the guest uses.

    :returns: the list, and what is in use, None where that is not known
    :raises Unreadable: it is neither
    """
    if not isinstance(raw, Mapping):
        return texts(raw), None
    shaped = mapping(raw, [name], ["in_use"])
    return texts(shaped[name]), shaped.get("in_use")


def enumerated(values: Iterable[str]) -> str:
    """A set as an operator should read it."""
    return ",".join(sorted(values)) or "nothing"


def check_base(base: object) -> None:
    """See that the option ``base`` is one that versions have.

    :raises BadOptions: it is neither 10 nor 16
    """
    if isinstance(base, str) and base in ("10", "16"):
        raise BadOptions(f"base: {base!r} is text; leave the quotes out: base: {base}")
    if not isinstance(base, int) or base not in (10, 16):
        raise BadOptions(f"base: {base!r} is neither 10 nor 16")
