# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The order of the tests, and the end of the services that are lent to them.

The longest come first, so that no process is left alone with one of them at the end. Then those
that can have the same services follow one another; what is lent no services comes last. Any other
order will do as well: ``--random-order SEED`` shows it.
"""

import re
import sys

import pytest

from tests.conftest import shuffle


def pytest_addoption(parser):
    parser.addoption(
        "--share",
        metavar="I/N",
        type=_share,
        default=(1, 1),
        help="run the I-th of N shares only. For eventlet, where pytest-xdist cannot share out: "
        "execnet, which it talks through, started its threads before Nova patches them.",
    )


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, *_services(item)))
    seed = shuffle(config, items)
    if seed is not None and "tests.functional.hosts" in sys.modules:
        sys.modules["tests.functional.hosts"].SEED = seed
    number, shares = config.getoption("share")
    others = [item for place, item in enumerate(items) if place % shares != number - 1]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = items[number - 1 :: shares]


def _services(item):
    """A key by which those that can have the same services come together."""
    if not is_lent(item):
        return 1, ""
    return 0, repr(sys.modules["tests.functional.services"].kind(item.cls))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Stop Nova's services that run in this process before a test that is not lent them."""
    services = sys.modules.get("tests.functional.services")
    if services is not None and not is_lent(item):
        services.end()


def pytest_sessionfinish():
    services = sys.modules.get("tests.functional.services")
    if services is not None:
        services.end()


def is_lent(item):
    """Whether a test is one of a Fleet that shares Nova's services with others."""
    base = sys.modules.get("tests.functional.base")
    services = sys.modules.get("tests.functional.services")
    return bool(
        base and item.cls and issubclass(item.cls, base.Fleet) and not services.why_own(item.cls)
    )


def _share(text):
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise pytest.UsageError(f"--share={text}: give it as 1/2 or 2/2, for example")
    return int(found[1]), int(found[2])
