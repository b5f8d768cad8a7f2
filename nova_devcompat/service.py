# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a service of Nova, or a command, starts with: the catalog, and a look at what it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nova_devcompat.catalog import inforce, loader
from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.stages import now
from nova_devcompat.kit.plugins import PluginError
from nova_devcompat.sources import SourceError, registered

if TYPE_CHECKING:
    from oslo_config import cfg


def load_catalog(
    paths: Iterable[str | os.PathLike[str]],
    *,
    known_bad: Iterable[str | os.PathLike[str]] = (),
    check_sources: bool = True,
) -> Catalog:
    """The catalog that some files make together, with the sources that are installed.

    :param paths: at least one; a family of a later file takes the place of one in an earlier
    :param known_bad: files that are lists of what is known not to work
    :param check_sources: whether the sources that it names must be among them; not where an
        inventory stands in for them all
    :raises CatalogError: with all problems of all files
    """
    return loader.load_catalog(
        paths, registered(), known_bad=known_bad, check_sources=check_sources
    )


def catalog_keeper(
    conf: cfg.ConfigOpts, *, min_interval: float = 1.0, decides: bool = True
) -> CatalogKeeper:
    """The catalog that ``[devcompat] packs`` and ``catalog`` name, as it follows its files.

    :param conf: with our options
    :param min_interval: seconds between two looks at the files
    :param decides: whether it is for a service that decides by its policies, which are logged
        whenever it is read then
    """
    from nova_devcompat.conf import default_policy

    ours = conf.devcompat

    def tell(catalog: Catalog) -> None:
        if decides:
            inforce.log(catalog, default_policy(conf), now())

    return CatalogKeeper(
        ours.catalog,
        ours.packs,
        ours.known_bad if decides else (),
        registered=registered(),
        min_interval=min_interval,
        tell=tell,
    )


def problem_at_start(conf: cfg.ConfigOpts, check: Callable[[], object]) -> str:
    """What keeps a service from starting, in a line; '' if nothing does.

    :param conf: with our options
    :param check: looks at what the service needs; raises CatalogError, PluginError or SourceError
    """
    # Not at the top: commands that need no Nova do without oslo as well.
    from oslo_config import cfg

    from nova_devcompat.conf import default_policy

    try:
        default_policy(conf)
        check()
    except cfg.ConfigFileValueError as error:
        return " ".join(str(error).split())
    except CatalogError as error:
        return f"the catalog cannot be used: {error.told}"
    except (PluginError, SourceError) as error:
        return str(error)
    return ""
