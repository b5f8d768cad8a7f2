# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Profiles of hypothesis, one for each budget of tests: see tests/budget.py."""

import os

from hypothesis import HealthCheck, settings

from tests import budget

# An import of Nova's API must not have eventlet patch a process of pytest-xdist, which then hangs.
# Can go when Nova 32 is no longer supported.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"

settings.register_profile(
    "usual",
    derandomize=True,
    max_examples=budget.EXAMPLES,
    deadline=None,
    # A world of hosts is a large example, and the machine that builds it may be slow.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "night",
    parent=settings.get_profile("usual"),
    derandomize=False,
    max_examples=budget.EXAMPLES * budget.NIGHTLY,
)
settings.load_profile(budget.NAME)
