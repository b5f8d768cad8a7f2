# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Reading catalog files: strict, with all that is wrong reported at once."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Mapping

from nova_devcompat.catalog import patterns
from nova_devcompat.catalog.digest import digest_of
from nova_devcompat.catalog.errors import CatalogError
from nova_devcompat.catalog.family import CatalogFamily, RulePolicy
from nova_devcompat.catalog.knownbad import Entry as KnownBadEntry
from nova_devcompat.catalog.knownbad import KnownBadReader, read_known_bad
from nova_devcompat.catalog.model import Catalog
from nova_devcompat.catalog.names import check_lengths, check_name
from nova_devcompat.catalog.origin import Origin, Stated
from nova_devcompat.catalog.packs import pack_of
from nova_devcompat.catalog.policies import ALL, StatedPolicy, check_policy, read_policies
from nova_devcompat.catalog.reader import FamilyReader, read_match
from nova_devcompat.catalog.registry import NamedSources, Registered
from nova_devcompat.catalog.schema import LIST_SCHEMA, SCHEMA, VERSIONS
from nova_devcompat.kit.document import Schema
from nova_devcompat.kit.problems import DocumentError, Problem
from nova_devcompat.kit.section import Section, read_sections
from nova_devcompat.kit.yamlfile import read

_MISSING = "write one, or name another with [devcompat] catalog in nova.conf or --catalog"

_MISSING_LIST = "write one, or name another with [devcompat] known_bad in nova.conf"


def load_catalog(
    paths: Iterable[str | os.PathLike[str]],
    registered: Registered,
    *,
    known_bad: Iterable[str | os.PathLike[str]] = (),
    check_sources: bool = True,
) -> Catalog:
    """The catalog that these files make together.

    :param paths: at least one; a family of a later file takes the place of the whole family of
        the same name in an earlier one
    :param registered: the sources that are installed here
    :param known_bad: files that are lists of what is known not to work; of entries of one name
        that of the last file counts
    :param check_sources: whether those that it names must be among them; not where an inventory
        stands in for them all
    :raises CatalogError: with all problems of all files
    """
    loader = _Loader(NamedSources(registered), check_sources=check_sources)
    for path in paths:
        loader.add(path)
    for path in known_bad:
        loader.add_list(path)
    return loader.finish()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A family in a file, right or wrong; ``match`` is None where it is too wrong to compare."""

    section: Section
    match: Mapping[str, str] | None
    family: CatalogFamily | None
    stated: Stated
    replaced: tuple[Stated, ...]


class _Loader:
    """Collects families and problems from one file after the other."""

    def __init__(self, sources: NamedSources, *, check_sources: bool) -> None:
        self._sources = sources
        self._reader = FamilyReader(sources, check_sources=check_sources)
        self._problems: list[Problem] = []
        self._entries: dict[str, _Entry] = {}
        self._policies: list[StatedPolicy] = []
        self._known_bad: dict[str, KnownBadEntry] = {}
        self._check_sources = check_sources
        self._files = 0

    def add(self, path: str | os.PathLike[str]) -> None:
        self._files += 1
        self._read(path, SCHEMA, self._add_all, _MISSING)

    def add_list(self, path: str | os.PathLike[str]) -> None:
        self._read(path, LIST_SCHEMA, self._add_known_bad, _MISSING_LIST)

    def _read(
        self,
        path: str | os.PathLike[str],
        schema: Schema,
        add: Callable[[Section], None],
        missing: str,
    ) -> None:
        try:
            document = read(path, missing=missing)
        except DocumentError as error:
            self._problems.extend(error.problems)
            return
        _, problems = read_sections(document, VERSIONS, schema, add)
        self._problems.extend(problems)

    def finish(self) -> Catalog:
        if not self._files:
            self._problems.append(
                Problem(file="[devcompat] catalog", line=0, path="", message="names no file")
            )
        self._report_overlaps()
        self._check_policies()
        if self._problems:
            raise CatalogError(self._problems)
        families, origins, of_all = self._under_policies()
        families = self._with_known_bad(families)
        named = frozenset().union(*(family.sources for family in families.values()))
        return Catalog(
            families=families,
            digest=digest_of(families, of_all),
            stand_ins=frozenset(filter(self._sources.stands_in, named)),
            of_all=of_all,
            origins=origins,
        )

    def _under_policies(
        self,
    ) -> tuple[dict[str, CatalogFamily], dict[str, Origin], RulePolicy]:
        """The families, each under what files state of its policy, later files last."""
        families, origins = {}, {}
        of_all = RulePolicy()
        for name, entry in sorted(self._entries.items()):
            assert entry.family, f"{name} was left out without a problem"
            families[name] = entry.family
            origins[name] = Origin(stated=entry.stated, replaced=entry.replaced)
        for stated in self._policies:
            if stated.name == ALL:
                of_all = stated.own.over(of_all)
            for name in families if stated.name == ALL else [stated.name]:
                families[name] = stated.over(families[name])
                places = (*origins[name].policies, stated.section.place)
                origins[name] = dataclasses.replace(origins[name], policies=places)
        return families, origins, of_all

    def _check_policies(self) -> None:
        families = {name: entry.family for name, entry in self._entries.items()}
        for stated in self._policies:
            before = len(stated.section.problems)
            check_policy(stated, families)
            self._problems.extend(stated.section.problems[before:])

    def _add_all(self, root: Section) -> None:
        if not any(key in root for key in ("families", "policies", "known_bad")):
            root.problem(
                "key 'families' is missing; a file has 'families', 'policies', 'known_bad' or "
                "several of them"
            )
        self._add_families(root)
        self._policies += read_policies(root)
        self._add_known_bad(root)

    def _add_known_bad(self, root: Section) -> None:
        for entry in read_known_bad(root):
            self._known_bad.pop(entry.name, None)
            self._known_bad[entry.name] = entry

    def _with_known_bad(self, families: dict[str, CatalogFamily]) -> dict[str, CatalogFamily]:
        reader = KnownBadReader(families, self._sources, check_sources=self._check_sources)
        for entry in self._known_bad.values():
            before = len(entry.section.problems)
            reader.add(entry)
            self._problems.extend(entry.section.problems[before:])
        if self._problems:
            raise CatalogError(self._problems)
        return reader.families()

    def _add_families(self, root: Section) -> None:
        for name, section in root.mapping("families").items():
            if check_name(section):
                check_lengths(section)
            match = read_match(section)
            family = self._reader.read(section, match)
            # Also where it is wrong: the name is taken, and 'match' can be compared.
            before = self._entries.get(name)
            self._entries[name] = _Entry(
                section=section,
                match=match,
                family=family,
                stated=Stated(place=section.place, pack=pack_of(section.document.file)),
                replaced=(*before.replaced, before.stated) if before else (),
            )

    def _report_overlaps(self) -> None:
        """Report pairs of families, after overrides, that some device would match both of."""
        compared = [entry for _, entry in sorted(self._entries.items()) if entry.match]
        for first, second in itertools.combinations(compared, 2):
            fallbacks = {one.family is not None and one.family.fallback for one in (first, second)}
            example = _example(first.match or {}, second.match or {})
            if example is None or len(fallbacks) > 1:
                continue
            device = ", ".join(f"{name}: {text!r}" for name, text in sorted(example.items()))
            one, other = first.section, second.section
            self._problems.append(
                other.document.problem(
                    (*other.path, "match"),
                    f"families {one.name} ({one.place}) and {other.name} ({other.place}) "
                    f"both match a device with {device}; make them disjoint",
                )
            )


def _example(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str] | None:
    """Attributes of a device that matches both; None where they are disjoint.

    Families that each ask for an attribute which the other does not are taken for disjoint: it is
    the attributes that tell their devices apart.
    """
    if not (one.keys() <= other.keys() or other.keys() <= one.keys()):
        return None
    example: dict[str, str] = {}
    for attribute in one.keys() | other.keys():
        text = patterns.common_text(one.get(attribute, "*"), other.get(attribute, "*"))
        if text is None:
            return None
        example[attribute] = text
    return example
