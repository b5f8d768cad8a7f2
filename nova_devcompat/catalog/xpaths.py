# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The XPath expressions of tables of needs, over a guest's domain XML."""

from __future__ import annotations

import functools
from typing import Any

from lxml import etree

from nova_devcompat.kit import xml

# What libvirt itself puts beside its own elements (docs/drvqemu.rst of libvirt).
_NAMESPACES = {"qemu": "http://libvirt.org/schemas/domain/qemu/1.0"}

#: Longer than any domain's that Nova makes: they have some 10,000 characters.
MAX_XML = 4 * 1024 * 1024


def check(xpath: str) -> None:
    """See that an expression can be used.

    :raises ValueError: it cannot, and why
    """
    try:
        # An unknown function, prefix or variable is no error before it is evaluated.
        _compiled(xpath)(etree.Element("domain"))
    except etree.XPathError as error:
        raise ValueError(f"{xpath!r} is no XPath that can be used: {error}") from None


def parse(text: str) -> Any:
    """The root element of a domain.

    :param text: what virDomainGetXMLDesc returned
    :raises ValueError: it is no domain
    """
    try:
        return xml.parse(text, "domain", MAX_XML)
    except ValueError as error:
        raise ValueError(f"the domain XML {error}") from None


def find(xpath: str, root: Any) -> frozenset[str]:
    """The texts of what an expression finds; empty where it finds nothing, or is not true.

    What is found but has no text counts as its name: an element without content, the truth.

    :param xpath: one that :func:`check` lets through
    :param root: the element of a domain
    :raises ValueError: it cannot be evaluated on this domain
    """
    try:
        found = _compiled(xpath)(root)
    except etree.XPathError as error:
        raise ValueError(f"{xpath!r}: {error}") from None
    if isinstance(found, list):
        return frozenset(map(_text, found))
    return frozenset([str(found)]) if found else frozenset()


def _text(item: Any) -> str:
    if isinstance(item, str):
        return item.strip()
    text = getattr(item, "text", None)
    return (text or "").strip() or str(getattr(item, "tag", item))


@functools.lru_cache(maxsize=1024)
def _compiled(xpath: str) -> Any:
    return etree.XPath(xpath, namespaces=_NAMESPACES, smart_strings=False)
