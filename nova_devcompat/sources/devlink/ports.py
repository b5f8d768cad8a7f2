# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What devlink says of the functions of a device: the ports that stand for them.

In switchdev mode a device has a port for each of its virtual functions
(Documentation/networking/devlink/devlink-port.rst). What a function may do is set there by whoever
hands it out, before its driver is bound; among it, whether it can be migrated.
"""

from __future__ import annotations

import dataclasses
import struct

from nova_devcompat.compat.device import Function
from nova_devcompat.sources.devlink.netlink import GENERIC_HEADER, HEADER, Garbled, walk
from nova_devcompat.sources.sysfs.files import PCI, CannotRead, Reader

#: DEVLINK_CMD_PORT_GET
CMD_PORT_GET = 5

# include/uapi/linux/devlink.h: enum devlink_attr, devlink_port_flavour, devlink_port_function_attr
# and devlink_port_fn_attr_cap.
_BUS_NAME, _DEV_NAME, _FLAVOUR = 1, 2, 77
_PF_NUMBER, _VF_NUMBER, _FUNCTION, _EXTERNAL = 127, 128, 145, 149
_FLAVOUR_PCI_VF = 4
_CAPS = 4
_MIGRATABLE = 1 << 1


@dataclasses.dataclass(frozen=True, slots=True)
class VfPort:
    """The port of a virtual function of this host.

    :param bus: of the device that has the port
    :param device: its name on the bus
    :param pf_number: function number of the physical function
    :param vf_number: of the virtual one, as sysfs numbers ``virtfn*``
    :param migratable: whether it can be migrated; None where the device does not have that choice
    """

    bus: str
    device: str
    pf_number: int
    vf_number: int
    migratable: bool | None


def parse_port(message: bytes) -> VfPort | None:
    """A port; None for one that is of no virtual function of this host.

    :param message: with its header
    :raises Garbled: it is no such answer, or not all of it
    """
    found = dict(walk(message[HEADER.size + GENERIC_HEADER :]))
    if _number(found, _FLAVOUR, "=H") != _FLAVOUR_PCI_VF or _number(found, _EXTERNAL, "=B"):
        return None
    pf_number, vf_number = _number(found, _PF_NUMBER, "=H"), _number(found, _VF_NUMBER, "=H")
    if pf_number is None or vf_number is None:
        raise Garbled("a port of a virtual function says of none")
    migratable = None
    caps = dict(walk(found.get(_FUNCTION, b""))).get(_CAPS)
    if caps is not None:
        # struct nla_bitfield32: the selector has the bits that the device has at all.
        value, selector = _unpack("=II", caps)
        migratable = bool(value & _MIGRATABLE) if selector & _MIGRATABLE else None
    return VfPort(
        _text(found, _BUS_NAME), _text(found, _DEV_NAME), pf_number, vf_number, migratable
    )


def functions_of(ports: list[VfPort], address: str, reader: Reader) -> dict[str, Function]:
    """What the ports of a PCI device say of its own functions, by address.

    :param address: of the device, as the kernel writes it
    """
    said = {"1": Function({"migratable": "1"}), "0": Function({"migratable": "0"})}
    found: dict[str, Function] = {}
    for port in ports:
        if (port.bus, port.device) != ("pci", address) or port.migratable is None:
            continue
        if str(port.pf_number) != address[-1]:
            continue  # of another physical function of the same board
        try:
            function = reader.link(f"{PCI}/{address}/virtfn{port.vf_number}")
        except CannotRead:
            continue
        if function is not None:
            found[function] = said["1" if port.migratable else "0"]
    return found


def _text(found: dict[int, bytes], kind: int) -> str:
    content = found.get(kind, b"")
    if not content.endswith(b"\0"):
        raise Garbled("a text is cut off")
    return content[:-1].decode(errors="replace")


def _number(found: dict[int, bytes], kind: int, form: str) -> int | None:
    content = found.get(kind)
    if content is None:
        return None
    number: int = _unpack(form, content)[0]
    return number


def _unpack(form: str, content: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack(form, content)
    except struct.error:
        raise Garbled("a number is cut off") from None
