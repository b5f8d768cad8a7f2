# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What real libvirt says of a domain and Nova's fake leaves out.

The fake parses a definition and writes a domain XML of its own, with a fixed machine type, no
memory backing and no PCI controllers. This keeps these parts, and does with them what libvirt does
when it takes a definition: it replaces an alias of a machine type by what it stands for here
(qemuDomainDefPostParse), and gives pcie-root-ports addresses, several of them in a slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fixtures
from lxml import etree
from nova.tests.fixtures import libvirt as fakelibvirt


class Domains(fixtures.Fixture):
    """Has all fake domains describe themselves in full.

    :ivar aliases: by host, machine types by their aliases
    :ivar says_multifunction: whether a domain defined from now on says so where ports share a slot
    """

    def __init__(self) -> None:
        self.aliases: dict[str, Mapping[str, str]] = {}
        self.says_multifunction = True
        #: The parts of each domain's definition.
        self._parts: dict[Any, dict[str, Any]] = {}

    def _setUp(self) -> None:
        parse, describe = fakelibvirt.Domain._parse_definition, fakelibvirt.Domain.XMLDesc

        def parse_definition(domain: Any, xml: Any) -> Any:
            domain._devcompat = self._taken(domain, etree.fromstring(xml))
            return parse(domain, xml)

        def xml_desc(domain: Any, flags: int) -> str:
            return self._described(domain._devcompat, etree.fromstring(describe(domain, flags)))

        for name, replacement in (("_parse_definition", parse_definition), ("XMLDesc", xml_desc)):
            self.useFixture(
                fixtures.MonkeyPatch(f"nova.tests.fixtures.libvirt.Domain.{name}", replacement)
            )

    def _taken(self, domain: Any, root: Any) -> dict[str, Any]:
        machine = root.find("os/type").get("machine")
        aliases = self.aliases.get(domain._connection.hostname, {})
        ports = [
            port
            for port in root.findall("devices/controller")
            if port.get("model") == "pcie-root-port"
        ]
        for function, port in enumerate(ports):
            if port.find("address") is None:
                address = etree.SubElement(port, "address", type="pci", domain="0x0000")
                address.set("bus", "0x00")
                address.set("slot", "0x02")
                address.set("function", f"{function:#x}")
                if not function and self.says_multifunction:
                    address.set("multifunction", "on")
        return {
            "machine": aliases.get(machine, machine),
            "backing": root.find("memoryBacking"),
            "ports": ports,
        }

    @staticmethod
    def _described(parts: Mapping[str, Any], root: Any) -> str:
        if parts["machine"]:
            root.find("os/type").set("machine", parts["machine"])
        if parts["backing"] is not None:
            root.insert(3, parts["backing"])
        root.find("devices").extend(parts["ports"])
        text = etree.tostring(root).decode()
        # An element has one parent, and these are needed again.
        for part in (parts["backing"], *parts["ports"]):
            if part is not None:
                part.getparent().remove(part)
        return text
