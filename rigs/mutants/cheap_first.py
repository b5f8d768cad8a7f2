# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""A plugin of pytest, in a folder of mutants: the tests that may fail soonest come first.

mutmut names each test that runs a mutant's function, and pytest looks for each by itself, which
takes longer than most tests. So it is given their files, and leaves out what was not named.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import is_hypothesis_test

_NAMED = pytest.StashKey[frozenset[str]]()


def pytest_configure(config: pytest.Config) -> None:
    named = frozenset(argument for argument in config.args if "::" in argument)
    config.stash[_NAMED] = named
    if named:
        config.args = sorted({argument.partition("::")[0] for argument in named})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = config.stash[_NAMED]
    if named:
        items[:] = [item for item in items if item.nodeid in named]
    # nova_devcompat.compat.ruling.x_rule__mutmut_1
    module = os.environ.get("MUTANT_UNDER_TEST", "").rpartition(".")[0].rpartition(".")[2]

    def cost(item: pytest.Item) -> tuple[bool, bool]:
        drawn = is_hypothesis_test(getattr(item, "function", None))
        return drawn, item.path.stem != f"test_{module}"

    items.sort(key=cost)
