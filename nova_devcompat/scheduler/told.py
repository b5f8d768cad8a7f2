# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What a host tells of its resource classes and families in format 2, and whether it is so.

The first host that says something may be asked for all that say the same. So what it says must be
what it has: no host speaks for others with a token that it borrowed, or of providers that are not
its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nova_devcompat import wire
from nova_devcompat.scheduler.answers import Candidate
from nova_devcompat.scheduler.prunings import Contents, contents_of
from nova_devcompat.stores.assigned import is_device_class
from nova_devcompat.wire import stats_2, tokens


def is_as_long_as_it_says(text: object) -> bool:
    """Whether it begins as a text of format 2, and is as long as it says.

    :param text: whatever stands in a host's stats
    """
    return isinstance(text, str) and text[: stats_2.LENGTH.stop] == stats_2.begin_of(len(text))


def tokens_in(text: object) -> slice | None:
    """Where all that decides for any request stands in a text of format 2; None in another."""
    if not isinstance(text, str) or not is_as_long_as_it_says(text):
        return None
    # With what ends it, or else it could be the beginning of more.
    return slice(stats_2.CONTEXT.start, end_of_tokens(text) + 1)


def end_of_tokens(text: str) -> int:
    """The place of what ends the tokens in a text of format 2; -1 where nothing does."""
    return text.find(":", stats_2.CONTEXT.stop)


def tells_all(document: wire.HostDocument, text: str, candidates: Sequence[Candidate]) -> bool:
    """Whether all that decides is as the text says, and candidates take devices that are alike.

    :param document: what was read of the text
    """
    own = tokens.Tokens.read(document)
    all_tokens = tokens_in(text)
    if own is None or all_tokens is None or not candidates:
        return False
    names = {
        name
        for allocation in candidates[0]["allocations"].values()
        for name in allocation["resources"]
        if is_device_class(name)
    }
    return f"{document.context}{own.text}:" == text[all_tokens] and all(
        len(choices_of(document, name)) == 1 and _takes_what_is_told(document, name, candidates)
        for name in names
    )


def may_speak_for_others(
    document: wire.HostDocument,
    text: str,
    candidates: Sequence[Candidate],
    classes: Iterable[str],
    families: Iterable[str],
) -> bool:
    """Whether what a host says of some classes and families in its text is what it has.

    :param document: what was read of the text
    :param classes: those that the candidates take units of
    """
    own = tokens.Tokens.read(document)
    if own is None or document.context != text[stats_2.CONTEXT] or not candidates:
        return False
    for name in (*classes, *families):
        spot = spot_of(text, name)
        if own.of(name) != ("" if spot is None else text[spot]):
            return False
    return all(_takes_what_is_told(document, name, candidates) for name in classes)


def spot_of(text: str, name: str) -> slice | None:
    """Where the token of a class or a family stands; None where there is none."""
    named = tokens.name_of(name)
    at = text.find(named, stats_2.CONTEXT.stop)
    if at < 0:
        return None
    return slice(at + len(named), at + len(named) + tokens.SIZE)


def choices_of(document: wire.HostDocument, name: str) -> dict[Contents, str]:
    """What the providers of a class stand for, each with one of them.

    () for those that no device of the document has.
    """
    providers = [
        provider
        for device in document.devices
        if name in (device.classes or ())
        for provider in device.providers
    ]
    stands_for = contents_of(document, providers)
    found = {stands_for[provider]: provider for provider in providers}
    if name in (document.unnamed or ()):
        found[()] = ""
    return found


def _takes_what_is_told(
    document: wire.HostDocument, name: str, candidates: Sequence[Candidate]
) -> bool:
    """Whether candidates take units of a class from providers that are as the document says."""
    having = {
        provider
        for device in document.devices
        if name in (device.classes or ())
        for provider in device.providers
    }
    unnamed = name in (document.unnamed or ())
    taken = {
        provider
        for candidate in candidates
        for provider, allocation in candidate["allocations"].items()
        if name in allocation["resources"]
    }
    return all(
        one in having or (unnamed and one not in document.by_provider) for one in taken
    ) and bool(taken)
