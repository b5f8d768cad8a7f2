# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Goes through the story, and says what became of each step."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from rigs.demo.page import Page
from rigs.demo.story import Story, Unexpected


@dataclasses.dataclass
class StepOutcome:
    """What became of one step."""

    name: str
    title: str
    ok: bool = False
    seconds: float = 0.0
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        content = dataclasses.asdict(self) | {"seconds": round(self.seconds, 2)}
        if self.error is None:
            del content["error"]
        return content


def tell(story: Story, page: Page, *, verbose: bool) -> list[StepOutcome]:
    """Go through the steps until one does not go as told."""
    told = []
    for number, (step, title) in enumerate(story.steps(), start=1):
        one = StepOutcome(step.__name__, title)
        told.append(one)
        page.gap()
        page.write(f"{number}. {title}")
        page.gap()
        one.ok, one.seconds, one.error = attempt(functools.partial(step, one.details))
        if one.error is None:
            page.gap()
            page.write(f"   As told ({one.seconds:.1f} s).")
            continue
        complain(f"Step {number}, {title!r}", one.error, verbose=verbose)
        break
    return told


def attempt(do: Callable[[], None]) -> tuple[bool, float, dict[str, Any] | None]:
    """Do something; whether it went well, how long it took, and what was wrong."""
    started = time.monotonic()
    error: dict[str, Any] | None = None
    try:
        do()
    except BrokenPipeError:
        raise
    except Unexpected as unexpected:
        error = {
            "what": unexpected.what,
            "expected": unexpected.expected,
            "got": unexpected.got,
        }
    except Exception as other:  # noqa: BLE001 - whatever it is, it was not expected
        error = {
            "what": "no error",
            "expected": None,
            "got": f"{type(other).__name__}: {other}",
            "traceback": traceback.format_exc(),
        }
    return error is None, time.monotonic() - started, error


def complain(where: str, error: Mapping[str, Any], *, verbose: bool) -> None:
    lines = [f"\nFAILED. {where} did not go as told."]
    if "traceback" in error:
        lines.append(f"  {error['got']}")
        if verbose:
            lines.append(error["traceback"])
    else:
        lines += [
            f"  {error['what']}",
            f"    expected  {error['expected']!r}",
            f"    got       {error['got']!r}",
        ]
    if not verbose:
        lines.append("Nova's logs may tell more: ./tools/demo.sh -v")
    print("\n".join(lines), file=sys.stderr, flush=True)
