# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The catalog: which families there are, how devices match them, and their rules."""

from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.catalog.family import AttributeSource, CatalogFamily
from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.merging import Classified
from nova_devcompat.catalog.model import AmbiguousDevice, Catalog, UnknownFamily

__all__ = [
    "AmbiguousDevice",
    "AttributeSource",
    "Catalog",
    "CatalogError",
    "CatalogFamily",
    "CatalogKeeper",
    "Classified",
    "UnknownFamily",
]
