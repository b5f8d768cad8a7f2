# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Asks NVML what the ``nvml`` source wants to know; a program of its own.

It runs outside of nova-compute, and anew for each reading, because

- a fault in NVIDIA's library, or a call that never returns, ends this process and not
  nova-compute;
- a library that is loaded stays loaded: after an upgrade of the driver a long-lived process has
  the old one, and NVML answers NVML_ERROR_LIB_RM_VERSION_MISMATCH until that process restarts;
- a process that has initialised NVML holds ``/dev/nvidiactl`` open, and the kernel refuses to
  unload the driver while one does.

It writes a line of JSON for each answer as it gets it, so that what was answered before a hang or
a fault is not lost: ``{"gpu": 0, "name": "ecc_mode", "value": [1, 1]}``. Where NVML returned an
error, ``error`` stands for ``value``: ``{"code": 3, "text": "Not Supported"}``; the code is null
for what is no error of NVML's. A line without ``gpu`` is about the host. The last one is
``{"name": "end"}``.

Nothing of nova_devcompat is imported here: that would triple the time this takes.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

#: ``write(name, answer, gpu)``; None for what is about the host.
Write = Callable[[str, Mapping[str, object], "int | None"], None]

# A host has some tens at most; a broken library may say anything.
_MAX_GPUS = 256


def collect(nvml: Any, write: Write) -> None:
    """Ask for everything once.

    :param nvml: the module ``pynvml`` of nvidia-ml-py
    :param write: is handed each answer, see the module's docstring
    """

    def ask(name: str, gpu: int | None, function: str, *arguments: object) -> Any:
        answered = answer(_call, nvml, function, *arguments)
        write(name, answered, gpu)
        return answered.get("value")

    started = answer(_call, nvml, "nvmlInit")
    write("init", started, None)
    if "error" in started:
        return
    count = ask("count", None, "nvmlDeviceGetCount")
    ask("driver_version", None, "nvmlSystemGetDriverVersion")
    # For all GPUs of the host: [[min, max] that the driver supports, [min, max] now in force].
    ask("vgpu_version", None, "nvmlGetVgpuVersion")
    handles = {}
    for gpu in range(min(count or 0, _MAX_GPUS)):
        found = answer(_call, nvml, "nvmlDeviceGetHandleByIndex", gpu)
        if "value" in found:
            handles[gpu] = found["value"]
            found = answer(_pci, nvml, handles[gpu])
        write("pci", found, gpu)
    for gpu, handle in handles.items():
        ask("virtualization_mode", gpu, "nvmlDeviceGetVirtualizationMode", handle)
        ask("ecc_mode", gpu, "nvmlDeviceGetEccMode", handle)
        write("vgpus", answer(_vgpus, nvml, handle), gpu)
        write("pgpu_metadata", answer(_pgpu_metadata, nvml, handle), gpu)
        ask("mig_mode", gpu, "nvmlDeviceGetMigMode", handle)
        ask("vgpu_heterogeneous_mode", gpu, "nvmlDeviceGetVgpuHeterogeneousMode", handle)
        write("product_name", answer(_name, nvml, handle), gpu)
    answer(_call, nvml, "nvmlShutdown")


def _call(nvml: Any, function: str, *arguments: object) -> Any:
    return getattr(nvml, function)(*arguments)


def _pci(nvml: Any, handle: object) -> list[object]:
    info = nvml.nvmlDeviceGetPciInfo(handle)
    return [text(info.busId), info.pciDeviceId]


def _name(nvml: Any, handle: object) -> object:
    return text(nvml.nvmlDeviceGetName(handle))


def _pgpu_metadata(nvml: Any, handle: object) -> dict[str, object]:
    metadata = nvml.nvmlDeviceGetVgpuMetadata(handle)
    return {"pgpuVirtualizationCaps": metadata.pgpuVirtualizationCaps}


def _vgpus(nvml: Any, handle: object) -> list[dict[str, object]]:
    return [
        {
            "instance": vgpu,
            "mdev_uuid": answer(_call, nvml, "nvmlVgpuInstanceGetMdevUUID", vgpu),
            "vm_id": answer(_vm_id, nvml, vgpu),
            "metadata": answer(_metadata, nvml, vgpu),
        }
        for vgpu in nvml.nvmlDeviceGetActiveVgpus(handle)
    ]


def _vm_id(nvml: Any, vgpu: int) -> list[object]:
    identity, kind = nvml.nvmlVgpuInstanceGetVmID(vgpu)
    return [text(identity), "uuid" if kind == nvml.NVML_VGPU_VM_ID_UUID else "domain_id"]


def _metadata(nvml: Any, vgpu: int) -> list[object]:
    metadata = nvml.nvmlVgpuInstanceGetMetadata(vgpu)
    return [metadata.guestInfoState, metadata.guestVgpuVersion, metadata.vgpuVirtualizationCaps]


def answer(function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    """What a function returns, or the error that it raises."""
    try:
        return {"value": function(*arguments)}
    except Exception as error:  # noqa: BLE001  nvidia-ml-py raises what its ctypes calls do, too
        return failure(error)


def failure(error: Exception) -> dict[str, Any]:
    """An error as it is written."""
    code = getattr(error, "value", None)
    if type(code) is int:
        return {"error": {"code": code, "text": str(error)}}
    return {"error": {"code": None, "text": f"{type(error).__name__}: {error}"}}


def text(value: object) -> object:
    """Text that older versions of nvidia-ml-py leave as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def line(name: str, answered: Mapping[str, object], gpu: int | None) -> str:
    """The line for an answer."""
    record: dict[str, object] = {} if gpu is None else {"gpu": gpu}
    return json.dumps({**record, "name": name, **answered}, default=str) + "\n"


def main(seconds: float) -> None:
    # A call of the library can be ended by a signal only where Python does not handle it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # What the library itself prints must not come between the lines.
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)

        def write(name: str, answered: Mapping[str, object], gpu: int | None) -> None:
            output.write(line(name, answered, gpu))
            output.flush()

        library = answer(importlib.import_module, "pynvml")
        if "value" in library:
            collect(library["value"], write)
        else:
            write("library", library, None)
        write("end", {}, None)


if __name__ == "__main__":
    main(float(sys.argv[1]))
