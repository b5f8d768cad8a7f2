# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Parsing XML that another process wrote."""

from __future__ import annotations

from typing import Any

from nova_devcompat.kit.text import printed


def parse(text: str, tag: str, longest: int) -> Any:
    """The root element of a document, an ``lxml.etree._Element``.

    :param tag: of the root
    :param longest: how many characters it can have
    :raises ValueError: it is none; the message goes on from what it is: ``is not XML: ...``
    :raises ImportError: lxml is not installed
    """
    from lxml import etree

    if len(text) > longest:
        raise ValueError(f"has {len(text)} characters, and {longest} are read")
    # No entities, no files, no network, and libxml2's limits of depth and length.
    parser = etree.XMLParser(
        resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ValueError(f"is not XML: {printed(error, 200)}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise ValueError("declares a document type")
    if root.tag != tag:
        raise ValueError(f"has <{printed(root.tag, 200)}> for <{tag}>")
    return root
