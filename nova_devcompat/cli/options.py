# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""How commands without Nova name a catalog."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import pathlib

from nova_devcompat.catalog import stages
from nova_devcompat.catalog.packs import catalog_paths, names


def add_pack_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--pack``."""
    parser.add_argument(
        "--pack",
        metavar="NAME",
        action="append",
        default=[],
        help="a ready-made catalog, or several with commas between, as in [devcompat] packs; "
        "can be repeated. Packs are loaded before files, which override their families. There "
        f"are: {', '.join(names())}",
    )


def add_catalog_options(parser: argparse.ArgumentParser, *, none: str) -> None:
    """Add ``--catalog`` and ``--pack``.

    :param none: what it means where neither is given
    """
    parser.add_argument(
        "--catalog",
        metavar="FILE",
        action="append",
        default=[],
        help=f"a catalog; can be repeated, later files add or override families. {none}",
    )
    add_pack_option(parser)


def add_known_bad_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--known-bad``."""
    parser.add_argument(
        "--known-bad",
        metavar="FILE",
        action="append",
        default=[],
        help="a list of what is known not to work, as in [devcompat] known_bad; can be repeated",
    )


def add_stage_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--activating-within`` and ``--as-of``."""
    parser.add_argument(
        "--activating-within",
        metavar="DAYS",
        type=_days,
        default=stages.WITHIN_DAYS,
        help=f"how far ahead to look for stages that begin (default: {stages.WITHIN_DAYS})",
    )
    parser.add_argument(
        "--as-of",
        metavar="DATE",
        type=_date,
        help="look from this day on, as if it were today (2027-04-01)",
    )


def moment_of(parsed_args: argparse.Namespace) -> stages.Moment:
    """The moment that ``--as-of`` names, by default the one it is."""
    now = stages.now()
    return dataclasses.replace(now, day=parsed_args.as_of or now.day)


def _days(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return int(text)


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2027-04-01") from None


def paths(packs: list[str], files: list[str]) -> list[pathlib.Path]:
    """The files of a catalog, in order; perhaps none.

    :param packs: what ``--pack`` was given
    :raises UnknownPack: a name is no pack
    """
    wanted = [name.strip() for text in packs for name in text.split(",")]
    return catalog_paths(wanted, files, option="--pack")


def some_paths(packs: list[str], files: list[str]) -> list[pathlib.Path]:
    """The same, at least one.

    :raises ValueError: a name is no pack, or nothing is named
    """
    found = paths(packs, files)
    if not found:
        raise ValueError("no catalog is named; name a file, or a pack with --pack")
    return found
