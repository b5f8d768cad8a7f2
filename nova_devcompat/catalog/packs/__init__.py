# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Packs: ready-made catalogs of known vendors, enabled by name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.kit.problems import Problem
from nova_devcompat.kit.text import near

#: The files of the packs are beside this one.
FOLDER = pathlib.Path(__file__).parent

#: ``[devcompat] catalog`` where nova.conf says nothing, see ``nova_devcompat/conf.py``.
DEFAULT_FILE = "/etc/nova/devcompat.yaml"


class UnknownPack(CatalogError):
    """Names that are no packs; its text has one line for each."""


def names() -> list[str]:
    """The packs that there are, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def pack_of(path: str | os.PathLike[str]) -> str:
    """The name of the pack that a file is, '' for any other file."""
    own = pathlib.Path(path)
    return own.stem if own.parent == FOLDER else ""


def catalog_paths(
    packs: Iterable[str],
    files: Iterable[str | os.PathLike[str]] = (),
    *,
    option: str = "[devcompat] packs",
) -> list[pathlib.Path]:
    """The files that make a catalog: packs first, so that files override their families.

    :param packs: their names
    :param files: of the operator, in the order of ``[devcompat] catalog``. An empty name stands
        for none; with packs, the default file need not be there
    :param option: what named the packs
    :return: for :func:`~nova_devcompat.catalog.loader.load_catalog`
    :raises UnknownPack: some are none
    """
    wanted = list(dict.fromkeys(packs))
    known = names()
    problems = [
        Problem(
            file=option,
            line=0,
            path="",
            message=f"{name!r} is no pack; packs: {', '.join(known)}{near(name, known)}",
        )
        for name in wanted
        if name not in known
    ]
    if problems:
        raise UnknownPack(problems)
    own = [path for path in files if os.fspath(path) and not (wanted and _is_left_out(path))]
    return [*(FOLDER / f"{name}.yaml" for name in wanted), *map(pathlib.Path, own)]


def _is_left_out(path: str | os.PathLike[str]) -> bool:
    text = os.fspath(path)
    return text == DEFAULT_FILE and not os.path.lexists(text)
