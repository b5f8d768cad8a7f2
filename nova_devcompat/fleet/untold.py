# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What of a host's answer only the host itself can tell, although nothing here is against it.

Its nova-compute decides by the rules and the policies that are decided by here, so it says the
same, unless it knows better or goes by others. It knows better where something was let pass here
because it is UNKNOWN here (``on_unknown: accept``, or an accepted risk) and hidden from here: it
reads its devices anew when the guest arrives. So every question about the fleet asks once more
with nothing let pass, and looks at what stands against the guest then.

What is asked differs, and with it what is put to :class:`Untold`. ``explain`` and ``drain check``
tell what one migration meets: nobody chooses among the devices that the filter leaves, so all of
them have to do, whichever is claimed. ``stranded``, the page and the metrics tell whether a host
has a place for a guest: of a host's devices, which the filter has not sorted out for any request,
the one that does best counts, or a host with one device too old would never take anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nova_devcompat.compat.policy import Policies, unlike
from nova_devcompat.compat.verdict import HIDDEN, Actor, Reason
from nova_devcompat.wire import HostDocument

#: Why it may decide otherwise than it is decided here on the same facts.
OTHER_CATALOG = Reason(
    code="other-catalog",
    actor=Actor.OPERATOR,
    detail="it decides by another catalog than the one here",
)
OTHER_SETTINGS = Reason(
    code="other-settings",
    actor=Actor.OPERATOR,
    detail="it has other policies (mode, on_unknown) than there are here",
)

#: All that stands against a guest on a host under some policies; where the second is true, with
#: no risk accepted that anything is UNKNOWN. Devices are those that whoever asks is about.
Against = Callable[[Policies, bool], Sequence[Reason]]


class Untold:
    """Tells why hosts may yet refuse guests that are let pass here.

    :param policies: by which they are, of one moment
    :param imagined: whether that is not how it is decided here, but hosts are taken to do so
    """

    def __init__(self, policies: Policies, *, imagined: bool = False) -> None:
        self._policies = policies
        self._imagined = imagined
        self._strict = policies.as_strict()
        self._strictest = self._strict.as_enforced()
        #: Whether anything that is UNKNOWN is let pass, accepted risks aside.
        self.is_lenient = self._strict.told != policies.told
        # By the identity of what hosts tell of their policies, which is kept.
        self._unlike: dict[int, tuple[Mapping[str, str], bool]] = {}

    def of(
        self,
        said: HostDocument | Reason,
        against: Against,
        *,
        other_catalog: bool,
        let_pass: bool = True,
    ) -> tuple[Reason, ...]:
        """Why a host may refuse what is not refused here; nothing where it says the same.

        :param said: what it published, or why nothing is known of it
        :param against: asks it
        :param other_catalog: whether it decides by another than is decided by here
        :param let_pass: whether anything that stands against the guest may have been let pass
        """
        if other_catalog and not self._imagined:
            return (OTHER_CATALOG,)
        doubted = against(self._strict, True) if let_pass else ()
        if doubted:
            # What a rule cannot compare, the host cannot either, and lets it pass as it is here.
            hidden = [reason for reason in doubted if reason.code in HIDDEN]
            hidden += against(self._policies, False)
            if hidden:
                return tuple(dict.fromkeys(hidden))
        if self._is_unlike(said) and against(self._strictest, True):
            return (OTHER_SETTINGS,)
        return ()

    def _is_unlike(self, said: HostDocument | Reason) -> bool:
        """Whether a host says that it has other policies."""
        told = None if isinstance(said, Reason) else said.policies
        if told is None or self._imagined:
            return False
        known = self._unlike.get(id(told))
        if known is None:
            known = self._unlike[id(told)] = told, bool(unlike(self._policies.told, told))
        return known[1]
