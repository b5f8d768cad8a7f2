# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The test suites: runs of pytest, each over one folder with one concurrency mode."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from rigs import releases
from rigs.selection import Selected

#: Processes of tests at a time. More of Nova's services would not fit into the memory of a small
#: machine.
WORKERS = min(os.cpu_count() or 1, 8)
#: The pure core: decided without a host, so there is no excuse for a branch not tested.
CORE = "nova_devcompat.compat"
CORE_TESTS = "tests/unit/compat"
CORE_COVERAGE = (
    f"--cov={CORE}",
    "--cov-branch",
    "--cov-fail-under=100",
    "--cov-report=term-missing:skip-covered",
)
#: How the other unit tests are shared out, by their folders, one more suite having the rest: each
#: takes about as long. Processes of pytest-xdist would each import and collect all of it.
UNIT_SHARES = (
    ("tests/unit/catalog", "tests/unit/sources"),
    ("tests/unit/rigs", "tests/unit/wire"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """One run of pytest.

    :ivar name: unique among those that run together
    :ivar folder: of all its tests, from the top of the tree
    :ivar selected: the node ids of those that are run, from there as well; () for all
    :ivar environ: variables beside this process's own
    :ivar arguments: for pytest
    :ivar shared: whether its tests can be shared out to several processes
    :ivar waits: whether its tests wait now and then, so that one process more finds room
    :ivar distribution: how they are, as pytest-xdist calls it
    :ivar many: whether they are too many for a line each
    :ivar files: whether they write so many files that they would wait for a disk
    :ivar environment: which of our virtual environments it runs in
    """

    name: str
    folder: str
    selected: tuple[str, ...] = ()
    environ: dict[str, str] = dataclasses.field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    shared: bool = False
    waits: bool = False
    distribution: str = "worksteal"
    many: bool = False
    files: bool = False
    environment: str = "test"

    def only(self, tests: Sequence[Selected]) -> Suite:
        """The suite with these tests of its folder, whatever else it leaves out."""
        return dataclasses.replace(
            self,
            selected=tuple(test.node_id for test in tests),
            arguments=(),
            # Processes take longer to start than a file to run.
            shared=self.shared and any(test.is_folder for test in tests),
        )

    def unshared(self) -> Suite:
        """The suite in one process and without demands on all of its tests, for some of them."""
        arguments = tuple(each for each in self.arguments if each not in CORE_COVERAGE)
        return dataclasses.replace(self, arguments=arguments, shared=False)

    def processes(self, workers: int) -> int:
        """How many processes work at its tests."""
        return workers + self.waits if self.shared else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody wants to have run.

    :ivar release: of OpenStack to test with
    :ivar kinds: the suites by kind, see :func:`choose`
    :ivar tests: only these, whatever the kinds are; () for all
    :ivar quick: only what fails soonest, whatever the kinds are
    :ivar alone: each suite in one process, for who looks for something
    """

    release: releases.Release
    kinds: frozenset[str] = frozenset()
    tests: tuple[Selected, ...] = ()
    quick: bool = False
    alone: bool = False


def core_suite() -> Suite:
    """The unit tests of the pure core, which must run all of it; in one process beside others."""
    return Suite(name="core", folder=CORE_TESTS, arguments=CORE_COVERAGE, many=True)


def unit_suite() -> Suite:
    """The other unit tests, without what tracing each line takes; for who chooses among them."""
    return Suite(
        name="unit",
        folder="tests/unit",
        arguments=(f"--ignore={CORE_TESTS}",),
        shared=True,
        many=True,
        files=True,
    )


def unit_suites() -> list[Suite]:
    """The other unit tests, as suites of one process that can run at the same time."""
    whole = dataclasses.replace(unit_suite(), shared=False)
    rest = tuple(f"--ignore={folder}" for share in UNIT_SHARES for folder in share)
    number = len(UNIT_SHARES) + 1
    return [
        *(
            dataclasses.replace(whole, name=f"unit-{place}", selected=share, arguments=())
            for place, share in enumerate(UNIT_SHARES, start=1)
        ),
        dataclasses.replace(whole, name=f"unit-{number}", arguments=(*whole.arguments, *rest)),
    ]


def real_suite() -> Suite:
    return Suite(name="real", folder="tests/real")


def native_suite() -> Suite:
    return Suite(
        name="native",
        folder="tests/functional",
        environ={"OS_NOVA_DISABLE_EVENTLET_PATCHING": "true"},
        shared=True,
        waits=True,
    )


def eventlet_suites(*, shares: int = 1) -> list[Suite]:
    """The functional tests on eventlet, as suites that can run at the same time.

    :param shares: how many suites; see --share in tests/functional/conftest.py
    """
    return [
        Suite(
            name="eventlet" if shares == 1 else f"eventlet-{share}",
            folder="tests/functional",
            environ={"OS_NOVA_DISABLE_EVENTLET_PATCHING": "false"},
            arguments=() if shares == 1 else (f"--share={share}/{shares}",),
        )
        for share in range(1, shares + 1)
    ]


def packaging_suite(release: releases.Release) -> Suite:
    return Suite(
        name="packaging",
        folder="tests/packaging",
        environ={"NOVA_DEVCOMPAT_RELEASE": release.name},
    )


def devstack_suite() -> Suite:
    return Suite(name="devstack", folder="tests/devstack", environment="check")


def page_suite() -> Suite:
    return Suite(name="page", folder="tests/page", environment="page")


def choose(wanted: Wanted, workers: int = WORKERS) -> list[Suite]:
    """The suites that are to run.

    The kinds are ``unit``, ``real``, ``functional`` (on native threads where Nova can, and on
    eventlet those that depend on it), ``native`` and ``eventlet`` (all functional tests on one of
    them), ``page`` and ``packaging``.

    :returns: them in the order in which they are to be started: first those that take long and
        cannot be shared out, so that none is left alone at the end
    """
    if wanted.quick:
        return _quick(wanted.release)
    if wanted.tests:
        return _selected(wanted)
    suites = _functional(wanted, workers)
    if "unit" in wanted.kinds:
        place = sum(not suite.shared for suite in suites)
        suites[place:place] = [core_suite(), *([unit_suite()] if wanted.alone else unit_suites())]
    if "real" in wanted.kinds:
        suites.append(real_suite())
    if "page" in wanted.kinds:
        suites.append(page_suite())
    if "packaging" in wanted.kinds:
        suites.append(packaging_suite(wanted.release))
    return [suite.unshared() for suite in suites] if wanted.alone else suites


def _functional(wanted: Wanted, workers: int) -> list[Suite]:
    """On eventlet first, since pytest-xdist cannot share those out."""
    kinds = wanted.kinds
    native = wanted.release.native and bool(kinds & {"functional", "native"})
    suites: list[Suite] = []
    if "eventlet" in kinds or ("functional" in kinds and not native):
        # Beside those on native threads one more process is enough.
        suites += eventlet_suites(shares=1 if native or wanted.alone else workers)
    elif "functional" in kinds:
        (suite,) = eventlet_suites()
        # Who chooses tests means those, whatever their marks are.
        marked = () if wanted.alone else ("-m", "threads")
        suites.append(dataclasses.replace(suite, arguments=marked))
    if native:
        suites.append(native_suite())
    return suites


def _quick(release: releases.Release) -> list[Suite]:
    """The pure core, and a functional test for each line of defence and for records."""
    functional = native_suite() if release.native else eventlet_suites()[0]
    return [
        dataclasses.replace(functional, arguments=("-m", "quick"), shared=False),
        dataclasses.replace(core_suite(), arguments=()),
    ]


def _selected(wanted: Wanted) -> list[Suite]:
    kinds = wanted.kinds or ({"native"} if wanted.release.native else {"eventlet"})
    suites = [unit_suite(), real_suite()]
    suites += eventlet_suites() if "eventlet" in kinds else []
    suites += [native_suite()] if "native" in kinds else []
    suites += [page_suite(), packaging_suite(wanted.release), devstack_suite()]
    chosen = []
    for suite in suites:
        if tests := [test for test in wanted.tests if test.suite == suite.folder]:
            only = suite.only(tests)
            chosen.append(only.unshared() if wanted.alone else only)
    return chosen
