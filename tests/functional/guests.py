# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Guests, made through Nova's API."""

from collections.abc import Mapping
from typing import Any

from nova import objects

#: An image that Nova's GlanceFixture has.
IMAGE = "155d900f-4e14-4e4c-a73d-069cbf4541e6"

#: As the API shows it.
Server = Mapping[str, Any]


class Guests:
    """What a fleet does with its guests, but for live migrations."""

    def boot(
        self,
        host: str | None = None,
        extra_specs: Mapping[str, str] | None = None,
        *,
        flavor: str | None = None,
        networks: Any = "none",
        expect: str = "ACTIVE",
    ) -> dict[str, Any]:
        """Create a server and wait for it.

        :param host: where; the scheduler still checks that it fits. None: it chooses.
        :param extra_specs: of a flavor made for this server
        :param flavor: ID of a flavor that there is already
        :param networks: 'none', 'auto' or a list such as ``[{'port': uuid}]``
        :param expect: the status that is waited for
        :returns: the server, as the API shows it; with ``fault`` if it is in ERROR
        """
        flavor = flavor or self.make_flavor(extra_specs)
        body = self._build_server(image_uuid=IMAGE, flavor_id=flavor, networks=networks, host=host)
        server = self.api.post_server({"server": body})

        def arrived() -> dict[str, Any] | None:
            # It is saved a dozen times meanwhile, and to ask the API takes longer than that.
            if self.progress.is_under_way(server["id"]):
                return None
            now = self.api.get_server(server["id"])
            if now["status"] == "ERROR" != expect:
                self.fail(f"server went to ERROR: {now.get('fault', {}).get('message')}")
            # Nova sets ERROR before it records the fault.
            settled = not now["OS-EXT-STS:task_state"] and (expect != "ERROR" or "fault" in now)
            return now if now["status"] == expect and settled else None

        found: dict[str, Any] = self.progress.wait_until(arrived, f"server to be {expect}")
        return found

    def make_flavor(self, extra_specs: Mapping[str, str] | None = None) -> str:
        """Create a flavor, so small that hosts run out of devices first.

        :returns: its ID
        """
        flavor: str = self._create_flavor(
            vcpu=1, memory_mb=256, disk=1, ephemeral=0, extra_spec=dict(extra_specs or {})
        )
        return flavor

    def instance(self, server: Server) -> Any:
        """The server's Instance object with its system_metadata, fresh from the database."""
        return objects.Instance.get_by_uuid(
            self.context,
            server["id"],
            expected_attrs=["system_metadata", "pci_devices", "pci_requests", "flavor"],
        )

    def host_of(self, server: Server) -> str:
        """Name of the host that a server is on."""
        host: str = self.api.get_server(server["id"])["OS-EXT-SRV-ATTR:host"]
        return host
