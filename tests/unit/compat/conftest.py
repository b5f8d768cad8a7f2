# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Coverage is of tests that say what they are about."""

import pathlib

import pytest

_HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """Trace no property of hypothesis.

    A line that only drawn inputs reach is tested today and not tomorrow, and to trace them takes
    most of the time.
    """
    # pytest-cov has its plugin when it measures.
    if not config.pluginmanager.hasplugin("_cov"):
        return
    for item in items:
        drawn = getattr(getattr(item, "function", None), "is_hypothesis_test", False)
        if drawn and item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.no_cover)
