# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Stages: what is made of a requirement, and from when on.

A requirement can be announced, then reported on, and enforced last, by date or by the release of
Nova that runs. Which stage it is in is told anew for each decision, so that nothing need be
restarted when a date comes.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nova_devcompat.compat.policy import Mode

#: What a stage can bring; before the first of its stages a requirement is announced.
MODES = (Mode.ENFORCE, Mode.REPORT)

#: How stages are listed where nobody says otherwise: those of the next so many days.
WITHIN_DAYS = 90

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_RELEASE = re.compile(r"nova ([1-9]\d{1,2})")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What tells which stages have begun.

    :param day: in UTC
    :param release: the major version of the Nova that runs, 34 for 2026.2; None where none does
    """

    day: datetime.date
    release: int | None = None


def now() -> Moment:
    """The moment it is, for this process."""
    return Moment(day=_today(), release=_nova_release())


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


@functools.cache
def _nova_release() -> int | None:
    """Of the Nova that is installed here, which does not change while we run."""
    try:
        major = importlib.metadata.version("nova").partition(".")[0]
    except importlib.metadata.PackageNotFoundError:
        return None
    return int(major) if major.isdecimal() else None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """From when on a requirement has a mode.

    :param since: the first day, or the first major version of Nova
    :param mode: what is made of a refusal from then on
    """

    since: datetime.date | int
    mode: Mode

    def reached(self, moment: Moment) -> bool:
        """Whether it has begun."""
        if isinstance(self.since, int):
            return moment.release is not None and moment.release >= self.since
        return moment.day >= self.since

    def begin(self, moment: Moment) -> Moment:
        """The first moment it holds, in all else as this one is."""
        if isinstance(self.since, int):
            return dataclasses.replace(moment, release=self.since)
        return dataclasses.replace(moment, day=self.since)

    @property
    def when(self) -> str:
        """``from``, as a catalog states it."""
        return f"nova {self.since}" if isinstance(self.since, int) else self.since.isoformat()


#: In order; without any, a requirement is what ``mode`` says.
Stages = tuple[Stage, ...]


def mode_at(stages: Stages, moment: Moment) -> Mode:
    """The mode of the last stage that has begun."""
    return next((stage.mode for stage in reversed(stages) if stage.reached(moment)), Mode.ANNOUNCE)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Coming:
    """A stage that has not begun.

    :param subject: the family, or ``family.attribute``
    :param stage: the stage
    :param before: the mode until then
    """

    subject: str
    stage: Stage
    before: Mode

    def line(self, moment: Moment) -> str:
        """The stage in one line, as seen at a moment."""
        since = self.stage.since
        if isinstance(since, int):
            when = f"with {self.stage.when}"
        else:
            days = (since - moment.day).days
            when = f"on {self.stage.when}, in {days} day{'s' if days != 1 else ''}"
        return f"{self.subject}: {self.before.value} becomes {self.stage.mode.value} {when}"


def coming(subject: str, stages: Stages, moment: Moment, days: int) -> Iterator[Coming]:
    """The stages that begin within so many days; those of a later release count at any time."""
    before = mode_at(stages, moment)
    for stage in stages:
        if stage.reached(moment):
            continue
        since = stage.since
        if isinstance(since, int) or (since - moment.day).days <= days:
            yield Coming(subject=subject, stage=stage, before=before)
        before = stage.mode


class BadStage(ValueError):
    """What is wrong with one of several stages.

    :param index: which one
    :param key: what of it, '' for all of it
    """

    def __init__(self, index: int, key: str, message: str) -> None:
        super().__init__(message)
        self.index = index
        self.key = key


def parse_stages(stated: Sequence[Mapping[str, Any]]) -> Stages:
    """The stages that a catalog states, each a mapping with texts ``from`` and ``mode``.

    :raises BadStage: one that cannot be read, begins no later than the one before, or brings no
        stronger mode
    """
    stages: list[Stage] = []
    for index, one in enumerate(stated):
        try:
            since = _since(one["from"])
        except ValueError as error:
            raise BadStage(index, "from", str(error)) from None
        stage = Stage(since=since, mode=Mode(one["mode"]))
        if stages:
            _check_order(index, stages[-1], stage)
        stages.append(stage)
    return tuple(stages)


def _since(text: str) -> datetime.date | int:
    release = _RELEASE.fullmatch(text)
    if release:
        return int(release[1])
    if not _DATE.fullmatch(text):
        raise ValueError(
            f"{text!r} is neither a date such as '2027-04-01' nor a release such as 'nova 35'"
        )
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no date: {error}") from None


def _check_order(index: int, before: Stage, stage: Stage) -> None:
    if isinstance(before.since, int) is not isinstance(stage.since, int):
        raise BadStage(
            index,
            "from",
            f"{stage.when!r} after {before.when!r}: which comes first cannot be told; "
            "take dates alone, or releases alone",
        )
    if stage.since == before.since:
        raise BadStage(index, "from", f"two stages from {stage.when!r}; leave one out")
    if stage.since < before.since:  # type: ignore[operator]
        raise BadStage(
            index, "from", f"{stage.when!r} is before {before.when!r}; put stages in order"
        )
    if stage.mode is before.mode:
        raise BadStage(
            index,
            "mode",
            f"{stage.mode.value!r} again, so the stage changes nothing; leave it out",
        )
    if stage.mode.strength < before.mode.strength:
        raise BadStage(
            index,
            "mode",
            f"{stage.mode.value!r} after {before.mode.value!r} goes back; a stage only gets "
            "stricter",
        )
