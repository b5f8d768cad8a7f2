# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Profiles of hypothesis, one for each budget of tests: see tests/budget.py; and the order."""

import gc
import importlib.metadata
import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests import budget, entry_points
from tests.conftest import shuffle

# An import of Nova's API must not have eventlet patch a process of pytest-xdist, which then hangs.
# Can go when Nova 32 is no longer supported.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"

# Garbage in cycles is little beside what a process keeps, Nova's modules above all, and to look
# for it takes a tenth of the time: it is left until there are tens of MB of it.
gc.set_threshold(1_000_000, 50, 1000)

#: Of values of so many characters or bytes pytest makes a test's name.
_LONGEST_NAME = 1_000

settings.register_profile(
    "usual",
    derandomize=True,
    max_examples=budget.EXAMPLES["usual"],
    deadline=None,
    # A world of hosts is a large example, and the machine that builds it may be slow.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "night",
    parent=settings.get_profile("usual"),
    derandomize=False,
    max_examples=budget.EXAMPLES["night"],
)
settings.register_profile(
    "small",
    parent=settings.get_profile("usual"),
    max_examples=budget.EXAMPLES["small"],
    # Whether a test fails is all that is asked, not by which input or how simple it can be.
    phases=[Phase.explicit, Phase.generate],
    database=None,
)
settings.load_profile(budget.NAME)


def pytest_collection_modifyitems(config, items):
    shuffle(config, items)


def pytest_make_parametrize_id(val):
    """A name for what is too long to be one.

    pytest-xdist sends the names of tests to and fro, and a value may have millions of characters.
    """
    if not isinstance(val, str | bytes) or len(val) <= _LONGEST_NAME:
        return None
    return f"{val[:40]!a} and so on, {len(val)} in all"


def pytest_collection_finish():
    # What is there by now stays: a test that has garbage collected need not wait for a look at it.
    gc.freeze()


def pytest_sessionfinish():
    # pytest collects garbage several times at the end of a process, and so does Python.
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _entry_points_found_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", entry_points.find_once)
        yield
