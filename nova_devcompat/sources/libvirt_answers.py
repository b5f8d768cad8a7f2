# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is made of libvirt's answers: components of the host, and parents of mdevs."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nova_devcompat.compat.device import Device, normalise_address
from nova_devcompat.kit import xml
from nova_devcompat.kit.text import printed
from nova_devcompat.sources.base import SourceError

#: The addresses of the components.
LIBVIRT = "libvirt"
QEMU = "qemu"
QEMU_MACHINE = "qemu_machine"
HYPERVISOR = "hypervisor"

#: Longer than any answer: no message of libvirt's protocol is (VIR_NET_MESSAGE_MAX).
MAX_XML = 32 * 1024 * 1024

NO_LIBRARY = (
    "source 'libvirt' needs {}: install it beside nova-devcompat (the distribution's package, or "
    "pip install {})"
)

LOOK = "look in libvirt's log"

ADVICE = {
    "capabilities": "see that QEMU is installed, and look in libvirt's log",
    "node_devices": "see that libvirt's driver for node devices (virtnodedevd) runs",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer."""

    why: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What libvirt answered, or why it did not.

    :param lib_version: a number
    :param hypervisor_type: text
    :param version: a number
    :param capabilities: XML
    :param node_devices: XML by the names of node devices
    """

    lib_version: object
    hypervisor_type: object
    version: object
    capabilities: object
    node_devices: Mapping[str, object] | Failure


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What was made of it.

    :param devices: the components, then the parents of mdevs
    :param skipped: what of the host cannot be told, and why
    """

    devices: tuple[Device, ...]
    skipped: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MachineTypes:
    """The machine types of one architecture, or of all.

    :param names: canonical, sorted
    :param deprecated: some of these, sorted
    :param aliases: canonical names by alias
    """

    names: tuple[str, ...]
    deprecated: tuple[str, ...]
    aliases: Mapping[str, str]


class _NotKnown(ValueError):
    """Why something is not known; the message says what to do."""


def library(name: str, distribution: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SourceError(NO_LIBRARY.format(distribution, distribution)) from error


def parse(answers: Answers) -> Reading:
    """The devices that are in libvirt's answers.

    What cannot be read is a problem of the attributes that come from it.

    :raises SourceError: lxml is not installed
    """
    parents: dict[str, Device] = {}
    skipped: dict[str, str] = {}
    if isinstance(answers.node_devices, Failure):
        skipped["the list of parents of mdevs"] = answers.node_devices.why
    else:
        for name, description in answers.node_devices.items():
            try:
                device = parse_node_device(_text(description))
            except _NotKnown as error:
                skipped[f"node device {name}"] = str(error)
            else:
                parents.setdefault(device.address, device)
    ordered = [parents[address] for address in sorted(parents)]
    return Reading(devices=(*_components(answers), *ordered), skipped=skipped)


def _components(answers: Answers) -> Iterator[Device]:
    libvirt = _Component(LIBVIRT)
    libvirt.read(["libvirt_version"], lambda: [parse_version(answers.lib_version)])
    libvirt.read(["hypervisor_type"], lambda: [_text(answers.hypervisor_type)])
    libvirt.read(["hypervisor_version"], lambda: [parse_version(answers.version)])
    yield libvirt.device()
    # So that a rule for QEMU never decides on another hypervisor.
    if libvirt.attributes.get("hypervisor_type", "QEMU") != "QEMU":
        return
    qemu = _Component(QEMU)
    qemu.read(["qemu_version"], lambda: [parse_version(_of_qemu(answers.version, answers))])
    qemu.read(["libvirt_version"], lambda: [parse_version(answers.lib_version)])
    qemu.read(["architecture"], lambda: [_architecture(answers.capabilities)])
    yield qemu.device()
    machine = _Component(QEMU_MACHINE)
    machine.read(["qemu_version"], lambda: [parse_version(_of_qemu(answers.version, answers))])
    machine.read(
        ["machine_types", "machine_types_deprecated", "machine_aliases"],
        lambda: _machine_types(_of_qemu(answers.capabilities, answers)),
    )
    yield machine.device()
    both = _Component(HYPERVISOR)
    both.read(["libvirt_version"], lambda: [parse_version(answers.lib_version)])
    both.read(["qemu_version"], lambda: [parse_version(_of_qemu(answers.version, answers))])
    yield both.device()


def _of_qemu(answer: object, answers: Answers) -> object:
    """An answer, where the hypervisor is known to be QEMU."""
    _text(answers.hypervisor_type)
    return answer


class _Component:
    """Collects what is known of a component."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.attributes: dict[str, object] = {"component": name}
        self.problems: dict[str, str] = {}

    def read(self, names: Sequence[str], values: Callable[[], Sequence[object]]) -> None:
        try:
            self.attributes.update(zip(names, values(), strict=True))
        except _NotKnown as error:
            self.problems.update(dict.fromkeys(names, str(error)))

    def device(self) -> Device:
        return Device(self._name, self.attributes, problems=self.problems)


def _architecture(capabilities: object) -> str:
    """The host's own, as libvirt calls it: x86_64, aarch64, s390x."""
    return _host_architecture(_xml(_text(capabilities), "capabilities"))


def _host_architecture(root: Any) -> str:
    arch = _content(root, "host/cpu/arch")
    if arch is None:
        raise _NotKnown(f"libvirt does not tell the host's architecture; {LOOK}")
    return arch


def _machine_types(capabilities: object) -> tuple[object, ...]:
    found = parse_capabilities(_text(capabilities))
    return list(found.names), list(found.deprecated), dict(found.aliases)


def parse_version(number: object) -> str:
    """A version as libvirt packs it, ``major * 1,000,000 + minor * 1,000 + release``.

    :raises ValueError: it is none
    """
    if isinstance(number, Failure):
        raise _NotKnown(number.why)
    if type(number) is not int or not 0 < number < 2**63:
        raise _NotKnown(f"libvirt gives the version {shown(number)}, which is none; {LOOK}")
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def parse_capabilities(text: str) -> MachineTypes:
    """The machine types for guests of all architectures that a host has or emulates.

    :param text: what virConnectGetCapabilities returns
    :raises ValueError: those of the host's own are not in it, and why
    """
    root = _xml(text, "capabilities")
    arch = _host_architecture(root)
    own = _of_architecture(root, arch)
    if not own.names:
        raise _NotKnown(
            f"libvirt has no machine types for {shown(arch)}; {ADVICE['capabilities']}"
        )
    others = {found.get("name") for found in root.iterfind("guest/arch")} - {arch, None}
    return _together(own, [_of_architecture(root, str(other)) for other in sorted(others)])


def _together(own: MachineTypes, others: Sequence[MachineTypes]) -> MachineTypes:
    """The machine types of several architectures, of which names can mean unlike things."""
    names, deprecated = set(own.names), set(own.deprecated)
    meanings: dict[str, set[str]] = {}
    for one in (own, *others):
        for alias, canonical in one.aliases.items():
            meanings.setdefault(alias, set()).add(canonical)
        for name in one.names:
            meanings.setdefault(name, set()).add(name)
    for other in others:
        plain = {name for name in other.names if len(meanings[name]) == 1}
        names |= plain
        deprecated |= plain & set(other.deprecated)
    aliases = {
        alias: canonical
        for one in (own, *others)
        for alias, canonical in one.aliases.items()
        if len(meanings[alias]) == 1
    }
    return MachineTypes(
        names=tuple(sorted(names)),
        deprecated=tuple(sorted(deprecated)),
        aliases=dict(sorted(aliases.items())),
    )


def _of_architecture(root: Any, arch: str) -> MachineTypes:
    names: set[str] = set()
    deprecated: set[str] = set()
    aliases: dict[str, str] = {}
    for machine in _machines(root, arch):
        name = (machine.text or "").strip()
        canonical = (machine.get("canonical") or "").strip() or name
        if not name:
            continue
        names.add(canonical)
        if canonical != name:
            aliases[name] = canonical
        if machine.get("deprecated") == "yes":
            deprecated.add(canonical)
    return MachineTypes(
        names=tuple(sorted(names)),
        deprecated=tuple(sorted(deprecated)),
        aliases=dict(sorted(aliases.items())),
    )


def _machines(root: Any, arch: str) -> Iterator[Any]:
    for guest in root.iterfind("guest"):
        found = guest.find("arch")
        if _content(guest, "os_type") != "hvm" or found is None or found.get("name") != arch:
            continue
        # Where KVM has an emulator of its own, it has a list of its own.
        own = found.findall("domain[@type='kvm']/machine")
        yield from own or found.iterfind("machine")


def parse_node_device(text: str) -> Device:
    """A parent of mdevs.

    :param text: what virNodeDeviceGetXMLDesc returns
    :raises ValueError: it is none, and why
    """
    root = _xml(text, "device")
    name = _content(root, "name")
    capability = root.find("capability")
    if name is None or capability is None:
        raise _NotKnown(f"libvirt's description has no name or no capability; {LOOK}")
    types = capability.findall("capability[@type='mdev_types']/type")
    attributes: dict[str, object] = {}
    for attribute, tag in (("vendor_id", "vendor"), ("product_id", "product")):
        found = capability.find(tag)
        identity = _identity(found.get("id")) if found is not None else None
        if identity is not None:
            attributes[attribute] = identity
    driver = _content(root, "driver/name")
    if driver is not None:
        attributes["driver"] = driver
    by_id = {id_: kind for kind in types if (id_ := (kind.get("id") or "").strip())}
    attributes["mdev_type"] = sorted(by_id)
    for attribute, tag in (
        ("mdev_name", "name"),
        ("mdev_device_api", "deviceAPI"),
        ("mdev_available_instances", "availableInstances"),
    ):
        found = {id_: _content(kind, tag) for id_, kind in by_id.items()}
        attributes[attribute] = {id_: value for id_, value in found.items() if value is not None}
    return Device(normalise_address(name), attributes)


def _identity(text: str | None) -> str | None:
    try:
        number = int(text or "", 16)
    except ValueError:
        return None
    return f"{number:04x}" if 0 <= number <= 0xFFFF else None


def _content(element: Any, path: str) -> str | None:
    text = (element.findtext(path) or "").strip()
    return text or None


def _xml(text: str, tag: str) -> Any:
    library("lxml.etree", "lxml")
    try:
        return xml.parse(text, tag, MAX_XML)
    except ValueError as error:
        raise _NotKnown(f"libvirt's answer {error}; {LOOK}") from None


def _text(value: object) -> str:
    if isinstance(value, Failure):
        raise _NotKnown(value.why)
    if not isinstance(value, str) or not value.strip():
        raise _NotKnown(f"libvirt's answer {shown(value)} is no text; {LOOK}")
    return value


def shown(value: object) -> str:
    return printed(value, 200)
