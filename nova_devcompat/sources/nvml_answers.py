# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What is made of NVML's answers, one of which stands in each line of JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from collections.abc import Callable, Mapping

from nova_devcompat.compat.device import Device, normalise_address
from nova_devcompat.kit.text import printed
from nova_devcompat.sources.base import SourceError

NO_LIBRARY = (
    "source 'nvml' needs nvidia-ml-py: install it beside nova-devcompat (pip install nvidia-ml-py)"
)

_LOOK = "try nvidia-smi, and look in dmesg"

# nvmlReturn_t
_NOT_SUPPORTED = 3
_NOT_FOUND = 6

_ADVICE = {
    2: "upgrade the driver or nvidia-ml-py",
    4: "let the user that nova-compute runs as open /dev/nvidia*",
    9: "load the driver (modprobe nvidia)",
    12: "install NVIDIA's driver, of which libnvidia-ml.so.1 is a part",
    13: "upgrade the driver, which cannot tell this",
    15: "look for Xid in dmesg; reset the GPU or boot the host anew",
    16: "reset the GPU or boot the host anew",
    17: "let the user that nova-compute runs as open /dev/nvidia*",
    18: "finish the upgrade of the driver: load the new module or boot the host anew",
}

_NEEDS_VGPU_DRIVER = "the host needs NVIDIA's driver for vGPU hosts (vGPU Manager)"

_NOT_SUPPORTED_ADVICE = {
    "vgpu_version": _NEEDS_VGPU_DRIVER,
    "vgpus": f"{_NEEDS_VGPU_DRIVER}, and the GPU must have vGPUs",
    "pgpu_metadata": f"{_NEEDS_VGPU_DRIVER}, and the GPU must have vGPUs",
}

# nvmlGpuVirtualizationMode_t
_VIRTUALIZATION_MODES = ("none", "passthrough", "vgpu", "host_vgpu", "host_vsga")

# nvmlEnableState_t
_STATES = ("disabled", "enabled")

# NVML_DEVICE_PCI_BUS_ID_FMT: eight digits of domain; the function is 0.
_BUS_ID = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]")

_MAX_GPUS = 256
_MAX_TEXT = 255


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What :mod:`nova_devcompat.sources.nvml_reader` wrote.

    :param lines: each an answer, in JSON
    :param ending: why there are no more, if there should be: ``crashed (SIGSEGV)``
    """

    lines: bytes
    ending: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What was made of it.

    :param devices: the GPUs, in NVML's order
    :param skipped: those of which nothing can be told, and why
    """

    devices: tuple[Device, ...]
    skipped: Mapping[str, str]


class NoAnswer(ValueError):
    """Why something is not known; the message says what to do.

    :param code: NVML's, where it gave one
    """

    def __init__(self, why: str, code: int | None = None) -> None:
        super().__init__(why)
        self.code = code


def parse(answers: Answers) -> Reading:
    """The GPUs that are in NVML's answers.

    What has an error for an answer, or none, is a problem of the attributes that come from it.

    :raises SourceError: nothing can be told
    """
    records = _Records(answers)
    if (None, "library") in records:
        raise SourceError(NO_LIBRARY)
    try:
        records.get("init")
        count = _integer(records.get("count"), 0, _MAX_GPUS)
    except NoAnswer as error:
        raise SourceError(f"source 'nvml' can tell nothing: {error}") from None
    devices: dict[str, Device] = {}
    skipped: dict[str, str] = {}
    for gpu in range(count):
        try:
            device = _device(records, gpu)
        except NoAnswer as error:
            skipped[f"GPU {gpu}"] = str(error)
            continue
        # With NVML_MPS_DEVICE_ENUMERATION=1 a GPU is listed several times.
        devices.setdefault(device.address, device)
    return Reading(devices=tuple(devices.values()), skipped=skipped)


class _Records:
    """The answers by what was asked."""

    def __init__(self, answers: Answers) -> None:
        self._records: dict[tuple[int | None, str], object] = {}
        for line in answers.lines.splitlines():
            # The last one is cut off where the process was ended.
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            match record:
                case {"gpu": int(gpu), "name": str(name)}:
                    self._records[gpu, name] = record
                case {"name": str(name)} if "gpu" not in record:
                    self._records[None, name] = record
        self._ending = answers.ending
        if self._ending is None and (None, "end") not in self:
            self._ending = "ended early"

    def __contains__(self, asked: object) -> bool:
        return asked in self._records

    def was_asked(self, name: str, gpu: int | None) -> bool:
        """Whether NVML was asked for something, or would have been had it not ended early."""
        return (gpu, name) in self or self._ending is not None

    def get(self, name: str, gpu: int | None = None) -> object:
        """What NVML answered.

        :raises NoAnswer: an error, or nothing
        """
        if (gpu, name) not in self:
            if self._ending is None:
                raise NoAnswer("NVML was not asked for it")
            raise NoAnswer(f"no answer: NVML {self._ending}; {_LOOK}")
        return _value(self._records[gpu, name], name)


def _value(answer: object, name: str) -> object:
    match answer:
        case {"value": value}:
            return value
        case {"error": {"code": int(code), "text": text}}:
            advice = _ADVICE.get(code, _LOOK)
            if code == _NOT_SUPPORTED:
                advice = _NOT_SUPPORTED_ADVICE.get(name, "the GPU does not have it")
            raise NoAnswer(f"NVML says {_shown(text)} (code {code}); {advice}", code)
        case {"error": {"text": text}}:
            raise NoAnswer(f"NVML cannot be asked: {_shown(text)}; upgrade nvidia-ml-py")
    raise _odd(answer)


def _device(records: _Records, gpu: int) -> Device:
    address, vendor_id, product_id = _pci(records.get("pci", gpu))
    attributes: dict[str, object] = {"vendor_id": vendor_id, "product_id": product_id}
    problems: dict[str, str] = {}
    for attribute, name, of_gpu, read in _ATTRIBUTES:
        of = gpu if of_gpu else None
        if attribute in _NOT_ASKED and not records.was_asked(name, of):
            attributes[attribute] = _NOT_ASKED[attribute]
            continue
        try:
            attributes[attribute] = read(records.get(name, of))
        except NoAnswer as error:
            if error.code == _NOT_SUPPORTED and attribute in _NONE:
                attributes[attribute] = _NONE[attribute]
            else:
                problems[attribute] = str(error)
    for attribute, read_vgpu in _OF_VGPUS:
        try:
            found, odd = _by_guest(records.get("vgpus", gpu), read_vgpu)
        except NoAnswer as error:
            problems[attribute] = str(error)
        else:
            attributes[attribute] = found
            if odd:
                problems[attribute] = "; ".join(odd)
    return Device(address, attributes, problems=problems)


def _pci(value: object) -> tuple[str, str, str]:
    match value:
        case [str(bus_id), int(combined)] if _BUS_ID.fullmatch(bus_id):
            address = normalise_address(bus_id)
            identity = _integer(combined, 0, 2**32 - 1)
            return address, f"{identity & 0xFFFF:04x}", f"{identity >> 16:04x}"
    raise _odd(value)


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value.strip()[:_MAX_TEXT]
    raise _odd(value)


def _virtualization_mode(value: object) -> str:
    return _VIRTUALIZATION_MODES[_integer(value, 0, len(_VIRTUALIZATION_MODES) - 1)]


def _ecc_mode(value: object) -> str:
    return _STATES[_ecc_modes(value)[0]]


def _ecc_mode_pending(value: object) -> str:
    return _STATES[_ecc_modes(value)[1]]


def _ecc_modes(value: object) -> tuple[int, int]:
    match value:
        case [current, pending]:
            return _integer(current, 0, 1), _integer(pending, 0, 1)
    raise _odd(value)


def _vgpu_version_supported(value: object) -> dict[str, str]:
    return _range(*_ranges(value)[0])


def _vgpu_version(value: object) -> dict[str, str]:
    supported, current = _ranges(value)
    # The driver refuses to be set to more than it supports (kvgpumgrSetHostVgpuVersion in
    # open-gpu-kernel-modules); to publish more by mistake would be the worse error.
    return _range(max(supported[0], current[0]), min(supported[1], current[1]))


def _ranges(value: object) -> tuple[tuple[int, int], tuple[int, int]]:
    match value:
        case [[low, high], [current_low, current_high]]:
            return (
                (_integer(low, 1, 2**32 - 1), _integer(high, 1, 2**32 - 1)),
                (_integer(current_low, 1, 2**32 - 1), _integer(current_high, 1, 2**32 - 1)),
            )
    raise _odd(value)


def _range(lowest: int, highest: int) -> dict[str, str]:
    if lowest > highest:
        raise NoAnswer(
            f"NVML gives an empty range, from {_version(lowest)} to {_version(highest)}; {_LOOK}"
        )
    return {"min": _version(lowest), "max": _version(highest)}


def _version(number: int) -> str:
    return f"{number >> 16:X}.{number & 0xFFFF:X}"


def _by_guest(
    value: object, read: Callable[[object], str | None]
) -> tuple[dict[str, str], list[str]]:
    """What metadata of vGPUs say, by UUID, and what is wrong with the other vGPUs."""
    if not isinstance(value, list):
        raise _odd(value)
    found: dict[str, set[str]] = {}
    odd = []
    for vgpu in value:
        try:
            said = read(_part(vgpu, "metadata"))
            if said is not None:
                found.setdefault(_vgpu_uuid(vgpu), set()).add(said)
        except NoAnswer as error:
            # A vGPU may go away while it is read.
            if error.code != _NOT_FOUND:
                instance = vgpu.get("instance") if isinstance(vgpu, dict) else None
                odd.append(f"vGPU instance {_shown(instance)}: {error}")
    for key in [key for key, several in found.items() if len(several) > 1]:
        odd.append(f"vGPUs of {key} have different versions: {', '.join(sorted(found.pop(key)))}")
    return {key: one.pop() for key, one in found.items()}, odd


def _part(vgpu: object, name: str) -> object:
    return _value(vgpu.get(name) if isinstance(vgpu, dict) else None, name)


def _guest_version(metadata: object) -> str | None:
    match metadata:
        case [int(state), int(version), *_]:
            # NVML_VGPU_INSTANCE_GUEST_INFO_STATE_UNINITIALIZED: the guest's driver is not loaded.
            if state == 0 or version == 0:
                return None
            return _version(_integer(version, 1, 2**32 - 1))
    raise _odd(metadata)


def _guest_migration(metadata: object) -> str | None:
    match metadata:
        case [int(), int()]:
            return None  # not told
        case [int(), int(), capabilities]:
            return _migration(capabilities)
    raise _odd(metadata)


def _vgpu_migration(value: object) -> str:
    match value:
        case {"pgpuVirtualizationCaps": capabilities}:
            return _migration(capabilities)
    raise _odd(value)


def _migration(capabilities: object) -> str:
    # nvml.h: bit 0 of both (NVML_VGPU_VIRTUALIZATION_CAP_MIGRATION).
    return str(_integer(capabilities, 0, 2**32 - 1) & 1)


def _enabled(value: object) -> str:
    return _STATES[_integer(value, 0, 1)]


def _mig_mode(value: object) -> str:
    match value:
        case [current, _]:
            return _enabled(current)
    raise _odd(value)


def _vgpu_uuid(vgpu: object) -> str:
    try:
        return _uuid(_part(vgpu, "mdev_uuid"))
    except NoAnswer as error:
        if error.code == _NOT_FOUND:
            raise
    # No mdev: vGPUs of an SR-IOV GPU under a vendor's own VFIO driver.
    match _part(vgpu, "vm_id"):
        case [identity, "uuid"]:
            return _uuid(identity)
    raise NoAnswer("has neither an mdev's nor a virtual machine's UUID")


def _uuid(value: object) -> str:
    # uuid.UUID takes more, in braces and without hyphens.
    if isinstance(value, str) and len(value) == 36:
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    raise _odd(value)


def _integer(value: object, lowest: int, highest: int) -> int:
    if type(value) is int and lowest <= value <= highest:
        return value
    raise _odd(value)


def _odd(value: object) -> NoAnswer:
    return NoAnswer(f"NVML's answer {_shown(value)} makes no sense; {_LOOK}")


def _shown(value: object) -> str:
    return printed(value, 80, str if isinstance(value, str) else repr)


# Attribute, answer, whether each GPU has its own answer, how to read it.
_ATTRIBUTES: tuple[tuple[str, str, bool, Callable[[object], object]], ...] = (
    ("driver_version", "driver_version", False, _text),
    ("virtualization_mode", "virtualization_mode", True, _virtualization_mode),
    ("vgpu_version", "vgpu_version", False, _vgpu_version),
    ("vgpu_version_supported", "vgpu_version", False, _vgpu_version_supported),
    ("ecc_mode", "ecc_mode", True, _ecc_mode),
    ("ecc_mode_pending", "ecc_mode", True, _ecc_mode_pending),
    ("vgpu_migration", "pgpu_metadata", True, _vgpu_migration),
    ("mig_mode", "mig_mode", True, _mig_mode),
    ("vgpu_heterogeneous_mode", "vgpu_heterogeneous_mode", True, _enabled),
    ("product_name", "product_name", True, _text),
)

# What a GPU that NVML does not support a call on has: nothing, which is a value too.
_NONE = dict.fromkeys(
    ("ecc_mode", "ecc_mode_pending", "mig_mode", "vgpu_heterogeneous_mode"), "none"
)

# What is taken of answers of a reader that did not ask: that of earlier releases, in recordings.
_NOT_ASKED = {"vgpu_migration": "1"}

# By guest: attribute, how to read it of the metadata of a vGPU.
_OF_VGPUS: tuple[tuple[str, Callable[[object], str | None]], ...] = (
    ("vgpu_negotiated", _guest_version),
    ("vgpu_instances_migration", _guest_migration),
)
