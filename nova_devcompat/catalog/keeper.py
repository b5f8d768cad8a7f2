# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The catalog of a process, which follows its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from nova_devcompat.catalog.loader import load_catalog
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.packs import catalog_paths
from nova_devcompat.catalog.registry import Registered
from nova_devcompat.kit.keeper import Keeper


class CatalogKeeper:
    """Keeps the catalog of some files, and loads it again when they change.

    Safe for use by several threads.

    :param paths: the operator's files, later ones override earlier ones
    :param registered: the sources that are installed here
    :param packs: names of packs, loaded before the files
    :param known_bad: files that are lists of what is known not to work
    :param min_interval: seconds between two looks at the files; a hot path may ask as often as it
        likes
    :param tell: is given each catalog that is loaded
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        packs: Iterable[str] = (),
        known_bad: Iterable[str | os.PathLike[str]] = (),
        *,
        registered: Registered,
        min_interval: float = 1.0,
        tell: Callable[[Catalog], None] = lambda catalog: None,
    ) -> None:
        files, names, lists = tuple(paths), tuple(packs), tuple(known_bad)

        def load() -> Catalog:
            paths = catalog_paths(names, files)
            catalog = load_catalog(paths, registered, known_bad=lists)
            tell(catalog)
            return catalog

        self._keeper = Keeper(
            (*files, *lists),
            load,
            what="catalog",
            min_interval=min_interval,
        )

    def current(self) -> Catalog:
        """The catalog of the files as they are, or were when they last were good.

        :raises CatalogError: no catalog has ever been loaded, and none can be
        """
        return self._keeper.current()
