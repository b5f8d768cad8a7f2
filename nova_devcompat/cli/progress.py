# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Progress of commands that take more than two seconds: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Protocol, TypeVar

from cliff.app import App

# Its INFO lines are for the console.
LOG = logging.getLogger("nova_devcompat.cli")

T = TypeVar("T")

#: Seconds before anything is shown.
SILENT = 2.0
# Seconds between two looks at a bar, and between two lines.
_BAR_EVERY = 0.1
_LINE_EVERY = 10.0


class _Display(Protocol):
    every: float

    def show(self, count: int) -> None:
        """Say how many there were."""

    def stop(self) -> None:
        """Take away what is not to stay."""


class Progress:
    """Follows what a command goes through; see :class:`nova_devcompat.kit.progress.Track`.

    :param stream: standard error
    :param quiet: whether nothing is to be shown
    :param clock: tells seconds
    """

    def __init__(
        self, stream: IO[str], *, quiet: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._clock = clock
        # Of the whole command: ten parts that take a second each are ten seconds to wait.
        self._due = clock() + SILENT

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """The items, one by one, as they are gone through.

        :param what: what they are, and what is done with them
        :param total: how many there are; None where that is not known
        """
        if self._quiet:
            yield from items
            return
        display: _Display | None = None
        try:
            for count, item in enumerate(items, 1):
                yield item
                if self._clock() >= self._due:
                    display = display or self._display(what, total)
                    display.show(count)
                    self._due = self._clock() + display.every
        finally:
            if display is not None:
                display.stop()

    def _display(self, what: str, total: int | None) -> _Display:
        return (_Bar if self._stream.isatty() else _Lines)(self._stream, what, total)


def progress_of(app: App) -> Progress:
    """That of a command.

    :param app: with cliff's own options, of which -q is one
    """
    # There is no standard error where whoever started us has closed it.
    quiet = app.stderr is None or app.options.verbose_level == 0
    return Progress(app.stderr, quiet=quiet)


class _Lines:
    """For a log, or whatever reads standard error."""

    every = _LINE_EVERY

    def __init__(self, stream: IO[str], what: str, total: int | None) -> None:
        self._what = what
        self._of = "" if total is None else f" of {total}"

    def show(self, count: int) -> None:
        LOG.info("%s: %d%s", self._what, count, self._of)

    def stop(self) -> None:
        pass


class _Bar:
    """For a terminal; nothing of it stays."""

    every = _BAR_EVERY

    def __init__(self, stream: IO[str], what: str, total: int | None) -> None:
        # It takes longer to import than most commands to run.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Remaining(),
            console=Console(file=stream),
            transient=True,
            # The rows of an answer are not to be held back.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(what, total=total)
        self._bar.start()

    def show(self, count: int) -> None:
        self._bar.update(self._task, completed=count)

    def stop(self) -> None:
        self._bar.stop()
