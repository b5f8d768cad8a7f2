# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The recorded signatures of Nova's virt drivers are those of its wheels."""

import pytest

from rigs import driver_signatures

RECORDED = driver_signatures.recorded()


@pytest.mark.parametrize("series", RECORDED)
def test_a_wheel_has_what_is_recorded(series):
    """Of the very release that was recorded, so that it does not fail for what others publish."""
    recorded = RECORDED[series]
    try:
        found = driver_signatures.read_release(f"=={recorded['version']}")
    except driver_signatures.DownloadError as error:
        pytest.skip(f"no wheel, so nothing to compare with: {error}")
    assert found == recorded
