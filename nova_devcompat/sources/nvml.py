# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The ``nvml`` source: NVIDIA's GPUs, and which vGPU versions their driver takes.

What a GPU has, each fact from the NVML call of that name (NVML API Reference Guide; ``nvml.h``):

- ``vendor_id``, ``product_id``: text of four hexadecimal digits, ``10de`` and ``1eb8``
  (nvmlDeviceGetPciInfo_v3, ``pciDeviceId``)
- ``driver_version``: text, ``550.144.02`` (nvmlSystemGetDriverVersion)
- ``virtualization_mode``: ``none``, ``passthrough``, ``vgpu``, ``host_vgpu`` or ``host_vsga``
  (nvmlDeviceGetVirtualizationMode); a GPU whose vGPUs can be assigned is ``host_vgpu``
- ``vgpu_version``: ``{min: '14.1', max: '1A.1'}``, the range that the driver advertises to guests:
  the one that an administrator has set (nvmlSetVgpuVersion), else all that the driver supports
  (nvmlGetVgpuVersion, ``current``)
- ``vgpu_version_supported``: of the same shape, what the driver supports (``supported``)
- ``vgpu_negotiated``: ``{uuid: version}``, what the driver and each running guest agreed on, by
  the UUID of the vGPU's mdev, or of its virtual machine where the vGPU is no mdev
  (nvmlDeviceGetActiveVgpus, nvmlVgpuInstanceGetMetadata: ``guestVgpuVersion``, which the driver
  fills from ``guestNegotiatedVgpuVersion``, see ctrla081.h of open-gpu-kernel-modules). It stays
  the same across migrations (``nvml.h``). A guest that has not loaded its driver has none
- ``ecc_mode``, ``ecc_mode_pending``: ``enabled`` or ``disabled``, now and from the next reset on;
  ``none`` for a GPU without ECC that can be switched (nvmlDeviceGetEccMode)
- ``vgpu_migration``: text, ``1`` where the driver can migrate the vGPUs of the GPU, ``0`` where it
  cannot, for one because its module was built for a kernel without what that takes
  (nvmlDeviceGetVgpuMetadata, bit 0 of ``pgpuVirtualizationCaps``,
  NVML_VGPU_PGPU_VIRTUALIZATION_CAP_MIGRATION)
- ``vgpu_instances_migration``: ``{uuid: '1' or '0'}``, the same of each vGPU that runs, by the
  UUIDs of ``vgpu_negotiated`` (nvmlVgpuInstanceGetMetadata, ``vgpuVirtualizationCaps``)
- ``mig_mode``: ``enabled`` or ``disabled``, ``none`` for a GPU without (nvmlDeviceGetMigMode)
- ``vgpu_heterogeneous_mode``: ``enabled`` or ``disabled``, whether the GPU has vGPUs of unlike
  sizes at a time, ``none`` for one that cannot (nvmlDeviceGetVgpuHeterogeneousMode)
- ``product_name``: text, ``NVIDIA L40S`` (nvmlDeviceGetName)

The versions of vGPU are ``major << 16 | minor`` (``vgpu_version.h`` of open-gpu-kernel-modules)
and written in hexadecimal, as NVIDIA does: a ``range`` rule with ``base: 16`` reads them. They are
the same for all GPUs of a host, and each has them.

NVML is asked by a process of its own, see :mod:`nova_devcompat.sources.nvml_reader`. It costs less
than 100 ms of CPU time a reading; in return nova-compute survives a fault in NVIDIA's library, has
the new library after an upgrade of the driver, and does not keep the driver from being unloaded.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import pathlib
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence

from nova_devcompat.compat.device import Device, normalise_address
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.kit.once import Once
from nova_devcompat.kit.text import printed
from nova_devcompat.sources.base import Source, SourceError, SourceOptions
from nova_devcompat.sources.calls import SourceCall

LOG = logging.getLogger(__name__)

#: How long NVML may take.
SECONDS = 5.0

#: The program that asks it. -P: its folder has modules that are named like libraries.
COMMAND = (
    sys.executable,
    "-P",
    str(pathlib.Path(__file__).with_name("nvml_reader.py")),
)

_NO_LIBRARY = (
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


class _NoAnswer(ValueError):
    """Why something is not known; the message says what to do.

    :param code: NVML's, where it gave one
    """

    def __init__(self, why: str, code: int | None = None) -> None:
        super().__init__(why)
        self.code = code


# Reading.


def ask(seconds: float = SECONDS, command: Sequence[str] = COMMAND) -> Answers:
    """Have a process of its own ask NVML.

    It ends itself by SIGALRM when its time is up: the exceptions of :mod:`subprocess` for that are
    other classes under eventlet's monkey patching.

    :param seconds: how long NVML may take
    :param command: the program; takes the seconds as its last argument
    :raises SourceError: it cannot be started
    """
    try:
        done = subprocess.run(
            [*command, str(seconds)], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except (OSError, ValueError) as error:
        raise SourceError(
            f"source 'nvml' cannot start {command[0]!r} to ask NVML: {error}"
        ) from error
    if done.stderr:
        LOG.debug("NVML's reader wrote: %s", done.stderr[-2000:].decode(errors="replace"))
    return Answers(lines=done.stdout, ending=_ending(done.returncode, seconds))


def _ending(returncode: int, seconds: float) -> str | None:
    if returncode == -signal.SIGALRM:
        return f"gave no answer within {seconds:g} s"
    if returncode >= 0:
        return f"ended with status {returncode}" if returncode else None
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"crashed ({name})"


# Parsing.


def parse(answers: Answers) -> Reading:
    """The GPUs that are in NVML's answers.

    What has an error for an answer, or none, is a problem of the attributes that come from it.

    :raises SourceError: nothing can be told
    """
    records = _Records(answers)
    if (None, "library") in records:
        raise SourceError(_NO_LIBRARY)
    try:
        records.get("init")
        count = _integer(records.get("count"), 0, _MAX_GPUS)
    except _NoAnswer as error:
        raise SourceError(f"source 'nvml' can tell nothing: {error}") from None
    devices: dict[str, Device] = {}
    skipped: dict[str, str] = {}
    for gpu in range(count):
        try:
            device = _device(records, gpu)
        except _NoAnswer as error:
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

        :raises _NoAnswer: an error, or nothing
        """
        if (gpu, name) not in self:
            if self._ending is None:
                raise _NoAnswer("NVML was not asked for it")
            raise _NoAnswer(f"no answer: NVML {self._ending}; {_LOOK}")
        return _value(self._records[gpu, name], name)


def _value(answer: object, name: str) -> object:
    match answer:
        case {"value": value}:
            return value
        case {"error": {"code": int(code), "text": text}}:
            advice = _ADVICE.get(code, _LOOK)
            if code == _NOT_SUPPORTED:
                advice = _NOT_SUPPORTED_ADVICE.get(name, "the GPU does not have it")
            raise _NoAnswer(f"NVML says {_shown(text)} (code {code}); {advice}", code)
        case {"error": {"text": text}}:
            raise _NoAnswer(f"NVML cannot be asked: {_shown(text)}; upgrade nvidia-ml-py")
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
        except _NoAnswer as error:
            if error.code == _NOT_SUPPORTED and attribute in _NONE:
                attributes[attribute] = _NONE[attribute]
            else:
                problems[attribute] = str(error)
    for attribute, read_vgpu in _OF_VGPUS:
        try:
            found, odd = _by_guest(records.get("vgpus", gpu), read_vgpu)
        except _NoAnswer as error:
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
        raise _NoAnswer(
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
        except _NoAnswer as error:
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
    except _NoAnswer as error:
        if error.code == _NOT_FOUND:
            raise
    # No mdev: vGPUs of an SR-IOV GPU under a vendor's own VFIO driver.
    match _part(vgpu, "vm_id"):
        case [identity, "uuid"]:
            return _uuid(identity)
    raise _NoAnswer("has neither an mdev's nor a virtual machine's UUID")


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


def _odd(value: object) -> _NoAnswer:
    return _NoAnswer(f"NVML's answer {_shown(value)} makes no sense; {_LOOK}")


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


class NvmlSource(Source):
    """Reads NVIDIA's GPUs.

    Nothing is kept from one reading to the next, so a driver that was reset, reloaded or upgraded
    in between needs no care. A GPU of which nothing can be told is left out, and logged once.

    :param options: of which nothing is used
    :param ask: asks NVML; must return within about :data:`SECONDS`
    """

    name = "nvml"
    attribute_types = {
        **dict.fromkeys(
            (
                "vendor_id",
                "product_id",
                "driver_version",
                "virtualization_mode",
                "ecc_mode",
                "ecc_mode_pending",
                "vgpu_migration",
                "mig_mode",
                "vgpu_heterogeneous_mode",
                "product_name",
            ),
            AttributeType.TEXT,
        ),
        "vgpu_version": AttributeType.RANGE,
        "vgpu_version_supported": AttributeType.RANGE,
        "vgpu_negotiated": AttributeType.MAPPING,
        "vgpu_instances_migration": AttributeType.MAPPING,
    }

    def __init__(self, options: SourceOptions, *, ask: Callable[[], Answers] = ask) -> None:
        super().__init__(options)
        self._ask = ask
        # A process that hangs in the driver outlives even SIGKILL.
        self._bounded = SourceCall(self.name, SECONDS + 1)
        self._once = Once(f"Source {self.name}")

    def check(self) -> None:
        """Look for nvidia-ml-py.

        Whether a driver is loaded is not looked at: one catalog serves hosts with and without
        GPUs, and a driver may be loaded later.

        :raises SourceError: it is not installed
        """
        if importlib.util.find_spec("pynvml") is None:
            raise SourceError(_NO_LIBRARY)

    def read(self, host: str) -> Sequence[Device]:
        """The GPUs of this host, whatever name it is given.

        :raises SourceError: NVML cannot be asked at all
        """
        reading = parse(self._bounded.call(self._ask))
        self._once.update(reading.skipped)
        return reading.devices
