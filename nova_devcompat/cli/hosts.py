# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What this host has, for commands without Nova."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import socket

from nova_devcompat.catalog import CatalogKeeper
from nova_devcompat.catalog.packs import catalog_paths, names
from nova_devcompat.cli.options import add_catalog_options, paths
from nova_devcompat.host.inventory import HostReader, HostSurvey
from nova_devcompat.service import load_catalog
from nova_devcompat.sources import SourceOptions, registered


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Add what :func:`survey` needs."""
    add_catalog_options(
        parser,
        none="With neither this nor --pack: all packs that need no static inventory",
    )
    parser.add_argument(
        "--inventory",
        metavar="FILE",
        help="the static inventory, for families whose source it is",
    )
    parser.add_argument(
        "--hostname",
        metavar="NAME",
        type=_name,
        default=socket.gethostname(),
        help="the host's hypervisor hostname, as Nova knows it (default: this host's own name)",
    )
    parser.add_argument(
        "--sysfs-root", metavar="DIR", help="where sysfs is mounted, or a copy of one"
    )
    parser.add_argument(
        "--all", action="store_true", help="devices of no family of the catalog, too"
    )


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a host must have a name")
    return text


def survey(parsed_args: argparse.Namespace) -> HostSurvey:
    """What the sources of the named catalog tell of this host, now.

    :raises CatalogError: the catalog is wrong
    """
    keeper = CatalogKeeper(
        paths(parsed_args.pack, parsed_args.catalog) or catalog_paths(live_packs()),
        registered=registered(),
    )
    options = SourceOptions(
        inventory=pathlib.Path(parsed_args.inventory) if parsed_args.inventory else None
    )
    if parsed_args.sysfs_root is not None:
        options = dataclasses.replace(options, sysfs_root=parsed_args.sysfs_root)
    return HostReader(keeper, options).survey(parsed_args.hostname)


def live_packs() -> list[str]:
    """The packs whose sources read the host, and nothing that an operator wrote.

    Of several that have the same families, the first: the others are for clouds that name them.
    """
    live: list[str] = []
    families: set[str] = set()
    for name in names():
        catalog = load_catalog(catalog_paths([name]), check_sources=False)
        if not catalog.stand_ins and not families & catalog.families.keys():
            live.append(name)
            families |= catalog.families.keys()
    return live
