# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What verdicts lead to: modes, policies, and what the policies of all families make of them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence

from nova_devcompat.compat.risks import Risk, waive
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
    :param unknowns: what UNKNOWN is taken for of attributes that say so themselves
    :param unasked: attributes of which placement is never asked, since hosts cannot know
        beforehand what guests need of them (see :attr:`Rule.open_world`)
    :param known_bad: attributes of which values are known not to work. Placement is not asked for
        what flavors pin of these: a host that takes no guest with such a value can still start one
    """

    mode: Mode = Mode.ENFORCE
    on_unknown: OnUnknown = OnUnknown.REJECT
    attributes: tuple[tuple[str, Mode], ...] = ()
    unknowns: tuple[tuple[str, OnUnknown], ...] = ()
    unasked: frozenset[str] = frozenset()
    known_bad: frozenset[str] = frozenset()

    def mode_of(self, attribute: str) -> Mode:
        """Whether what concerns an attribute is acted on; '' for the device as a whole."""
        for name, mode in self.attributes:
            if name == attribute:
                return min(mode, self.mode, key=lambda one: one.strength)
        return self.mode

    def unknown_of(self, attribute: str) -> OnUnknown:
        """What UNKNOWN of an attribute is taken for; '' for the device as a whole."""
        for name, choice in self.unknowns:
            if name == attribute:
                return choice
        return self.on_unknown

    @property
    def tells_apart(self) -> bool:
        """Whether it makes something else of one attribute than of another."""
        return bool(self.attributes or self.unknowns)

    def of_unknown(self) -> int:
        """What an UNKNOWN of the device as a whole leads to: see :meth:`objection`."""
        return 0 if self.on_unknown is OnUnknown.ACCEPT else self.mode.strength

    def rule(self, verdict: Verdict) -> Ruling:
        """What the verdict comes to."""
        if not verdict.reasons:
            return _NOTHING
        if not self.tells_apart:  # asked for every kind of guest on every kind of host
            return self._rule_all(verdict)
        return Ruling(
            refused=self._against(verdict, Mode.ENFORCE),
            reported=self._against(verdict, Mode.REPORT),
        )

    def _rule_all(self, verdict: Verdict) -> Ruling:
        """The same where nothing is to be told apart."""
        lenient = self.on_unknown is OnUnknown.ACCEPT
        if lenient and all(map(verdict.is_doubt, verdict.reasons)):
            return _NOTHING
        if self.mode is Mode.ENFORCE:
            return Ruling(refused=verdict.reasons)
        return Ruling(reported=verdict.reasons) if self.mode is Mode.REPORT else _NOTHING

    def _against(self, verdict: Verdict, mode: Mode) -> tuple[Reason, ...]:
        """Its reasons under a mode, if these speak against the device."""
        reasons = tuple(
            reason for reason in verdict.reasons if self.mode_of(reason.attribute) is mode
        )
        let_pass = all(
            verdict.is_doubt(reason) and self.unknown_of(reason.attribute) is OnUnknown.ACCEPT
            for reason in reasons
        )
        return () if let_pass else reasons

    def objection(self, verdict: Verdict) -> int:
        """2 for a refusal that is acted on, 1 for one that is only reported, 0 for none."""
        if not self.tells_apart:  # asked for thousands of devices, and nothing is to be told apart
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

    def asks_of(self, attribute: str) -> bool:
        """Whether the prefilter may require traits of an attribute."""
        return (
            self.asks_placement
            and self.mode_of(attribute) is Mode.ENFORCE
            and self.unknown_of(attribute) is OnUnknown.REJECT
            and attribute not in self.unasked
        )

    def as_enforced(self) -> Policy:
        """The same if all of it were enforced, whatever its mode is."""
        return dataclasses.replace(self, mode=Mode.ENFORCE, attributes=())

    def as_strict(self) -> Policy:
        """The same if nothing that is UNKNOWN were let pass."""
        return dataclasses.replace(self, on_unknown=OnUnknown.REJECT, unknowns=())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """What the verdicts on all devices of a guest come to, each under its family's policy.

    :param refused: reasons that speak against the host and are acted on
    :param reported: reasons that speak against it and are only reported
    :param waived: reasons that do not count because of an accepted risk, each with that
    """

    refused: tuple[Reason, ...] = ()
    reported: tuple[Reason, ...] = ()
    waived: tuple[tuple[Reason, Risk], ...] = ()

    @classmethod
    def of(cls, verdicts: Iterable[tuple[Policy, Verdict]], risks: Sequence[Risk] = ()) -> Ruling:
        """The ruling on verdicts, each with the policy that applies to it.

        :param risks: accepted ones that hold now
        """
        refused: dict[Reason, None] = {}
        reported: dict[Reason, None] = {}
        waived: dict[Reason, Risk] = {}
        for policy, verdict in verdicts:
            if not verdict.reasons:
                continue
            left = verdict
            if risks and policy.refuses(verdict):
                left, passed = waive(verdict, risks)
                waived.update(passed)
            ruling = policy.rule(left)
            refused.update(dict.fromkeys(ruling.refused))
            reported.update(dict.fromkeys(ruling.reported))
        return cls(refused=tuple(refused), reported=tuple(reported), waived=tuple(waived.items()))

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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Policies):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.of_devices, self.of_hosts))

    def __call__(self, family: str) -> Policy:
        """The policy of one family."""
        return self._by_name.get(family, self.default)

    @property
    def families(self) -> frozenset[str]:
        """Names of all families of the catalog."""
        return self.of_devices | self.of_hosts

    def as_enforced(self) -> Policies:
        """The same if all families were enforced, whatever their modes are."""
        return self._each(Policy.as_enforced)

    def as_strict(self) -> Policies:
        """The same if nothing that is UNKNOWN were let pass."""
        return self._each(Policy.as_strict)

    def _each(self, change: Callable[[Policy], Policy]) -> Policies:
        changed = {name: change(policy) for name, policy in self._by_name.items()}
        return Policies(
            change(self.default),
            {name: changed[name] for name in self.of_devices},
            {name: changed[name] for name in self.of_hosts},
        )

    @property
    def told(self) -> dict[str, str]:
        """Them as texts: under '' the default, by family and by ``family.attribute`` what is not
        as that.
        """
        texts = {"": _told(self.default.mode, self.default.on_unknown)}
        for name, policy in sorted(self._by_name.items()):
            texts[name] = _told(policy.mode, policy.on_unknown)
            named = {attribute for attribute, _ in (*policy.attributes, *policy.unknowns)}
            for attribute in sorted(named):
                text = _told(policy.mode_of(attribute), policy.unknown_of(attribute))
                texts[f"{name}.{attribute}"] = text
        return {key: text for key, text in texts.items() if not key or text != _above(texts, key)}

    def strictest(self, families: Iterable[str]) -> Policy:
        """Of what is UNKNOWN and concerns one of several families, nobody can tell which: the
        policy of the one that objects most.

        :param families: their names; none: the default, since it concerns a family that the
            catalog does not have
        """
        policies = [self(family) for family in sorted(families)] or [self.default]
        return max(policies, key=lambda policy: (policy.of_unknown(), policy.mode.strength))


def _told(mode: Mode, on_unknown: OnUnknown) -> str:
    return f"{mode.value} {on_unknown.value}"


def _above(texts: Mapping[str, str], key: str) -> str:
    """What holds of a family or an attribute of which nothing is told."""
    family, dot, _ = key.partition(".")
    return texts.get(family, texts[""]) if dot else texts[""]


def unlike(here: Mapping[str, str], there: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What two processes make something else of, each pair by family or ``family.attribute``.

    :param here: :attr:`Policies.told` of one
    :param there: of the other
    """
    pairs = {
        key: (here.get(key, _above(here, key)), there.get(key, _above(there, key)))
        for key in sorted({*here, *there})
    }
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
