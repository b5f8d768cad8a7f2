# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Many addresses of functions in little text: ``0000:81:00.4-0000:81:05.7``.

Functions of one device mostly follow each other (PCI Express Base Specification, First VF Offset
and VF Stride), so that a run of them is its first and its last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_RUN = re.compile(
    r"([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])"
    r"(?:-([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7]))?"
)


def runs_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """The runs of some addresses, in order; what is no PCI address stands for itself.

    :param addresses: normalised
    """
    pci = []
    others = []
    for address in addresses:
        place = _ends(address)
        if place is None:
            others.append(address)
        else:
            pci.append(place[:2])
    runs: list[tuple[int, int, int]] = []
    for domain, number in sorted(set(pci)):
        if runs and runs[-1][0] == domain and runs[-1][2] + 1 == number:
            runs[-1] = domain, runs[-1][1], number
        else:
            runs.append((domain, number, number))
    return (*(_text(*run) for run in runs), *sorted(set(others)))


def is_in(run: str, address: str) -> bool:
    """Whether a run has an address.

    :param address: normalised
    """
    place, ends = _ends(address), _ends(run)
    if place is None or ends is None:
        return run == address
    return place[0] == ends[0] and ends[1] <= place[1] <= ends[2]


def addresses_in(run: str) -> Iterator[str]:
    """The addresses of a run, 65,536 at most.

    :param run: normalised; what is no run of PCI addresses is one address
    :raises ValueError: it ends before it begins, or in another domain
    """
    ends = _ends(run)
    if ends is None:
        yield run
        return
    domain, first, last = ends
    for number in range(first, last + 1):
        yield _address(domain, number)


def check_run(run: str) -> str:
    """The same run.

    :raises ValueError: it ends before it begins, or in another domain
    """
    _ends(run)
    return run


def _ends(run: str) -> tuple[int, int, int] | None:
    """Domain, first and last number of a run of PCI addresses."""
    match = _RUN.fullmatch(run)
    if match is None:
        return None
    domain, first = int(match[1], 16), _number(*match.groups()[1:4])
    if match[5] is None:
        return domain, first, first
    last = _number(*match.groups()[5:8])
    if int(match[5], 16) != domain or last < first:
        raise ValueError(f"{run!r} does not run from one address to a later one of its domain")
    return domain, first, last


def _number(bus: str, slot: str, function: str) -> int:
    """The routing ID: bus, device and function in 16 bits."""
    return int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)


def _address(domain: int, number: int) -> str:
    return f"{domain:04x}:{number >> 8:02x}:{number >> 3 & 31:02x}.{number & 7}"


def _text(domain: int, first: int, last: int) -> str:
    text = _address(domain, first)
    return text if first == last else f"{text}-{_address(domain, last)}"
