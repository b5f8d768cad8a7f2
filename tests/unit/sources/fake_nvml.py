# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""An NVML library at the C-function seam, as nvidia-ml-py calls it.

Each function is a real C function pointer that takes and fills C memory, with the signature that
``nvml.h`` gives it; pointers are addresses. :func:`install` puts them where nvidia-ml-py keeps the
library that it has loaded. A program that runs :func:`main` is nvml_reader with such a library.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import runpy
import signal
import sys
import time
import types
from collections.abc import Callable
from ctypes import c_char, c_int, c_uint, c_void_p

import pynvml

from nova_devcompat.sources import nvml

SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18
UNKNOWN = 999

HOST_VGPU = 3


@dataclasses.dataclass(kw_only=True)
class Vgpu:
    """A running vGPU; without ``mdev`` one of a vendor's own VFIO driver."""

    instance: int
    mdev: str | None = None
    vm: str = "11111111-2222-3333-4444-555555555555"
    vm_id_type: int = 1
    initialized: int = 1
    version: int = 0x180001
    capabilities: int = 1


@dataclasses.dataclass(kw_only=True)
class Gpu:
    """A GPU; ``pci_id`` is its device and its vendor."""

    bus_id: str
    pci_id: int = 0x1EB810DE
    ecc: tuple[int, int] = (1, 1)
    mode: int = HOST_VGPU
    name: bytes = b"Tesla T4"
    caps: int = 1
    mig: tuple[int, int] | None = None
    heterogeneous: int | None = 0
    vgpus: list[Vgpu] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(kw_only=True)
class Library:
    """What the library answers.

    :param errors: codes by function, or by function and the GPU's index or the vGPU's instance
    :param missing: functions that this version does not have
    :param called: is told each function before it runs
    """

    gpus: list[Gpu] = dataclasses.field(default_factory=list)
    driver: bytes = b"550.144.02"
    supported: tuple[int, int] = (0x70001, 0x1A0001)
    current: tuple[int, int] | None = None
    errors: dict[object, int] = dataclasses.field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    called: Callable[[str], None] = lambda name: None
    initialized: int = 0

    def __post_init__(self) -> None:
        self.exported = types.SimpleNamespace()
        # GPUs' handles are the addresses of these.
        self._handles = [c_uint(index) for index in range(len(self.gpus))]
        self._strings: dict[int, ctypes.Array[c_char]] = {}
        for name, arguments in _SIGNATURES.items():
            if name not in self.missing:
                result = c_void_p if name == "nvmlErrorString" else c_int
                prototype = ctypes.CFUNCTYPE(result, *arguments)
                setattr(self.exported, name, prototype(self._function(name)))

    def _function(self, name: str) -> Callable[..., int]:
        function = getattr(self, f"_{name}")

        def call(*arguments: int) -> int:
            self.called(name)
            if name not in ("nvmlInitWithFlags", "nvmlErrorString") and not self.initialized:
                return UNINITIALIZED
            error = self.errors.get(name, SUCCESS)
            if not error and arguments:
                error = self.errors.get((name, self._subject(name, arguments[0])), SUCCESS)
            return error or function(*arguments)

        return call

    def _subject(self, name: str, argument: int | None) -> object:
        if name.startswith("nvmlVgpuInstance") or name == "nvmlDeviceGetHandleByIndex_v2":
            return argument
        if name.startswith("nvmlDeviceGet") and name != "nvmlDeviceGetCount_v2":
            return c_uint.from_address(argument or 0).value
        return None

    def _gpu(self, handle: int) -> Gpu:
        return self.gpus[c_uint.from_address(handle).value]

    def _vgpu(self, instance: int) -> Vgpu | None:
        found = [vgpu for gpu in self.gpus for vgpu in gpu.vgpus if vgpu.instance == instance]
        return found[0] if found else None

    def _nvmlInitWithFlags(self, flags: int) -> int:
        self.initialized += 1
        return SUCCESS

    def _nvmlShutdown(self) -> int:
        self.initialized -= 1
        return SUCCESS

    def _nvmlErrorString(self, code: int) -> int:
        string = self._strings.setdefault(
            code, ctypes.create_string_buffer(b"Error %d of the library" % code)
        )
        return ctypes.addressof(string)

    def _nvmlSystemGetDriverVersion(self, version: int, length: int) -> int:
        return _fill(version, length, self.driver)

    def _nvmlGetVgpuVersion(self, supported: int, current: int) -> int:
        _store(supported, *self.supported)
        _store(current, *(self.current or self.supported))
        return SUCCESS

    def _nvmlDeviceGetCount_v2(self, count: int) -> int:
        _store(count, len(self.gpus))
        return SUCCESS

    def _nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: int) -> int:
        c_void_p.from_address(handle).value = ctypes.addressof(self._handles[index])
        return SUCCESS

    def _nvmlDeviceGetPciInfo_v3(self, handle: int, info: int) -> int:
        gpu = self._gpu(handle)
        filled = pynvml.nvmlPciInfo_t.from_address(info)
        domain, bus, rest = gpu.bus_id.split(":")
        filled.busId = gpu.bus_id.encode()
        filled.busIdLegacy = f"{domain[-4:]}:{bus}:{rest}".encode()
        filled.domain, filled.bus = int(domain, 16), int(bus, 16)
        filled.device = int(rest.split(".")[0], 16)
        filled.pciDeviceId = gpu.pci_id
        return SUCCESS

    def _nvmlDeviceGetEccMode(self, handle: int, current: int, pending: int) -> int:
        ecc = self._gpu(handle).ecc
        _store(current, ecc[0])
        _store(pending, ecc[1])
        return SUCCESS

    def _nvmlDeviceGetVirtualizationMode(self, handle: int, mode: int) -> int:
        _store(mode, self._gpu(handle).mode)
        return SUCCESS

    def _nvmlDeviceGetActiveVgpus(self, handle: int, count: int, instances: int | None) -> int:
        vgpus = self._gpu(handle).vgpus
        room = c_uint.from_address(count).value
        _store(count, len(vgpus))
        if room < len(vgpus):
            return INSUFFICIENT_SIZE
        if vgpus and instances:
            _store(instances, *(vgpu.instance for vgpu in vgpus))
        return SUCCESS

    def _nvmlVgpuInstanceGetMdevUUID(self, instance: int, uuid: int, size: int) -> int:
        vgpu = self._vgpu(instance)
        if vgpu is None:
            return NOT_FOUND
        return NOT_SUPPORTED if vgpu.mdev is None else _fill(uuid, size, vgpu.mdev.encode())

    def _nvmlVgpuInstanceGetVmID(self, instance: int, vm: int, size: int, kind: int) -> int:
        vgpu = self._vgpu(instance)
        if vgpu is None:
            return NOT_FOUND
        _store(kind, vgpu.vm_id_type)
        return _fill(vm, size, vgpu.vm.encode())

    def _nvmlVgpuInstanceGetMetadata(self, instance: int, metadata: int, size: int) -> int:
        vgpu = self._vgpu(instance)
        if vgpu is None:
            return NOT_FOUND
        if not _has_room(size, pynvml.c_nvmlVgpuMetadata_t):
            return INSUFFICIENT_SIZE
        filled = pynvml.c_nvmlVgpuMetadata_t.from_address(metadata)
        filled.version, filled.revision = 2, 1
        filled.guestInfoState = vgpu.initialized
        filled.guestVgpuVersion = vgpu.version
        filled.hostDriverVersion = self.driver
        filled.vgpuVirtualizationCaps = vgpu.capabilities
        return SUCCESS

    def _nvmlDeviceGetVgpuMetadata(self, handle: int, metadata: int, size: int) -> int:
        if not _has_room(size, pynvml.c_nvmlVgpuPgpuMetadata_t):
            return INSUFFICIENT_SIZE
        filled = pynvml.c_nvmlVgpuPgpuMetadata_t.from_address(metadata)
        filled.version, filled.revision = 2, 1
        filled.hostDriverVersion = self.driver
        filled.pgpuVirtualizationCaps = self._gpu(handle).caps
        return SUCCESS

    def _nvmlDeviceGetMigMode(self, handle: int, current: int, pending: int) -> int:
        mig = self._gpu(handle).mig
        if mig is None:
            return NOT_SUPPORTED
        _store(current, mig[0])
        _store(pending, mig[1])
        return SUCCESS

    def _nvmlDeviceGetVgpuHeterogeneousMode(self, handle: int, mode: int) -> int:
        heterogeneous = self._gpu(handle).heterogeneous
        if heterogeneous is None:
            return NOT_SUPPORTED
        pynvml.c_nvmlVgpuHeterogeneousMode_v1_t.from_address(mode).mode = heterogeneous
        return SUCCESS

    def _nvmlDeviceGetName(self, handle: int, name: int, length: int) -> int:
        return _fill(name, length, self._gpu(handle).name)


_SIGNATURES: dict[str, tuple[type, ...]] = {
    "nvmlInitWithFlags": (c_uint,),
    "nvmlShutdown": (),
    "nvmlErrorString": (c_int,),
    "nvmlSystemGetDriverVersion": (c_void_p, c_uint),
    "nvmlGetVgpuVersion": (c_void_p, c_void_p),
    "nvmlDeviceGetCount_v2": (c_void_p,),
    "nvmlDeviceGetHandleByIndex_v2": (c_uint, c_void_p),
    "nvmlDeviceGetPciInfo_v3": (c_void_p, c_void_p),
    "nvmlDeviceGetEccMode": (c_void_p, c_void_p, c_void_p),
    "nvmlDeviceGetVirtualizationMode": (c_void_p, c_void_p),
    "nvmlDeviceGetActiveVgpus": (c_void_p, c_void_p, c_void_p),
    "nvmlVgpuInstanceGetMdevUUID": (c_uint, c_void_p, c_uint),
    "nvmlVgpuInstanceGetVmID": (c_uint, c_void_p, c_uint, c_void_p),
    "nvmlVgpuInstanceGetMetadata": (c_uint, c_void_p, c_void_p),
    "nvmlDeviceGetVgpuMetadata": (c_void_p, c_void_p, c_void_p),
    "nvmlDeviceGetMigMode": (c_void_p, c_void_p, c_void_p),
    "nvmlDeviceGetVgpuHeterogeneousMode": (c_void_p, c_void_p),
    "nvmlDeviceGetName": (c_void_p, c_void_p, c_uint),
}


def _has_room(size: int, kind: type[ctypes.Structure]) -> bool:
    """Whether a caller has room for a structure; how much it takes is stored where it said so."""
    needed = ctypes.sizeof(kind)
    room: int = c_uint.from_address(size).value
    _store(size, needed)
    return room >= needed


def _store(address: int, *values: int) -> None:
    (c_uint * len(values)).from_address(address)[:] = values


def _fill(address: int, size: int, value: bytes) -> int:
    if size <= len(value):
        return INSUFFICIENT_SIZE
    ctypes.memmove(address, value + b"\0", len(value) + 1)
    return SUCCESS


def install(library: Library) -> None:
    """Put the library where nvidia-ml-py keeps the one that it has loaded."""
    pynvml.nvmlLib = library.exported
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml._nvmlLib_refcount = 0


def uninstall() -> None:
    """Have nvidia-ml-py load its own again."""
    pynvml.nvmlLib = None
    pynvml._nvmlGetFunctionPointer_cache.clear()


def two_gpus() -> list[Gpu]:
    """A T4 with three guests, of which one is still booting, and an L40S without."""
    return [
        Gpu(
            bus_id="00000000:3B:00.0",
            vgpus=[
                Vgpu(instance=3251634213, mdev="4B20D080-1B54-4048-85B3-A6A62D165C01"),
                Vgpu(
                    instance=3251634214,
                    mdev="c5c5a5b1-34c8-4a58-a0d1-c4a1b0b7e1a2",
                    version=0x150001,
                ),
                Vgpu(
                    instance=3251634215,
                    mdev="7d0a3d4e-7c11-4a8a-8fc3-6d0f6f4ff0d1",
                    initialized=0,
                    version=0,
                    capabilities=0,
                ),
            ],
        ),
        Gpu(
            bus_id="00000000:AF:00.0",
            pci_id=0x26B910DE,
            ecc=(0, 1),
            name=b"NVIDIA L40S",
            caps=0,
            mig=(1, 0),
            heterogeneous=1,
        ),
    ]


def main(seconds: str, trouble: str = "", at: str = "", times: int = 1) -> None:
    """Be nvml_reader with :func:`two_gpus`.

    :param seconds: nvml_reader's argument
    :param trouble: ``crash``, ``hang``, ``print`` or ``exit``
    :param at: the function in which it comes
    :param times: at which call of it
    """
    left = times

    def called(name: str) -> None:
        nonlocal left
        if name != at:
            return
        left -= 1
        if left:
            return
        if trouble == "crash":
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        elif trouble == "hang":
            time.sleep(60)
        elif trouble == "exit":
            os._exit(7)
        elif trouble == "print":
            os.write(1, b'{"name": "count", "value": 77}\n')

    install(Library(gpus=two_gpus(), called=called))
    sys.argv = [nvml.COMMAND[-1], seconds]
    runpy.run_path(nvml.COMMAND[-1], run_name="__main__")


if __name__ == "__main__":
    *arguments, seconds = sys.argv[1:]
    main(seconds, *arguments[:2], *map(int, arguments[2:]))
