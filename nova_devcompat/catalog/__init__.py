# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The catalog: which families there are, how devices match them, and their rules."""

from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.loader import CatalogError
from nova_devcompat.catalog.model import (
    AmbiguousDevice,
    AttributeSource,
    Catalog,
    CatalogFamily,
    Merged,
    UnknownFamily,
)

__all__ = [
    "AmbiguousDevice",
    "AttributeSource",
    "Catalog",
    "CatalogError",
    "CatalogFamily",
    "CatalogKeeper",
    "Merged",
    "UnknownFamily",
]
