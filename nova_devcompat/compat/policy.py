# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What verdicts lead to: modes, policies, and what the policies of all families make of them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from nova_devcompat.compat.verdict import Outcome, Reason, Verdict


class Mode(enum.StrEnum):
    """Whether a family's verdicts are acted on."""

    ENFORCE = "enforce"
    REPORT = "report"
    #: Before the first of its stages: learnt and published, and nothing is made of a verdict.
    ANNOUNCE = "announce"

    @property
    def strength(self) -> int:
        """0 for ANNOUNCE, 1 for REPORT, 2 for ENFORCE."""
        return _STRENGTHS[self]


_STRENGTHS = {Mode.ANNOUNCE: 0, Mode.REPORT: 1, Mode.ENFORCE: 2}


class OnUnknown(enum.StrEnum):
    """What an UNKNOWN verdict is taken for."""

    REJECT = "reject"
    ACCEPT = "accept"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What one family's verdicts lead to.

    :param mode: whether they are acted on, or only reported; what concerns a device as a whole
        goes by this
    :param on_unknown: what UNKNOWN is taken for
    :param attributes: the modes of attributes that have one of their own. The weaker of this and
        ``mode`` holds, so that no host without such a device is passed over for an attribute's
        sake alone
    :param unasked: attributes of which placement is never asked, since hosts cannot know
        beforehand what guests need of them (see :attr:`Rule.open_world`)
    """

    mode: Mode = Mode.ENFORCE
    on_unknown: OnUnknown = OnUnknown.REJECT
    attributes: tuple[tuple[str, Mode], ...] = ()
    unasked: frozenset[str] = frozenset()

    def mode_of(self, attribute: str) -> Mode:
        """Whether what concerns an attribute is acted on; '' for the device as a whole."""
        for name, mode in self.attributes:
            if name == attribute:
                return min(mode, self.mode, key=lambda one: one.strength)
        return self.mode

    def of_unknown(self) -> int:
        """What an UNKNOWN of the device as a whole leads to: see :meth:`objection`."""
        return 0 if self.on_unknown is OnUnknown.ACCEPT else self.mode.strength

    def rule(self, verdict: Verdict) -> Ruling:
        """What the verdict comes to."""
        if not verdict.reasons:
            return _NOTHING
        return Ruling(
            refused=self._against(verdict, Mode.ENFORCE),
            reported=self._against(verdict, Mode.REPORT),
        )

    def _against(self, verdict: Verdict, mode: Mode) -> tuple[Reason, ...]:
        """Its reasons under a mode, if these speak against the device."""
        reasons = tuple(
            reason for reason in verdict.reasons if self.mode_of(reason.attribute) is mode
        )
        if self.on_unknown is OnUnknown.ACCEPT and all(map(verdict.is_doubt, reasons)):
            return ()
        return reasons

    def objection(self, verdict: Verdict) -> int:
        """2 for a refusal that is acted on, 1 for one that is only reported, 0 for none."""
        if not self.attributes:  # asked for thousands of devices, and nothing is to be told apart
            let_pass = verdict.outcome is Outcome.UNKNOWN and self.on_unknown is OnUnknown.ACCEPT
            return 0 if let_pass or not verdict.reasons else self.mode.strength
        ruling = self.rule(verdict)
        return 2 if ruling.refused else int(bool(ruling.reported))

    def refuses(self, verdict: Verdict) -> bool:
        """Whether the verdict speaks against the device, acted on or not."""
        return self.objection(verdict) > 0

    @property
    def enforced(self) -> bool:
        """Whether a refusal is acted on, at least one of the device as a whole."""
        return self.mode is Mode.ENFORCE

    @property
    def asks_placement(self) -> bool:
        """Whether the prefilter may require traits: only where no trait means no."""
        return self.enforced and self.on_unknown is OnUnknown.REJECT


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """What the verdicts on all devices of a guest come to, each under its family's policy.

    :param refused: reasons that speak against the host and are acted on
    :param reported: reasons that speak against it and are only reported
    """

    refused: tuple[Reason, ...] = ()
    reported: tuple[Reason, ...] = ()

    @classmethod
    def of(cls, verdicts: Iterable[tuple[Policy, Verdict]]) -> Ruling:
        """The ruling on verdicts, each with the policy that applies to it."""
        refused: dict[Reason, None] = {}
        reported: dict[Reason, None] = {}
        for policy, verdict in verdicts:
            if verdict.reasons:
                ruling = policy.rule(verdict)
                refused.update(dict.fromkeys(ruling.refused))
                reported.update(dict.fromkeys(ruling.reported))
        return cls(refused=tuple(refused), reported=tuple(reported))

    @property
    def accepts(self) -> bool:
        """Whether nothing that is acted on speaks against the host."""
        return not self.refused


_NOTHING = Ruling()


class Policies:
    """The policies of all families, of one moment.

    :param default: of a family that the catalog does not have
    :param devices: by the names of the catalog's device families
    :param hosts: by the names of its host families
    """

    __slots__ = ("_by_name", "default", "of_devices", "of_hosts")

    def __init__(
        self,
        default: Policy,
        devices: Mapping[str, Policy] | None = None,
        hosts: Mapping[str, Policy] | None = None,
    ) -> None:
        self.default = default
        #: Names of the device families.
        self.of_devices = frozenset(devices or ())
        #: Names of the host families.
        self.of_hosts = frozenset(hosts or ())
        self._by_name = {**(devices or {}), **(hosts or {})}

    def __call__(self, family: str) -> Policy:
        """The policy of one family."""
        return self._by_name.get(family, self.default)

    @property
    def families(self) -> frozenset[str]:
        """Names of all families of the catalog."""
        return self.of_devices | self.of_hosts

    def strictest(self, families: Iterable[str]) -> Policy:
        """Of what is UNKNOWN and concerns one of several families, nobody can tell which: the
        policy of the one that objects most.

        :param families: their names; none: the default, since it concerns a family that the
            catalog does not have
        """
        policies = [self(family) for family in sorted(families)] or [self.default]
        return max(policies, key=lambda policy: (policy.of_unknown(), policy.mode.strength))
