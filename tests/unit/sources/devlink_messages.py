# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Messages of the kernel's devlink, octet by octet, and a kernel that sends them.

Layout: include/uapi/linux/netlink.h, genetlink.h and devlink.h. Written without pyroute2, which is
what they test. Which versions a driver reports is from its file in
Documentation/networking/devlink; values are made up in the shape that the driver prints.
"""

from __future__ import annotations

import errno
import struct
import threading

FAMILY = 0x15
ERROR, DONE = 2, 3
MULTI, DUMP_INTERRUPTED = 0x2, 0x10
GET, NEW, INFO_GET = 1, 3, 51
BUS_NAME, DEV_NAME = 1, 2
DRIVER, SERIAL, FIXED, RUNNING, STORED, NAME, VALUE, BOARD_SERIAL = (
    98,
    99,
    100,
    101,
    102,
    103,
    104,
    146,
)
RELOAD_FAILED = 136


def attribute(kind: int, content: bytes) -> bytes:
    length = 4 + len(content)
    return struct.pack("=HH", length, kind) + content + bytes(-length % 4)


def text(kind: int, value: str | bytes) -> bytes:
    return attribute(kind, (value.encode() if isinstance(value, str) else value) + b"\0")


def version(kind: int, name: str | bytes, value: str | bytes) -> bytes:
    return attribute(kind, text(NAME, name) + text(VALUE, value))


def header(length: int, kind: int, flags: int = 0, sequence: int = 0, port: int = 4242) -> bytes:
    return struct.pack("=IHHII", 16 + length, kind, flags, sequence, port)


def message(kind: int, body: bytes, flags: int = 0, sequence: int = 0) -> bytes:
    whole = header(len(body), kind, flags, sequence) + body
    return whole + bytes(-len(whole) % 4)


def done(code: int = 0, sequence: int = 0) -> bytes:
    return message(DONE, struct.pack("=i", -code), MULTI, sequence)


def failure(code: int, request: bytes, sequence: int = 0) -> bytes:
    return message(ERROR, struct.pack("=i", -code) + request[:16], 0, sequence)


def handle(name: str) -> bytes:
    bus, device = name.split("/", 1)
    return text(BUS_NAME, bus) + text(DEV_NAME, device)


# drivers/net/ethernet/mellanox/mlx5/core/devlink.c, mlx5_devlink_info_get()
def mlx5(running: str = "22.39.1002", stored: str | None = None) -> bytes:
    return (
        version(FIXED, "fw.psid", "MT_0000000359")
        + version(RUNNING, "fw.version", running)
        + version(RUNNING, "fw", running)
        + version(STORED, "fw.version", stored or running)
        + version(STORED, "fw", stored or running)
        + text(DRIVER, "mlx5_core")
    )


# drivers/net/ethernet/intel/ice/devlink/devlink.c and Documentation/networking/devlink/ice.rst
ICE = (
    text(SERIAL, "00-01-00-ff-ff-00-00-00")
    + version(FIXED, "board.id", "K65390-000")
    + version(FIXED, "cgu.id", "36")
    + version(RUNNING, "fw.mgmt", "2.1.7")
    + version(RUNNING, "fw.mgmt.api", "1.5.1")
    + version(RUNNING, "fw.mgmt.build", "0x305d955f")
    + version(RUNNING, "fw.undi", "1.2581.0")
    + version(RUNNING, "fw.psid.api", "0.80")
    + version(RUNNING, "fw.bundle_id", "0x80002ec0")
    + version(RUNNING, "fw.app.name", "ICE OS Default Package")
    + version(RUNNING, "fw.app", "1.3.1.0")
    + version(RUNNING, "fw.app.bundle_id", "0xc0000001")
    + version(RUNNING, "fw.netlist", "1.1.2000-6.7.0")
    + version(STORED, "fw.undi", "1.2581.0")
    + version(STORED, "fw.psid.api", "0.80")
    + version(STORED, "fw.bundle_id", "0x80002ec0")
    + version(STORED, "fw.netlist", "1.1.2000-6.7.0")
    + text(DRIVER, "ice")
)

# drivers/net/ethernet/amd/pds_core/devlink.c
PDS = (
    version(RUNNING, "fw", "1.68.0-8")
    + version(STORED, "fw.goldfw", "1.60.0")
    + version(STORED, "fw.mainfwa", "1.68.0-8")
    + version(STORED, "fw.mainfwb", "1.68.0-7")
    + version(FIXED, "asic.id", "0x0")
    + version(FIXED, "asic.rev", "0x0")
    + text(SERIAL, "FLM18420073")
    + text(DRIVER, "pds_core")
)

# A whole answer as an mlx5 host sends it to the request with sequence number 2: one message and
# the end of the dump. Octets, so that it cannot change with the functions above.
RECORDED_MLX5 = bytes.fromhex(
    # length, type 0x15, flags MULTI, sequence 2, port; command 51, version 1
    "e4000000 1500 0200 02000000 92100000 33 01 0000"
    # bus name, device name
    "0800 0100 70636900  1100 0200 303030303a38313a30302e3000 000000"
    # fixed: fw.psid MT_0000000359
    "2400 6400 0c00 6700 66772e7073696400  1200 6800 4d545f3030303030303033353900 0000"
    # running: fw.version 22.39.1002
    "2400 6500 0f00 6700 66772e76657273696f6e00 00  0f00 6800 32322e33392e3130303200 00"
    # running: fw 22.39.1002
    "1c00 6500 0700 6700 667700 00  0f00 6800 32322e33392e3130303200 00"
    # stored: fw.version 22.41.1000
    "2400 6600 0f00 6700 66772e76657273696f6e00 00  0f00 6800 32322e34312e3130303000 00"
    # stored: fw 22.41.1000
    "1c00 6600 0700 6700 667700 00  0f00 6800 32322e34312e3130303000 00"
    # driver: mlx5_core
    "0e00 6200 6d6c78355f636f726500 0000"
    # the end: length 20, type DONE, flags MULTI, sequence 2, port, no error
    "14000000 0300 0200 02000000 92100000 00000000"
)


PORT_GET, PORT_NEW = 5, 7
PORT_INDEX, PORT_FLAVOUR, PF_NUMBER, VF_NUMBER, PORT_FUNCTION, EXTERNAL = 3, 77, 127, 128, 145, 149
PCI_PF_PORT, PCI_VF_PORT = 3, 4


def port(
    name: str,
    number: int,
    *,
    flavour: int = PCI_VF_PORT,
    pf: int = 0,
    external: int = 0,
    caps: tuple[int, int] | None = (0b10, 0b11),
) -> bytes:
    """A port as net/devlink/port.c, devlink_nl_port_fill() writes it.

    :param caps: value and selector of the function's capabilities
    """
    function = attribute(1, bytes(6))
    if caps is not None:
        function += attribute(4, struct.pack("=II", *caps))
    return (
        handle(name)
        + attribute(PORT_INDEX, struct.pack("=I", number))
        + attribute(PORT_FLAVOUR, struct.pack("=H", flavour))
        + attribute(PF_NUMBER, struct.pack("=H", pf))
        + attribute(VF_NUMBER, struct.pack("=H", number))
        + attribute(EXTERNAL, struct.pack("=B", external))
        + attribute(PORT_FUNCTION | 0x8000, function)
    )


class Kernel:
    """Answers as devlink does, over as many sockets as are opened.

    :param devices: attributes by handle, after those of the handle itself
    """

    def __init__(self, devices: dict[str, bytes] | None = None) -> None:
        self.devices = dict(devices or {})
        #: bodies of ports
        self.ports: list[bytes] = []
        self.family: int | None = FAMILY
        #: errno by handle: the driver's info_get fails
        self.failing: dict[str, int] = {}
        #: handles of which the lock is held, as it is while firmware is flashed
        self.locked: set[str] = set()
        self.unlocked = threading.Event()
        #: errno for every request
        self.refuses = 0
        #: applied to each datagram
        self.spoil = lambda data: data
        #: how many messages go into a datagram
        self.batch = 2
        self.requests: list[tuple[int, str | None]] = []
        self.opened = self.closed = 0

    def connect(self) -> Socket:
        self.opened += 1
        return Socket(self)

    def answer(self, request: bytes) -> list[bytes]:
        length, kind, flags, sequence, _port = struct.unpack_from("=IHHII", request)
        assert length == len(request)
        command = request[16]
        found = {}
        at = 20
        while at < length:
            size, attr = struct.unpack_from("=HH", request, at)
            found[attr] = request[at + 4 : at + size].rstrip(b"\0").decode()
            at += (size + 3) & ~3
        if kind == 0x10:  # the controller, CTRL_CMD_GETFAMILY
            assert command == 3 and found[2] == "devlink"
            if self.family is None:
                return [failure(errno.ENOENT, request, sequence)]
            body = struct.pack("=BBH", 1, 2, 0) + text(2, "devlink")
            body += attribute(1, struct.pack("=H", self.family))
            body += attribute(3, struct.pack("=I", 1)) + attribute(5, struct.pack("=I", 193))
            return [message(0x10, body, 0, sequence)]
        assert kind == self.family
        name = f"{found[BUS_NAME]}/{found[DEV_NAME]}" if found else None
        self.requests.append((command, name))
        if self.refuses:
            return [failure(self.refuses, request, sequence)]
        if name is not None:
            if name not in self.devices:
                return [failure(errno.ENODEV, request, sequence)]
            self.lock(name)
            if self.failing.get(name):
                return [failure(self.failing[name], request, sequence)]
            return [self.one(command, name, 0, sequence)]
        assert flags & 0x300
        messages, code = [], 0
        if command == PORT_GET:
            body = struct.pack("=BBH", PORT_NEW, 1, 0)
            messages = [message(self.family, body + each, MULTI, sequence) for each in self.ports]
        for each in self.devices if command != PORT_GET else ():
            self.lock(each)
            if command == INFO_GET and self.failing.get(each):
                code = self.failing[each]
                break
            messages.append(self.one(command, each, MULTI, sequence))
        messages.append(done(code, sequence))
        return [
            b"".join(messages[start : start + self.batch])
            for start in range(0, len(messages), self.batch)
        ]

    def lock(self, name: str) -> None:
        if name in self.locked:
            self.unlocked.wait(30)

    def one(self, command: int, name: str, flags: int, sequence: int) -> bytes:
        body = handle(name)
        if command == INFO_GET:
            body += self.devices[name]
            answer = INFO_GET
        else:
            body += attribute(RELOAD_FAILED, b"\0")
            answer = NEW
        return message(self.family or 0, struct.pack("=BBH", answer, 1, 0) + body, flags, sequence)


class Socket:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.queue: list[bytes] = []
        self.timeout: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        assert seconds is None or seconds > 0
        self.timeout = seconds

    def send(self, data: bytes) -> int:
        # A kernel works in the caller's send(): __netlink_dump_start() and genl_rcv().
        self.queue += [self.kernel.spoil(part) for part in self.kernel.answer(data)]
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self.queue:
            raise TimeoutError("timed out")
        data = self.queue.pop(0)
        assert len(data) <= size
        return data

    def close(self) -> None:
        self.kernel.closed += 1
