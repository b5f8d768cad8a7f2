# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Survivors of which it is known why no test notices them: explained.toml."""

from __future__ import annotations

import dataclasses
import pathlib
import tomllib
from collections.abc import Iterable, Sequence

PATH = pathlib.Path(__file__).with_name("explained.toml")


class ExplainedError(ValueError):
    """The file is not as it should be; the text says where."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why no test notices some mutants.

    :ivar why: for people
    :ivar survivors: keys, as :func:`key_of` makes them
    """

    why: str
    survivors: tuple[str, ...]


def key_of(function: str, removed: Sequence[str], added: Sequence[str]) -> str:
    """What a survivor is called here: the function and the change, whatever its line or number.

    :param removed: lines that the function has
    :param added: what the mutant has instead
    """
    return f"{function}: {_flat(removed)} => {_flat(added)}"


def _flat(lines: Sequence[str]) -> str:
    return " ".join(" ".join(lines).split())


def load(path: pathlib.Path = PATH) -> list[Reason]:
    """The reasons.

    :raises ExplainedError: the file is not as it should be
    """
    try:
        entries = tomllib.loads(path.read_text()).get("reason", [])
        reasons = [
            Reason(why=entry["why"].strip(), survivors=tuple(entry["survivors"]))
            for entry in entries
        ]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ExplainedError(f"{path.name}: {error!r}") from error
    seen: set[str] = set()
    for reason in reasons:
        if not reason.why or not reason.survivors:
            raise ExplainedError(f"{path.name}: a reason without words or survivors")
        for key in reason.survivors:
            if key in seen:
                raise ExplainedError(f"{path.name}: twice: {key}")
            seen.add(key)
    return reasons


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Survivors held against the explained ones.

    :ivar unexplained: survivors without a reason
    :ivar explained: how many have one
    :ivar outdated: explained ones that are no survivors, or none any more
    """

    unexplained: list[str]
    explained: int
    outdated: list[str]


def compare(
    survivors: Iterable[str], reasons: Iterable[Reason], modules: Iterable[str]
) -> Comparison:
    """Hold survivors against the explained ones.

    :param survivors: their keys
    :param modules: of which all mutants were run; of others nothing is outdated
    """
    known = {key for reason in reasons for key in reason.survivors}
    found = set(survivors)
    prefixes = tuple(f"{module}." for module in modules)
    return Comparison(
        unexplained=sorted(found - known),
        explained=len(found & known),
        outdated=sorted(key for key in known - found if key.startswith(prefixes)),
    )
