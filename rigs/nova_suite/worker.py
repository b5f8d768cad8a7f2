# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Lists or runs tests in a process of its own; started by runner.py, in either environment.

It takes orders from stdin and reports to the file descriptor that it is given, each a line of
JSON. What tests print goes elsewhere. Nothing is imported at the top of this module but the
standard library: Nova's tests choose their concurrency backend first.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import pathlib
import pkgutil
import sys
import tempfile
import time
import unittest
from collections.abc import Iterable
from typing import Any

TESTS = "nova.tests.functional"


class Reporter:
    """Writes the lines that the runner reads."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", buffering=1)

    def tell(self, **what: object) -> None:
        self._stream.write(json.dumps(what) + "\n")


def make_result(reporter: Reporter, seam: Any) -> unittest.TestResult:
    """A result that tells each test's status when it has ended."""
    import testtools

    class Result(testtools.TestResult):  # type: ignore[misc]
        def startTest(self, test: Any) -> None:
            super().startTest(test)
            self._began = time.monotonic()
            self._status, self._why = "pass", ""
            if seam:
                seam.start_test(test.id())
            reporter.tell(started=test.id())

        def stopTest(self, test: Any) -> None:
            super().stopTest(test)
            reporter.tell(
                test=test.id(),
                status=self._status,
                why=self._why,
                seconds=round(time.monotonic() - self._began, 2),
                ours=seam.end_test() if seam else {},
            )

        def addError(self, test: Any, err: Any = None, details: Any = None) -> None:
            super().addError(test, err, details)
            self._ended(test, "fail", self.errors[-1][1])

        def addFailure(self, test: Any, err: Any = None, details: Any = None) -> None:
            super().addFailure(test, err, details)
            self._ended(test, "fail", self.failures[-1][1])

        def addSkip(self, test: Any, reason: Any = None, details: Any = None) -> None:
            super().addSkip(test, reason, details)
            if reason is None and details:
                reason = details["reason"].as_text()
            self._ended(test, "skip", reason or "")

        def addExpectedFailure(self, test: Any, err: Any = None, details: Any = None) -> None:
            super().addExpectedFailure(test, err, details)
            self._ended(test, "expected failure", "")

        def addUnexpectedSuccess(self, test: Any, details: Any = None) -> None:
            super().addUnexpectedSuccess(test, details)
            self._ended(test, "unexpected success", "")

        def _ended(self, test: Any, status: str, why: str) -> None:
            if not hasattr(test, "_testMethodName"):
                # unittest's stand-in for a class whose own setup failed.
                reporter.tell(test=test.id(), status=status, why=why, seconds=0, ours={})
            # A failed test may have a second word: its clean-up failed, too.
            elif self._status != "fail":
                self._status, self._why = status, why

    result: unittest.TestResult = Result()
    return result


def modules() -> list[str]:
    """The names of all modules with functional tests."""
    package = importlib.import_module(TESTS)
    found = pkgutil.walk_packages(package.__path__, f"{TESTS}.")
    return [one.name for one in found if one.name.rpartition(".")[2].startswith("test_")]


def tests_of(module: str) -> list[unittest.TestCase]:
    """The tests of a module, as unittest loads them: what scenarios make of them among these."""
    loader = unittest.TestLoader()
    found: list[unittest.TestCase] = []

    def gather(tests: Iterable[unittest.TestCase | unittest.TestSuite]) -> None:
        for one in tests:
            if isinstance(one, unittest.TestSuite):
                gather(one)
            else:
                found.append(one)

    gather(loader.loadTestsFromModule(importlib.import_module(module)))
    return found


def class_of(test: unittest.TestCase) -> str:
    return f"{type(test).__module__}.{type(test).__qualname__}"


def load_seam(reporter: Reporter) -> Any:
    """Put our driver and filter into what Nova's tests start."""
    spec = importlib.util.spec_from_file_location(
        "nova_suite_seam", pathlib.Path(__file__).with_name("seam.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tempfile.mkdtemp(prefix="seam-", dir=os.getcwd())
    seam = module.Seam(pathlib.Path(folder))
    reporter.tell(installed=seam.where())
    return seam


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=int, required=True, help="file descriptor")
    parser.add_argument("--ours", action="store_true", help="with nova-devcompat in it")
    arguments = parser.parse_args()
    reporter = Reporter(arguments.report)
    # Nova's package chooses the concurrency backend in its first statement.
    importlib.import_module(TESTS)
    seam = load_seam(reporter) if arguments.ours else None
    result = make_result(reporter, seam)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "modules":
            reporter.tell(modules=modules(), path=sys.path)
        elif order["do"] == "list":
            by_class: dict[str, list[str]] = {}
            for test in tests_of(order["module"]):
                by_class.setdefault(class_of(test), []).append(test.id())
            reporter.tell(classes=by_class)
        else:
            wanted = set(order["tests"])
            chosen = [one for one in tests_of(order["module"]) if one.id() in wanted]
            unittest.TestSuite(chosen).run(result)
            reporter.tell(done=True)


if __name__ == "__main__":
    main()
