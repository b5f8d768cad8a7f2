# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Fifty live migrations in a row across a mixed fleet, with nova-devcompat and without it.

What came of them is written to ``reports`` in the cloud's folder. The scheduler is never told
where to: it chooses among four hosts, some of which do not fit.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.playground import Cloud, fits

pytestmark = pytest.mark.slow

COUNT = 50
FLAVORS = ("vf", "vgpu", "vf-vgpu", "vf", "vf-vgpu")


def fifty(cloud: Cloud, name: str) -> dict[str, Any]:
    """Run them.

    :returns: how many of what
    """
    born_on = cloud.versions("cmp1")
    servers = [
        (cloud.boot(f"fifty{number}", flavor, "cmp1"), flavor)
        for number, flavor in enumerate(FLAVORS)
    ]
    expected = {server: (flavor, "cmp1") for server, flavor in servers}
    report: dict[str, Any] = {"name": name, "migrations": 0, "completed": 0, "failed": 0}
    report |= {"attempts": 0, "unfit_tried": 0, "unfit_landed": 0}
    begin = time.monotonic()
    for number in range(COUNT):
        server, flavor = servers[number % len(servers)]
        moved = cloud.live_migrate(server)
        unfit = [h for h in moved.tried if not fits(flavor, born_on, cloud.versions(h))]
        report["migrations"] += 1
        report["completed" if moved.moved else "failed"] += 1
        report["attempts"] += len(moved.tried)
        report["unfit_tried"] += len(unfit)
        report["unfit_landed"] += not fits(flavor, born_on, cloud.versions(moved.host))
        assert cloud.show(server)["status"] == "ACTIVE"
        expected[server] = (flavor, moved.host)
        if number % 10 == 9:
            cloud.assert_placement(expected)
    report["seconds"] = round(time.monotonic() - begin, 1)
    report["attempts_per_success"] = round(report["attempts"] / max(report["completed"], 1), 2)
    path = cloud.data / f"reports/fifty-{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    return report


def test_with_nova_devcompat(cloud: Cloud) -> None:
    logs = cloud.logs()
    report = fifty(cloud, "devcompat")
    assert report["completed"] == COUNT
    assert report["attempts_per_success"] == 1.00
    assert report["unfit_tried"] == report["unfit_landed"] == 0
    assert not logs.lines("nova-compute-*", "did not survive stop-and-copy")
    assert not logs.lines("nova-compute-*", "Live migration to this host refused")
    assert not logs.lines("nova-*", " ERROR nova_devcompat")


@pytest.mark.parametrize("stock", ["stop-and-copy", "pre-check"], indirect=True)
def test_with_stock_nova(stock: Cloud) -> None:
    """The same fifty, on hardware that notices when the guest is stopped, or just before."""
    unfit = stock.chosen().unfit
    report = fifty(stock, f"stock-{unfit}")
    # Otherwise there would be nothing to mend.
    assert report["unfit_tried"] > 0
    assert report["unfit_landed"] == 0
    if unfit == "stop-and-copy":
        assert report["failed"] == report["unfit_tried"]
    else:
        assert report["attempts"] > report["completed"]
