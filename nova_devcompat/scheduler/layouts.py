# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Where texts of format 2 have the tokens that a request is about, as hosts have shown it.

They stand at the same places on hosts that have the same classes and families, which are the hosts
of one generation. A cloud has several, and hosts that have nothing of a family. So a request keeps
some layouts, and looks at many texts by one after the other: all steps are loops of Python's own
then, in a fraction of the time that bytecode takes.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from nova_devcompat.wire import stats_2, tokens

#: What of each text decides. Of one with another layout it is what no host says.
KeysOf = Callable[[Sequence[str]], Iterator[Hashable]]

#: So many layouts are kept: a text of any other is looked at by itself.
MOST = 8

Way = TypeVar("Way")


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Where texts have some tokens.

    :param starts: where these begin
    :param absent: the classes and families that have none, which decides as well
    :param end: where all tokens end, if there are absent ones
    """

    starts: tuple[int, ...]
    absent: tuple[str, ...] = ()
    end: int = 0

    def keys_of(self) -> KeysOf:
        """Tells what of texts decides: the same for the same tokens, wherever they stand.

        As a token is of its name, too, it is no matter how many other names are asked for.
        """
        spots = [slice(start, start + tokens.SIZE) for start in self.starts]
        if not self.absent:
            return functools.partial(map, operator.itemgetter(*spots))
        # What ends them here, or else they could go on behind that.
        tokens_of = operator.itemgetter(*spots, slice(self.end, self.end + 1))
        names = [itertools.repeat(tokens.name_of(name)) for name in self.absent]
        begin, end = itertools.repeat(stats_2.CONTEXT.stop), itertools.repeat(self.end)

        def keys_of(texts: Sequence[str]) -> Iterator[Hashable]:
            # -1 of each name that is not there.
            places = (map(str.find, texts, name, begin, end) for name in names)
            return zip(map(tokens_of, texts), *places, strict=True)

        return keys_of


class Layouts:
    """The layouts of one request's hosts."""

    def __init__(self) -> None:
        # In the order in which they are tried.
        self._kept: dict[Layout, KeysOf] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    def key(self, layout: Layout, text: str) -> Hashable:
        """What of a text decides, which has this layout."""
        return next((self._kept.get(layout) or layout.keys_of())([text]))

    def keep(self, layout: Layout) -> None:
        """Try a layout from now on; where :data:`MOST` are tried, in the place of the last."""
        if layout in self._kept:
            return
        if len(self._kept) == MOST:
            self._kept.popitem()
        self._kept[layout] = layout.keys_of()

    def look_up(self, texts: Sequence[str], ways: Mapping[Hashable, Way]) -> list[Way | None]:
        """What is known of texts, None where nothing is.

        There must be a layout.

        :param ways: what is known, by what of a text decides
        """
        keys_of = next(iter(self._kept.values()))
        found = list(map(ways.get, keys_of(texts)))
        if not all(found):
            self._look_further(texts, ways, found)
        return found

    def _look_further(
        self, texts: Sequence[str], ways: Mapping[Hashable, Way], found: list[Way | None]
    ) -> None:
        """Try the other layouts. The one that tells most goes first from now on."""
        missing = _missing(found)
        told = [len(texts) - len(missing)]
        for keys_of in itertools.islice(self._kept.values(), 1, None):
            more = map(ways.get, keys_of([texts[index] for index in missing]))
            for index, way in zip(missing, more, strict=True):
                found[index] = way
            before, missing = missing, _missing(found)
            told.append(len(before) - len(missing))
            if not missing:
                break
        if best := told.index(max(told)):
            kept = list(self._kept.items())
            kept.insert(0, kept.pop(best))
            self._kept = dict(kept)


def _missing(found: Sequence[object]) -> list[int]:
    return [index for index, way in enumerate(found) if way is None]
