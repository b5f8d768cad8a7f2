# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What the page about host families shows, on the hosts that it is about."""

from __future__ import annotations

from tests.e2e.transcripts import check
from tests.libvirt.hosts import Cloud, trait


def test_the_page(cloud: Cloud) -> None:
    check(cloud, "libvirt-moves")
    (server,) = cloud.servers()
    machine = cloud.machine_type(server)
    with cloud.lacking("cmp2", machine):
        cloud.wait_for_trait("cmp2", trait(machine), there=False)
        check(cloud, "libvirt-refused")
    cloud.wait_for_trait("cmp2", trait(machine), there=True)
