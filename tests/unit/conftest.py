# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Profiles of hypothesis: ``HYPOTHESIS_PROFILE=deep`` looks longer, and elsewhere each time."""

import os

from hypothesis import HealthCheck, settings

# An import of Nova's API must not have eventlet patch a process of pytest-xdist, which then hangs.
# Can go when Nova 32 is no longer supported.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"

settings.register_profile(
    "default",
    derandomize=True,
    max_examples=200,
    deadline=None,
    # A world of hosts is a large example, and the machine that builds it may be slow.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "deep", parent=settings.get_profile("default"), derandomize=False, max_examples=5000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
