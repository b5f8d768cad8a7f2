# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Three-valued verdicts, and the reasons for them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable


class Outcome(enum.StrEnum):
    """What a comparison came to."""

    ACCEPT = "accept"
    REJECT = "reject"
    UNKNOWN = "unknown"


class Actor(enum.StrEnum):
    """Who can change a verdict."""

    HOST = "host"
    GUEST = "guest"
    OPERATOR = "operator"


class Code:
    """Stable identifiers of reasons. Rule plugins may bring their own."""

    # REJECT: the two were compared.
    MAJOR_DIFFERS = "major-differs"
    MINOR_TOO_OLD = "minor-too-old"
    BELOW_RANGE = "below-range"
    ABOVE_RANGE = "above-range"
    FEATURE_MISSING = "feature-missing"
    NOT_EQUAL = "not-equal"
    TOO_FEW = "too-few"
    NOT_IN_SET = "not-in-set"
    TOO_OLD = "too-old"
    NOT_LISTED = "not-listed"
    BELOW_FLOOR = "below-floor"
    UNMET = "unmet"
    KNOWN_BAD = "known-bad"
    OTHER_FAMILY = "other-family"
    NO_DEVICE = "no-device"
    NOT_ASKED_FOR = "not-asked-for"
    CLAIM_LOST = "claim-lost"

    # UNKNOWN: they could not be.
    OFFER_MISSING = "offer-missing"
    OFFER_UNREADABLE = "offer-unreadable"
    NEED_MISSING = "need-missing"
    NEED_UNKNOWN = "need-unknown"
    NEED_UNREADABLE = "need-unreadable"
    NO_RULE = "no-rule"
    NOT_THE_SAME = "not-the-same"
    NOT_COMPARABLE = "not-comparable"
    NOT_EVALUATED = "not-evaluated"
    DEVICE_UNKNOWN = "device-unknown"
    HOST_SILENT = "host-silent"
    HOST_UNREADABLE = "host-unreadable"
    DOCUMENT_FULL = "document-full"
    RECORD_STALE = "record-stale"
    RECORD_UNREADABLE = "record-unreadable"
    PIN_UNREADABLE = "pin-unreadable"


#: The codes of what could not be compared. What is not among them was.
DOUBTS = frozenset(
    {
        Code.OFFER_MISSING,
        Code.OFFER_UNREADABLE,
        Code.NEED_MISSING,
        Code.NEED_UNKNOWN,
        Code.NEED_UNREADABLE,
        Code.NO_RULE,
        Code.NOT_THE_SAME,
        Code.NOT_COMPARABLE,
        Code.NOT_EVALUATED,
        Code.DEVICE_UNKNOWN,
        Code.HOST_SILENT,
        Code.HOST_UNREADABLE,
        Code.DOCUMENT_FULL,
        Code.RECORD_STALE,
        Code.RECORD_UNREADABLE,
        Code.PIN_UNREADABLE,
    }
)

#: Those of what whoever asks from outside cannot compare and the host itself perhaps can: it reads
#: its devices anew when a guest arrives. All others are the same there.
HIDDEN = frozenset(
    {
        Code.NOT_EVALUATED,
        Code.DEVICE_UNKNOWN,
        Code.HOST_SILENT,
        Code.HOST_UNREADABLE,
        Code.DOCUMENT_FULL,
    }
)

_EXPLANATIONS = {
    Code.MAJOR_DIFFERS: "another major version",
    Code.MINOR_TOO_OLD: "too old",
    Code.BELOW_RANGE: "older than the host still supports",
    Code.ABOVE_RANGE: "newer than the host supports",
    Code.FEATURE_MISSING: "a feature the guest uses is missing",
    Code.NOT_EQUAL: "must be equal",
    Code.TOO_FEW: "less than the guest has",
    Code.NOT_IN_SET: "not among the host's values",
    Code.TOO_OLD: "too old",
    Code.NOT_LISTED: "not in the device's accept list",
    Code.BELOW_FLOOR: "below what a migration needs",
    Code.UNMET: "the guest's own device is below what a migration needs, so it cannot leave it",
    Code.KNOWN_BAD: "known not to work",
    Code.OTHER_FAMILY: "a device of another family",
    Code.NO_DEVICE: "the host has no such device",
    Code.NOT_ASKED_FOR: "the flavor pins it and asks for no such device",
    Code.CLAIM_LOST: "Nova has lost its claim of a PCI device that the flavor asks for",
    Code.OFFER_MISSING: "the host does not say",
    Code.OFFER_UNREADABLE: "the host's value cannot be read",
    Code.NEED_MISSING: "the guest's record says nothing of it",
    Code.NEED_UNKNOWN: "what the guest uses is not known",
    Code.NEED_UNREADABLE: "the guest's value cannot be read",
    Code.NO_RULE: "the host's catalog has no rule for it",
    Code.NOT_THE_SAME: "another one, and no rule is published for that",
    Code.NOT_COMPARABLE: "which of them is newer cannot be told; name the ordering of its format",
    Code.NOT_EVALUATED: "the host has not evaluated it yet",
    Code.DEVICE_UNKNOWN: "the host says nothing of the device",
    Code.HOST_SILENT: "the host publishes nothing",
    Code.HOST_UNREADABLE: "what the host publishes cannot be read",
    Code.DOCUMENT_FULL: "there is no room for it in what the host publishes",
    Code.RECORD_STALE: "the guest's record is of an earlier start",
    Code.RECORD_UNREADABLE: "the guest's record cannot be read",
    Code.PIN_UNREADABLE: "the flavor's pin cannot be read",
}


# What to do, by who can do it, and of reasons of which more can be said. A code that third
# parties' rules bring goes by its actor.
_REMEDIES_OF = {
    Actor.HOST: "upgrade {host}",
    Actor.GUEST: "restart the guest on a fitting host",
    Actor.OPERATOR: "mend the catalog, the inventory or the record",
}
_REMEDIES = {
    Code.NOT_EQUAL: "make {host} equal",
    Code.NOT_THE_SAME: "give {host} the same one, or state a rule in the catalog",
    Code.NOT_COMPARABLE: "name the ordering in the catalog",
    Code.OTHER_FAMILY: "choose a host that has such a device",
    Code.NO_DEVICE: "choose a host that has such a device",
    Code.NOT_ASKED_FOR: "mend the flavor",
    Code.CLAIM_LOST: "migrate the guest cold, which claims anew",
    Code.PIN_UNREADABLE: "mend the flavor",
    Code.OFFER_MISSING: "mend the source or the inventory of {host}",
    Code.OFFER_UNREADABLE: "mend the source or the inventory of {host}",
    Code.DEVICE_UNKNOWN: "mend the source or the inventory of {host}",
    Code.NO_RULE: "give {host} the catalog that is here",
    Code.NOT_EVALUATED: "wait for the next cycle of {host}",
    Code.HOST_SILENT: "run nova-compute with our driver on {host}",
    Code.HOST_UNREADABLE: "upgrade nova-devcompat on {host}, or here",
    Code.DOCUMENT_FULL: "remove values that no guest needs",
    Code.NEED_MISSING: "have the need recorded: need backfill",
    Code.NEED_UNKNOWN: "mend the source of the guest's own host, then restart the guest",
    Code.NEED_UNREADABLE: "have the need recorded anew: need clear",
    Code.RECORD_UNREADABLE: "have the need recorded anew: need clear",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why a verdict is not ACCEPT.

    :param code: a stable identifier, one of :class:`Code` or a rule plugin's own
    :param actor: who can change it
    :param family: the family it concerns, '' where none could be told
    :param attribute: the attribute it concerns, '' where it concerns the whole device
    :param kind: the rule kind that decided, '' where no rule was asked
    :param needed: what the guest needs, as text, '' where that is not known
    :param offered: what the device offers, as text, '' where that is not known
    :param detail: what else helps, such as the text that could not be read
    :param risk: the name by which it can be accepted as a risk, '' for none
    """

    code: str
    actor: Actor
    family: str = ""
    attribute: str = ""
    kind: str = ""
    needed: str = ""
    offered: str = ""
    detail: str = ""
    risk: str = ""

    @property
    def meaning(self) -> str:
        """What its code says, in a few words; '' for one that a rule plugin brings."""
        return _EXPLANATIONS.get(self.code, "")

    @property
    def subject(self) -> str:
        """``family.attribute``, as far as they are known."""
        if self.family and self.attribute:
            return f"{self.family}.{self.attribute}"
        return self.family or self.attribute or "device"

    def __str__(self) -> str:
        return self.of("the host")

    def remedy(self, host: str) -> str:
        """What to do about it, which says to whom.

        :param host: what the host is called that it is about
        """
        return _REMEDIES.get(self.code, _REMEDIES_OF[self.actor]).format(host=host)

    def of(self, host: str) -> str:
        """The reason as that of a host.

        :param host: what it is called
        """
        facts = (
            self.needed and f"needs {self.needed}",
            self.offered and f"offered {self.offered}",
            self.meaning,
            self.detail,
        )
        kind = f"{self.kind}, " if self.kind else ""
        said = ", ".join(filter(None, facts))
        return f"{self.subject}: {said} [{kind}{self.code}; {self.remedy(host)}]"


_SEVERITY = {Outcome.ACCEPT: 0, Outcome.UNKNOWN: 1, Outcome.REJECT: 2}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """An outcome and the reasons for it.

    :param outcome: what the comparison came to
    :param reasons: why; empty exactly when the outcome is ACCEPT
    :param doubts: those reasons of a REJECT that alone would make it UNKNOWN
    :raises ValueError: an ACCEPT with reasons, or anything else without
    """

    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    doubts: frozenset[Reason] = frozenset()

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.ACCEPT) is bool(self.reasons):
            raise ValueError(f"{self.outcome} with {len(self.reasons)} reasons")

    @classmethod
    def accept(cls) -> Verdict:
        """The verdict without reasons."""
        return _ACCEPT

    @classmethod
    def reject(cls, *reasons: Reason) -> Verdict:
        """REJECT, because of ``reasons``."""
        return cls(outcome=Outcome.REJECT, reasons=reasons)

    @classmethod
    def unknown(cls, *reasons: Reason) -> Verdict:
        """UNKNOWN, because of ``reasons``."""
        return cls(outcome=Outcome.UNKNOWN, reasons=reasons)

    @classmethod
    def all_of(cls, verdicts: Iterable[Verdict]) -> Verdict:
        """Accept where all accept; one REJECT outweighs any UNKNOWN.

        All reasons are kept, those of the outcome first. No verdicts at all accept.
        """
        worst = Outcome.ACCEPT
        bad = []
        for verdict in verdicts:
            if verdict.reasons:
                bad.append(verdict)
                if _SEVERITY[verdict.outcome] > _SEVERITY[worst]:
                    worst = verdict.outcome
        if not bad:
            return _ACCEPT
        if len(bad) == 1 and len(bad[0].reasons) == 1:
            return bad[0]
        bad.sort(key=lambda verdict: -_SEVERITY[verdict.outcome])
        # dict.fromkeys: two devices of one guest often share a reason.
        reasons = tuple(dict.fromkeys(reason for verdict in bad for reason in verdict.reasons))
        if worst is Outcome.UNKNOWN:
            return cls(outcome=worst, reasons=reasons)
        against = {
            reason for verdict in bad for reason in verdict.reasons if not verdict.is_doubt(reason)
        }
        return cls(outcome=worst, reasons=reasons, doubts=frozenset(reasons) - against)

    def is_doubt(self, reason: Reason) -> bool:
        """Whether one of its reasons alone would make it UNKNOWN rather than REJECT."""
        return self.outcome is Outcome.UNKNOWN or reason in self.doubts

    @property
    def severity(self) -> int:
        """0 for ACCEPT, 1 for UNKNOWN, 2 for REJECT: what outweighs what."""
        return _SEVERITY[self.outcome]

    def __str__(self) -> str:
        if not self.reasons:
            return str(self.outcome)
        return f"{self.outcome}: {'; '.join(map(str, self.reasons))}"


_ACCEPT = Verdict(outcome=Outcome.ACCEPT)
