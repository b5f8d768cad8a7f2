# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What hypothesis draws: few values, so that those of two devices meet, and some odd ones."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from nova_devcompat.compat import rules
from nova_devcompat.compat.family import Family, Offer
from nova_devcompat.compat.kinds import (
    Accepts,
    AtLeast,
    Equal,
    OneOf,
    Ordered,
    Range,
    Same,
    Semver,
    Superset,
)
from nova_devcompat.compat.need import DeviceNeed, Need
from nova_devcompat.compat.policy import Mode, OnUnknown, Policies, Policy
from nova_devcompat.compat.traits import Atom
from nova_devcompat.compat.verdict import Actor, Code, Outcome, Reason, Verdict

# --- Anything ------------------------------------------------------------------------------------

# Lone surrogates too, which JSON can hold.
any_text = st.text(st.characters(exclude_categories=()), max_size=20)

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**5000, max_value=10**5000 + 5)
    | st.floats()
    | any_text
    | st.sampled_from(["", " ", "1.0", "\uff11.\uff10", "1" * 10_000, "-1", "2.4.0-rc1", "1A.1"])
)
json_like = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(any_text | st.integers(), inner, max_size=4)
        | st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ["min", "max", "negotiated", "features", "values", "in_use", "version", "accepts"],
                inner,
            ),
        )
    ),
    max_leaves=12,
)

# --- Versions ------------------------------------------------------------------------------------

_numbers = st.lists(st.integers(0, 3), min_size=1, max_size=4)
_suffixes = st.sampled_from(["", "", "", "-lts", " (MT_0000000838)", "+build", "b", "~1", "-rc1"])


@st.composite
def versions(draw: st.DrawFn, *, base: int = 10) -> str:
    """Mostly good, at times odd, at times unreadable."""
    numbers = [number * draw(st.sampled_from([1, 1, 5])) for number in draw(_numbers)]
    if base == 16:
        digits = st.sampled_from(["x", "X", "02x"])
        return ".".join(format(number, draw(digits)) for number in numbers)
    text = ".".join(draw(st.sampled_from(["", "", "0"])) + str(number) for number in numbers)
    return draw(st.sampled_from(["", "", "v"])) + text + draw(_suffixes)


_rpm_parts = st.text("019a.~^_+", max_size=5)
rpm_versions = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "", "0:", "1:"]),
    st.sampled_from("019"),
    _rpm_parts,
    st.just("") | st.builds("-{}".format, st.text("019a.~^_+", min_size=1, max_size=3)),
)
debian_versions = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "0:", "1:"]),
    st.sampled_from("019"),
    st.text("019aZ.+~-", max_size=6),
)
build_versions = st.builds(
    "{}{}{}".format,
    versions(),
    st.sampled_from(["", "-0", "-1", "-2.1"]),
    st.sampled_from(["", "-generic", ".el9"]),
)

# --- Rules, and what devices say to them ---------------------------------------------------------

features = st.sampled_from(["p2p", "dma", "P2P", "a.b", "-", "\u00fc"])
masks = st.sampled_from(["0x0", "0x1", "0x3", "0X1f", "10", "0110"])
_sets = st.lists(features | masks, max_size=4)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A rule with what a source may read for it, and what a need of it may say."""

    rule: rules.Rule[Any, Any]
    offers: st.SearchStrategy[Any]
    needs: st.SearchStrategy[str]


def _ranges(base: int) -> st.SearchStrategy[Any]:
    bound = versions(base=base)
    return st.fixed_dictionaries({"min": bound, "max": bound}, optional={"negotiated": bound})


def _accept_lists(base: int) -> st.SearchStrategy[Any]:
    version = versions(base=base)
    entry = version | st.builds("{}-{}".format, version | st.just(""), version | st.just(""))
    entries = st.lists(entry, max_size=3)
    return st.fixed_dictionaries({"version": version, "accepts": entries | entries.map(",".join)})


_KINDS = [
    *(Kind(Semver(base=b), versions(base=b), versions(base=b)) for b in (10, 16)),
    *(Kind(Range(base=b), _ranges(b), versions(base=b)) for b in (10, 16)),
    Kind(
        Superset(),
        _sets | st.fixed_dictionaries({"features": _sets, "in_use": _sets}),
        features,
    ),
    Kind(Equal(), features, features),
    Kind(AtLeast(), st.integers(-3, 9) | st.integers(0, 9).map(str), versions()),
    Kind(
        OneOf(),
        _sets | st.fixed_dictionaries({"values": _sets, "in_use": features}),
        features,
    ),
    Kind(Ordered(), build_versions, build_versions),
    Kind(Ordered(ordering="rpm_evr"), rpm_versions, rpm_versions),
    Kind(Ordered(ordering="debian"), debian_versions, debian_versions),
    *(Kind(Accepts(base=b), _accept_lists(b), versions(base=b)) for b in (10, 16)),
    Kind(Same(), features, features),
    Kind(Equal(separator="."), features, features),
    Kind(Superset(bits=True), masks | st.integers(0, 31), masks),
]
kinds = st.sampled_from(_KINDS)
orderings = st.sampled_from([kind for kind in _KINDS if isinstance(kind.rule, Ordered)])


_odd = st.sampled_from([None, None, None, "banana", "", 1.5, True, [], ["x", 1], {"min": "1.0"}])


def raw_offers(kind: Kind) -> st.SearchStrategy[Any]:
    """What a source may read for a kind: now and then nothing, or something of another shape."""
    return st.integers(0, 7).flatmap(lambda dice: kind.offers if dice else _odd)


def needs(kind: Kind) -> st.SearchStrategy[str]:
    return st.one_of(kind.needs, kind.needs, kind.needs, any_text)


# --- Names and atoms -----------------------------------------------------------------------------

_words = st.text("abz059", min_size=1, max_size=5)
_tails = st.lists(_words, max_size=3).map("_".join)
names = st.builds("{}{}".format, st.sampled_from("abz"), _tails)
atoms = st.builds(
    Atom,
    family=names,
    attribute=names,
    value=st.text(st.characters(exclude_categories=()), min_size=1, max_size=40),
)

# --- Verdicts ------------------------------------------------------------------------------------

reasons = st.builds(
    Reason,
    code=st.sampled_from([Code.TOO_OLD, Code.NO_RULE, Code.NO_DEVICE]),
    actor=st.sampled_from(Actor),
    family=st.sampled_from(["f", "g"]),
)
verdicts = st.just(Verdict.accept()) | st.builds(
    Verdict,
    outcome=st.sampled_from([Outcome.REJECT, Outcome.UNKNOWN]),
    reasons=st.lists(reasons, min_size=1, max_size=3).map(tuple),
)
ATTRIBUTES = ("caps", "fw_version", "model")
policies = st.builds(
    Policy,
    mode=st.sampled_from(Mode),
    on_unknown=st.sampled_from(OnUnknown),
    attributes=st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(Mode), max_size=2).map(
        lambda modes: tuple(modes.items())
    ),
)

# --- Fleets --------------------------------------------------------------------------------------

FAMILIES = ("mlx5_vf", "nvidia_vgpu", "qemu_machine")
SLOTS = ("pci:one", "pci:two", "rc:VGPU")

Catalog = Mapping[str, Mapping[str, Kind]]


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Hosts with their devices, under the catalog each has, and one policy for each family."""

    policies: Mapping[str, Policy]
    hosts: tuple[tuple[Offer, ...], ...]

    def policy(self, family: str) -> Policy:
        return self.policies[family]

    @property
    def all_policies(self) -> Policies:
        """The policies of a catalog that has just these families."""
        return Policies(Policy(), self.policies)

    @property
    def atoms(self) -> frozenset[Atom]:
        """All atoms that the hosts' own offers bring."""
        return frozenset(atom for host in self.hosts for offer in host for atom in offer.atoms())


catalogs: st.SearchStrategy[Catalog] = st.fixed_dictionaries(
    dict.fromkeys(
        FAMILIES, st.dictionaries(st.sampled_from(ATTRIBUTES), kinds, min_size=1, max_size=2)
    )
)


@st.composite
def devices(draw: st.DrawFn, catalog: Catalog) -> Offer:
    name = draw(st.sampled_from(FAMILIES))
    family = Family(name=name, rules={key: kind.rule for key, kind in catalog[name].items()})
    return family.offer({key: draw(raw_offers(kind)) for key, kind in catalog[name].items()})


@st.composite
def fleets(draw: st.DrawFn, *, one_catalog: bool = False) -> Fleet:
    """Hosts that have some of the same few devices, at times some under another catalog."""
    several = [draw(catalogs)]
    if not one_catalog and not draw(st.integers(0, 3)):
        several.append(draw(catalogs))
    models = [
        draw(devices(catalog)) for catalog in several for _ in range(draw(st.integers(1, 3)))
    ]
    host = st.lists(st.sampled_from(models), min_size=1, max_size=4).map(tuple)
    staged = st.builds(Policy, attributes=policies.map(lambda policy: policy.attributes))
    strict_often = st.just(Policy()) | staged | policies
    return Fleet(
        policies={family: draw(strict_often) for family in FAMILIES},
        hosts=tuple(draw(st.lists(host, min_size=2, max_size=4))),
    )


@st.composite
def guests(draw: st.DrawFn, host: tuple[Offer, ...]) -> tuple[Need, list[Offer]]:
    """The need of a guest that started on this host, and the device each part of it was frozen on.

    One device may serve several parts: a physical function has many functions.
    """
    given = draw(st.lists(st.sampled_from(host), min_size=1, max_size=4))
    need = Need(
        devices=tuple(
            offer.freeze(slot=draw(st.sampled_from(SLOTS)), address=f"0000:81:00.{index}")
            for index, offer in enumerate(given)
        )
    )
    return need, given


@st.composite
def pins(draw: st.DrawFn, fleet: Fleet) -> Need:
    """What a flavor pins: values that some device of the fleet brings, at times another."""
    values: dict[str, dict[str, set[str]]] = {}
    known = draw(st.lists(st.sampled_from(sorted(fleet.atoms)), max_size=3)) if fleet.atoms else []
    for atom in known:
        values.setdefault(atom.family, {}).setdefault(atom.attribute, set()).add(atom.value)
    if not draw(st.integers(0, 5)):
        family, attribute = draw(st.sampled_from(FAMILIES)), draw(st.sampled_from(ATTRIBUTES))
        odd = draw(versions() | features)
        values.setdefault(family, {}).setdefault(attribute, set()).add(odd)
    return Need(devices=tuple(DeviceNeed.of(family, values[family]) for family in values))
