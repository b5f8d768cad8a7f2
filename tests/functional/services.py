# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Nova's API, conductor and scheduler, and placement: started once, lent to one test at a time.

Nova's test classes start them for each test. Here a process starts them when a test first asks
(:func:`lend`), keeps them, and puts them back to how they were when the test is over:

====================  ============================================================================
What                  How
====================  ============================================================================
computes, patches     the test's own fixtures, undone by its cleanups before anything else
tasks                 waited for, and the pools of threads ended
databases             copied back, page by page, from a copy taken after the start
options               overrides and defaults put back, as they were after the start
caches                emptied as Nova's ``TestCase.setUp`` does it (:mod:`tests.functional.reset`)
the scheduler's       every test has a HostManager of its own, so filters, weighers and what they
memory                keep are new, and of the test's options
messages, logs        thrown away
====================  ============================================================================

Then it is looked at what the test left behind (:mod:`tests.functional.leftovers`): threads, tasks
that do not end, functions and classes that are still patched, and, when the next test begins, rows
written since. A test that left something fails, and the services are started anew for the next.

Tests of a class that says why in ``Fleet.OWN_SERVICES`` start services of their own, as does
whatever is no :class:`~tests.functional.base.Fleet`: for these, conftest.py ends the lent ones
first. So do all tests on a Nova before 34, which has not what this relies on.

Services differ by what Nova's classes read at their start (:data:`_STARTED_WITH`); those of
another kind replace those that run.
"""

from __future__ import annotations

import copy
import gc
from typing import Any
from unittest import mock

import fixtures
import testtools
from nova import context as nova_context
from oslotest import timeout as oslotest_timeout
from testtools import content

from tests.functional import leftovers, older, reset

#: Class attributes that the services depend on.
_STARTED_WITH = (
    "NUMBER_OF_CELLS",
    "REQUIRES_LOCKING",
    "STUB_COMPUTE_ID",
    "STUB_KEYSTONE",
    "STUB_RPC",
    "USE_PROJECT_ID",
    "api_major_version",
)

#: What an instance of a test class keeps for itself.
_OWN = frozenset({"id"})

_running: Services | None = None


class Left(AssertionError):
    """A test left something behind."""


def why_own(fleet: Any) -> str:
    """Why a test starts services of its own, '' if it does not.

    :param fleet: the test, or its class
    """
    if older.NOVA < 34:
        return "Nova has no process-wide pools of threads before 34"
    reason: str = fleet.OWN_SERVICES
    return reason


def kind(fleet: Any) -> tuple[Any, ...]:
    """What tells services from others: tests of one kind can have the same."""
    return tuple(getattr(fleet, name) for name in _STARTED_WITH)


def lend(test: Any, root: type) -> None:
    """Give a test the services, until its cleanups have run.

    :param test: a fleet whose setUp has not been run
    :param root: the class to start the services of, which has no options of its own
    :raises Left: when something was written since the test before was over
    """
    global _running
    if _running is not None and _running.kind != kind(test):
        end()
    if _running is None:
        _running = Services(root, test)
    _running.lend(test)


def end() -> None:
    """Stop the services that run, if any do."""
    global _running
    if _running is not None:
        running, _running = _running, None
        running.stop()


class Services:
    """The services of one kind, and the state that tests find them in."""

    def __init__(self, root: Any, test: Any) -> None:
        self.kind = kind(test)
        attributes = {name: getattr(test, name) for name in _STARTED_WITH}
        # Tests set options and record what happens, when the services run.
        attributes["begin"] = lambda _holder: None
        self._holder = type("Services", (root,), attributes)("idle")
        self._borrower = "the start of the services"
        #: of mock, which are to stay where oslotest has those of a test stopped
        self._patches: list[Any] = []
        try:
            # A time-out is a test's, not that of services which go on after it.
            with fixtures.EnvironmentVariable("OS_TEST_TIMEOUT"):
                self._holder.bring_up()
            self._patches, mock._patch._active_patches[:] = mock._patch._active_patches[:], []
            self._options = reset.Options()
            self._databases = reset.Databases(self._holder.cell_mappings.values())
            self._watch = leftovers.Watch(self._busy_services())
            self._holder.notifier.reset()
            # All that there is now stays: it need not be looked at whenever garbage is collected.
            gc.collect()
            gc.freeze()
        except BaseException:
            self.stop()
            raise

    def lend(self, test: Any) -> None:
        """See :func:`lend`."""
        if written := self._databases.written():
            borrower = self._borrower
            end()
            raise Left(f"{borrower} is over, and since then something wrote to {written}")
        self._borrower = test.id()
        testtools.TestCase.setUp(test)
        test.useFixture(oslotest_timeout.Timeout())
        # Cleanups run in reverse: these when all that the test did is undone.
        test.addCleanup(test._clear_attrs)
        test.addCleanup(self._take_back, test)
        for name, value in vars(self._holder).items():
            if not name.startswith("_") and name not in _OWN:
                setattr(test, name, copy.copy(value) if isinstance(value, dict) else value)
        test._service_fixture_count = copy.copy(self._holder._service_fixture_count)
        self._lend_clients(test)
        test.context = test.ctxt = nova_context.get_admin_context()

    def _lend_clients(self, test: Any) -> None:
        """Clients of the API, with microversions of the test's own."""
        # Nova's helpers take them from the fixture.
        test.api_fixture = copy.copy(self._holder.api_fixture)
        test.admin_api = test.api_fixture.admin_api = copy.copy(test.api_fixture.admin_api)
        test.api_fixture.api = copy.copy(test.api_fixture.api)
        test.api = test.admin_api if test.ADMIN_API else test.api_fixture.api
        for client in (test.api, test.admin_api):
            client.microversion = test.microversion

    def _take_back(self, test: Any) -> None:
        """Put everything back to how it was, and give the test its log.

        :raises Left: when the test left something behind
        """
        left = []
        try:
            left += self._watch.left()
            self._options.restore()
            reset.caches()
            reset.messages()
            self._databases.restore()
            self._holder.notifier.reset()
            self._holder.pci_healing_fixture.calls.clear()
            test.addDetail("log", content.text_content(reset.log(self._holder.stdlog)))
        except BaseException:
            end()
            raise
        if left:
            end()
            raise Left(f"{self._borrower} left behind: " + "; ".join(left))

    def _busy_services(self) -> list[Any]:
        return [self._holder.conductor, self._holder.scheduler]

    def stop(self) -> None:
        """Stop them, and undo what their start did to the process."""
        gc.unfreeze()
        # Those that are not among the active ones could not be stopped.
        mock._patch._active_patches += self._patches
        self._holder.doCleanups()
