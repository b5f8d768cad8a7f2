# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What an operator asks before hosts are drained, with what the documentation shows of it."""

from __future__ import annotations

from tests.e2e.playground import Cloud
from tests.e2e.transcripts import check


def test_a_guest_that_is_stuck(cloud: Cloud) -> None:
    """Found, explained, mended and moved."""
    for host in ("cmp2", "cmp3", "cmp4"):
        cloud.set_versions(host, fw_version="28.37.1014")
    cloud.settle()
    guest = cloud.boot("guest", "vf", "cmp1")
    other = cloud.boot("other", "vgpu", "cmp1")
    check(cloud, "preflight-stuck")
    assert cloud.migrations(guest)[0]["status"] == "error"
    cloud.assert_placement({guest: ("vf", "cmp1"), other: ("vgpu", "cmp1")})

    cloud.set_versions("cmp2", fw_version="28.39.1002")
    cloud.settle()
    check(cloud, "preflight-mended")
    assert cloud.migrations(guest)[0]["status"] == "completed"
    cloud.assert_placement({guest: ("vf", "cmp2"), other: ("vgpu", "cmp1")})
