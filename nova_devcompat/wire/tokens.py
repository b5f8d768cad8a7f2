# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What of a stats document decides for a request, as tokens that stand in the text of format 2.

A token is a digest of all that the ruling on a candidate depends on, as far as it concerns one
resource class, or the devices of one family. Hosts with the same token are judged alike by a
request that asks for that, whatever else they have: most of them without a look at more of their
documents than the token.

The ruling on a candidate depends on what the host says of itself, of devices that no provider is
known to stand for, and of those behind the providers that the candidate takes. The providers of a
class are known, and so is what each stands for: its *choice*, as
:mod:`nova_devcompat.compat.given` has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from nova_devcompat.wire import packing
from nova_devcompat.wire.stats import HostDocument, dumps

#: Characters of a digest in a token, 96 bits.
SIZE = 16
_VERSION = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Devices that accept the same, or a part of the host, or what was left out of the document.

    :param content: the digest of what is said of them
    :param family: their family
    :param devices: of each, its resource providers, and the classes that these have units of,
        None where that is not known
    """

    content: str
    family: str
    devices: Sequence[tuple[Sequence[str], Sequence[str] | None]] = ()


def content_of(text: str) -> str:
    """The digest of what is said of some devices.

    :param text: as JSON has it
    """
    return packing.digest(text, SIZE)


def context_of(*, whole: bool, left_out: Sequence[tuple[int, str]], host: Sequence[str]) -> str:
    """The digest of what decides for every request.

    :param whole: as :class:`HostDocument` has it
    :param left_out: the places and contents of what there was no room for
    :param host: the contents of the parts of the host
    """
    return packing.digest(dumps([_VERSION, whole, list(left_out), list(host)]), SIZE)


def name_of(token: str) -> str:
    """How a token begins in the text, by its name: a resource class or a family.

    The one is in upper case, the other in lower case.
    """
    return f";{token}="


class Tokens:
    """The tokens of a document.

    :param context: see :func:`context_of`
    :param parts: the devices, in order
    :param unnamed: see :class:`HostDocument`
    """

    def __init__(self, context: str, parts: Sequence[Part], unnamed: Iterable[str] | None) -> None:
        self._context = context
        self._parts = parts
        self._unnamed = frozenset(unnamed or ())
        # Contents that each provider stands for, and providers by class.
        self._stands_for: dict[str, list[str]] = {}
        self._having: dict[str, set[str]] = {name: set() for name in self._unnamed}
        self._unplaced: list[str] = []
        for part in parts:
            for providers, classes in part.devices:
                for provider in providers:
                    self._stands_for.setdefault(provider, []).append(part.content)
                    for name in classes or ():
                        self._having.setdefault(name, set()).add(provider)
            if not all(providers for providers, _ in part.devices):
                self._unplaced.append(part.content)
        of_any_class = any(
            providers and classes is None for part in parts for providers, classes in part.devices
        )
        if unnamed is None or of_any_class:
            self._having.clear()

    @classmethod
    def read(cls, document: HostDocument) -> Tokens | None:
        """Those that a document has by what was read, to compare with what stands in its text.

        A host could borrow the token of another otherwise.

        :returns: None where these do not say it all, since something could not be read
        """
        if document.context is None:
            return None
        parts: list[Part] = []
        devices: list[tuple[Sequence[str], Sequence[str] | None]] = []
        for device in document.devices:
            if not parts or parts[-1].content != device.content:
                devices = []
                parts.append(Part(device.content, device.family, devices))
            devices.append((device.providers, device.classes))
        return cls(document.context, parts, document.unnamed)

    @property
    def text(self) -> str:
        """All of them, as they stand in the text of the document."""
        names = sorted({part.family for part in self._parts} | self._having.keys())
        return "".join(name_of(name) + self.of(name) for name in names)

    def of(self, name: str) -> str:
        """The token of a resource class or a family, '' where there is none."""
        if name in self._having:
            return self._of_class(name)
        return self._of_family(name) if any(one.family == name for one in self._parts) else ""

    def _of_family(self, family: str) -> str:
        """For requests of which nobody can tell the devices: all of a family, in order."""
        listed = [
            [part.content, sorted({bool(providers) for providers, _ in part.devices})]
            for part in self._parts
            if part.family == family
        ]
        return packing.digest(dumps([family, self._context, listed]), SIZE)

    def _of_class(self, name: str) -> str:
        """For requests whose candidates take units of a class: what its providers stand for."""
        choices = sorted({tuple(self._stands_for[one]) for one in self._having[name]})
        says = [name, self._context, choices, name in self._unnamed, self._unplaced]
        return packing.digest(dumps(says), SIZE)
