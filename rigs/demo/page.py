# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the demonstration prints."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence

_WIDTH = min(max(shutil.get_terminal_size((80, 24)).columns - 1, 60), 100)


class Page:
    """Where the story is written.

    :param quiet: write nothing
    """

    def __init__(self, *, quiet: bool) -> None:
        # Kept, because a test fixture may put something else in its place.
        self._out = None if quiet else sys.stdout
        self._gap = True

    def write(self, text: str, end: str = "\n") -> None:
        self._gap = False
        if self._out is not None:
            print(text, end=end, file=self._out, flush=True)

    def gap(self) -> None:
        """An empty line, unless there is one already."""
        if not self._gap:
            self.write("")
            self._gap = True

    def say(self, text: str, indent: str = "   ") -> None:
        """A paragraph."""
        self.gap()
        self.write(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
        )
        self.gap()

    def show(self, label: str, text: str) -> None:
        """Something that was read from a service, under a label."""
        start = f"     {label:<10} "
        self.write(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=start,
                subsequent_indent=" " * len(start),
                break_on_hyphens=False,
            )
        )

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose last column wraps."""
        self.gap()
        for line in tabulate(head, rows, _WIDTH):
            self.write(line)
        self.gap()

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what is going on, and then how long it took."""
        self.write(f"{what} ... ", end="")
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self.write("")
            raise
        self.write(f"{time.monotonic() - started:.1f} s")


def tabulate(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table; the last column wraps at ``width``."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    start = 5 + sum(widths[:-1]) + 2 * len(widths[:-1])
    # A name longer than the line sticks out rather than break.
    widths[-1] = min(widths[-1], max(width - start, 16))
    lines = []
    for row in (head, ["-" * length for length in widths], *rows):
        cells = [f"{cell:<{length}}  " for cell, length in zip(row, widths, strict=True)][:-1]
        last = textwrap.wrap(
            row[-1], widths[-1], break_long_words=False, break_on_hyphens=False
        ) or [""]
        lines.append(f"     {''.join(cells)}{last[0]}".rstrip())
        lines += [" " * start + more for more in last[1:]]
    return lines
