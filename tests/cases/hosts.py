# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Hosts as cases have them, read by the project's own sources.

Only what is beneath the sources is pretended: a tree of files in place of sysfs, netlink messages
in place of devlink, answers in place of NVML and of libvirt.
"""

from __future__ import annotations

import errno
import json
import pathlib
import struct
from collections.abc import Mapping
from typing import Any
from xml.sax import saxutils

import yaml

from nova_devcompat.catalog.keeper import CatalogKeeper
from nova_devcompat.host.devices import HostDevices
from nova_devcompat.host.inventory import HostReader
from nova_devcompat.sources import Source, SourceError, SourceOptions, registered
from nova_devcompat.sources.devlink import DevlinkSource
from nova_devcompat.sources.libvirt import LibvirtSource
from nova_devcompat.sources.nvml import NvmlSource
from nova_devcompat.sources.nvml_answers import Answers
from nova_devcompat.sources.static import StaticSource
from nova_devcompat.sources.sysfs import SysfsSource
from tests.cases.reading import BadCase, Case, keys, listed, mapped
from tests.unit.sources import devlink_messages
from tests.unit.sources.sysfs_trees import Tree


class Machine:
    """One host of a case.

    :param case: whose files it names
    :param stated: what each of its sources reads
    :param place: where that stands in the case
    :param folder: an empty one, of its own
    :param claimed: the address that the guest has or would get there, and that of its parent
    """

    def __init__(
        self,
        case: Case,
        stated: Mapping[str, Any],
        place: str,
        folder: pathlib.Path,
        claimed: tuple[str | None, str | None] = (None, None),
    ) -> None:
        self._case = case
        self._stated = stated
        self._place = place
        self._tree = _tree(stated.get("sysfs"), f"{place}.sysfs", folder / "sys", claimed)
        self._kernel = _kernel(self._file_or_mapping("devlink"), f"{place}.devlink")
        self._inventory = folder / "inventory.yaml"
        self._libvirt = stated.get("libvirt")
        if "libvirt" in stated:
            self._libvirt = Connection(case, keys("libvirt", self._libvirt, f"{place}.libvirt"))
        self._nvml = self._nvml_lines() if "nvml" in stated else None
        self._add_gpus()
        if "static" in stated:
            devices = listed(stated["static"], f"{place}.static")
            content = {
                "meta": {"schema_version": "1.0"},
                "hosts": {"host": {"devices": devices}},
            }
            self._inventory.write_text(yaml.safe_dump(content))

    def read(self, keeper: CatalogKeeper) -> HostDevices:
        """Its devices, as nova-compute would read them."""
        options = SourceOptions(
            inventory=self._inventory if "static" in self._stated else None,
            sysfs_root=str(self._tree.root),
        )
        return HostReader(keeper, options, load=self._source).read("host")

    def parent_of(self, address: str) -> str | None:
        """The physical function of a virtual one; None for other devices."""
        link = self._tree.root / self._tree.folder(address) / "physfn"
        return link.resolve().name if link.is_symlink() else None

    def _source(self, name: str, options: SourceOptions) -> Source:
        match name:
            case "sysfs":
                return SysfsSource(options, root=self._tree.root)
            case "devlink":
                return DevlinkSource(options, connect=self._kernel.connect, root=self._tree.root)
            case "static":
                return StaticSource(options)
            case "libvirt" if self._libvirt is not None:
                return LibvirtSource(options, connect=lambda: self._libvirt)
            case "nvml" if self._nvml is not None:
                return NvmlSource(options, ask=lambda: Answers(lines=self._nvml))
            case "libvirt" | "nvml":
                raise SourceError(f"the host has no {name}")
        return registered().load(name)(options)

    def _add_gpus(self) -> None:
        """Have sysfs list the GPUs that NVML does, as any host has it; a case may say more."""
        try:
            gpus = self._source("nvml", SourceOptions()).read("host")
        except SourceError:
            return
        for gpu in gpus:
            if (self._tree.root / self._tree.folder(gpu.address)).exists():
                continue
            self._tree.pci(
                gpu.address,
                vendor=str(gpu.attributes["vendor_id"]),
                device=str(gpu.attributes["product_id"]),
                class_="030200",
                driver="nvidia",
            )

    def _nvml_lines(self) -> bytes:
        stated = self._stated["nvml"]
        if isinstance(stated, str):
            text = self._case.text(stated)
            return "".join(f"{line}\n" for line in text.splitlines() if line.strip()).encode()
        answers = listed(stated, f"{self._place}.nvml")
        return "".join(json.dumps(answer) + "\n" for answer in answers).encode()

    def _file_or_mapping(self, key: str) -> object:
        stated = self._stated.get(key)
        if not isinstance(stated, str):
            return stated
        try:
            return json.loads(self._case.text(stated))
        except ValueError as error:
            raise BadCase(f"{self._place}.{key}: {stated}: {error}") from error


# --- sysfs ---------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """What stands in a file: YAML reads ``8086`` as a number."""
    return f"{value:04d}" if type(value) is int else str(value)


def _tree(
    stated: object, place: str, root: pathlib.Path, claimed: tuple[str | None, str | None]
) -> Tree:
    content = keys("sysfs", stated, place)
    root.mkdir()
    tree = Tree(root)
    for index, one in enumerate(listed(content.get("modules"), f"{place}.modules")):
        _module(tree, keys("module", one, f"{place}.modules[{index}]"))
    for index, one in enumerate(listed(content.get("devices"), f"{place}.devices")):
        at = f"{place}.devices[{index}]"
        device = keys("pci", one, at)
        if "address" not in device:
            raise BadCase(f"{at}: address is missing")
        _pci(tree, device, at, claimed[0] if claimed[1] == device["address"] else None)
    return tree


def _module(tree: Tree, stated: Mapping[str, Any]) -> None:
    facts = {name: stated[name] for name in ("version", "srcversion") if name in stated}
    tree.module(stated["name"], **facts)
    for held in stated.get("holds") or ():
        tree.module(held)
        tree.holder(stated["name"], held)


def _pci(tree: Tree, stated: Mapping[str, Any], place: str, claimed: str | None) -> None:
    address = stated["address"]
    facts: dict[str, Any] = {
        name: _text(stated[name])
        for name in ("vendor", "device", "revision", "driver", "vf_device")
        if stated.get(name) is not None
    }
    if "class" in stated:
        facts["class_"] = _text(stated["class"])
    if "totalvfs" in stated:
        facts["totalvfs"] = stated["totalvfs"]
    elif stated.get("vfs"):
        facts["totalvfs"] = keys("vfs", stated["vfs"], f"{place}.vfs").get("count", 0)
    if "subsystem" in stated:
        facts["subsystem"] = tuple(map(_text, stated["subsystem"]))
    tree.pci(address, **facts)
    _write(tree, address, mapped(stated.get("files"), f"{place}.files"))
    if stated.get("vfs") is not None:
        functions = keys("vfs", stated["vfs"], f"{place}.vfs")
        _functions(tree, address, functions, f"{place}.vfs", claimed)
    if stated.get("mdev_types"):
        tree.mdev_types(address, mapped(stated["mdev_types"], f"{place}.mdev_types"))


def _offset(parent: str, count: int, claimed: str | None) -> int:
    """How far the first function is from its parent, which every device decides for itself.

    :param claimed: the address of a function; where eight would leave it out, it is the first
    """
    distance = 8 if claimed is None else _number(claimed) - _number(parent)
    return distance if 0 < distance < 256 and not 8 <= distance < 8 + count else 8


def _number(address: str) -> int:
    bus, slot = address.split(":")[-2:]
    return int(bus, 16) * 256 + int(slot[:2], 16) * 8 + int(slot[3:])


def _functions(
    tree: Tree, parent: str, stated: Mapping[str, Any], place: str, claimed: str | None
) -> None:
    each = mapped(stated.get("each"), f"{place}.each")
    drivers = mapped(stated.get("drivers"), f"{place}.drivers")
    count, driver = int(stated.get("count", 0)), stated.get("driver")
    made = tree.functions(parent, count, driver=driver, offset=_offset(parent, count, claimed))
    for name in (*each, *drivers):
        if name not in map(str, range(len(made))):
            raise BadCase(f"{place}: there is no function {name}")
    for index, address in enumerate(made):
        _write(tree, address, mapped(stated.get("files"), f"{place}.files"))
        _write(tree, address, mapped(each.get(str(index)), f"{place}.each.{index}"))
        if str(index) in drivers:
            tree.bind(address, drivers[str(index)])


def _write(tree: Tree, address: str, files: Mapping[str, Any]) -> None:
    for path, text in files.items():
        tree.write(f"{tree.folder(address)}/{path}", str(text))


# --- devlink -------------------------------------------------------------------------------------


class _Kernel(devlink_messages.Kernel):
    """As net/devlink/dev.c, devlink_nl_info_get_dumpit: a dump passes over devices whose driver
    answers EOPNOTSUPP."""

    def answer(self, request: bytes) -> list[bytes]:
        _, kind, flags, _, _ = struct.unpack_from("=IHHII", request)
        if kind != self.family or not flags & 0x300:
            return super().answer(request)
        whole = self.devices
        if request[16] == devlink_messages.INFO_GET:
            self.devices = {
                name: body
                for name, body in whole.items()
                if self.failing.get(name) != errno.EOPNOTSUPP
            }
        try:
            return super().answer(request)
        finally:
            self.devices = whole


def _kernel(stated: object, place: str) -> _Kernel:
    handles = mapped(keys("devlink", stated, place).get("info"), f"{place}.info")
    kernel = _Kernel({name: _info(info, f"{place}.info.{name}") for name, info in handles.items()})
    kernel.failing = {name: errno.EOPNOTSUPP for name, info in handles.items() if info is None}
    return kernel


_VERSIONS = {
    "fixed": devlink_messages.FIXED,
    "running": devlink_messages.RUNNING,
    "stored": devlink_messages.STORED,
}
_TEXTS = {
    "driver": devlink_messages.DRIVER,
    "serial_number": devlink_messages.SERIAL,
    "board.serial_number": devlink_messages.BOARD_SERIAL,
}


def _info(stated: object, place: str) -> bytes:
    """What ``devlink -j dev info`` says of a device, as the kernel sends it."""
    body = b""
    for key, value in mapped(stated, place).items():
        if key in _TEXTS:
            body += devlink_messages.text(_TEXTS[key], str(value))
            continue
        if key != "versions":
            raise BadCase(f"{place}: unknown key {key!r}")
        for group, versions in mapped(value, f"{place}.versions").items():
            if group not in _VERSIONS:
                raise BadCase(f"{place}.versions: unknown key {group!r}")
            for name, version in mapped(versions, f"{place}.versions.{group}").items():
                body += devlink_messages.version(_VERSIONS[group], name, str(version))
    return body


# --- libvirt -------------------------------------------------------------------------------------


class Connection:
    """A ``virConnect``: what the libvirt source calls, answered from a case."""

    def __init__(self, case: Case, stated: Mapping[str, Any]) -> None:
        self._case = case
        self._stated = stated

    # The names are libvirt's.
    def getLibVersion(self) -> object:
        return self._stated["lib_version"]

    def getType(self) -> object:
        return self._stated.get("type", "QEMU")

    def getVersion(self) -> object:
        return self._stated["version"]

    def getCapabilities(self) -> str:
        if "capabilities" in self._stated:
            return self._case.text(self._stated["capabilities"])
        return capabilities(
            self._stated.get("arch", "x86_64"), listed(self._stated.get("machines"), "machines")
        )

    def listAllDevices(self, flags: int) -> list[NodeDevice]:
        named = mapped(self._stated.get("nodedevs"), "nodedevs")
        return [NodeDevice(name, self._case.text(file)) for name, file in named.items()]

    def close(self) -> int:
        return 0


class NodeDevice:
    """A ``virNodeDevice``."""

    def __init__(self, name: str, description: str) -> None:
        self._name = name
        self._description = description

    def name(self) -> str:
        return self._name

    def XMLDesc(self, flags: int = 0) -> str:
        return self._description


def capabilities(arch: str, machines: list[Any]) -> str:
    """What virConnectGetCapabilities says of a host whose guests are of one architecture.

    :param machines: canonical names, and ``{alias: canonical name}``
    """
    named = [("", one) if isinstance(one, str) else next(iter(one.items())) for one in machines]
    rows = []
    for alias, canonical in named:
        if alias:
            stands = saxutils.quoteattr(str(canonical))
            rows.append(f"<machine canonical={stands}>{saxutils.escape(str(alias))}</machine>")
        else:
            rows.append(f"<machine>{saxutils.escape(str(canonical))}</machine>")
    return (
        f"<capabilities><host><cpu><arch>{arch}</arch></cpu></host>"
        f"<guest><os_type>hvm</os_type><arch name='{arch}'>{''.join(rows)}"
        "<domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>"
    )
