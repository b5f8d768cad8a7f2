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

import importlib.util
import logging
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from nova_devcompat.compat.device import Device
from nova_devcompat.compat.types import AttributeType
from nova_devcompat.kit.once import Once
from nova_devcompat.sources.base import Listing, Source, SourceError, SourceOptions
from nova_devcompat.sources.calls import SourceCall
from nova_devcompat.sources.nvml_answers import NO_LIBRARY, Answers, parse

LOG = logging.getLogger(__name__)

#: The program that asks it. -P: its folder has modules that are named like libraries.
COMMAND = (
    sys.executable,
    "-P",
    str(pathlib.Path(__file__).with_name("nvml_reader.py")),
)


def ask(seconds: float, command: Sequence[str] = COMMAND) -> Answers:
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


class NvmlSource(Source):
    """Reads NVIDIA's GPUs.

    Nothing is kept from one reading to the next, so a driver that was reset, reloaded or upgraded
    in between needs no care. A GPU of which nothing can be told is left out, and logged once.

    :param options: of which the time is used
    :param ask: asks NVML; must return within about ``options.seconds``. None for :func:`ask`
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

    def __init__(
        self, options: SourceOptions, *, ask: Callable[[], Answers] | None = None
    ) -> None:
        super().__init__(options)
        self._ask = ask or self._ask_nvml
        # A process that hangs in the driver outlives even SIGKILL.
        self._bounded = SourceCall(self.name, options.seconds + 1)
        self._once = Once(f"Source {self.name}")

    def check(self) -> None:
        """Look for nvidia-ml-py.

        Whether a driver is loaded is not looked at: one catalog serves hosts with and without
        GPUs, and a driver may be loaded later.

        :raises SourceError: it is not installed
        """
        if importlib.util.find_spec("pynvml") is None:
            raise SourceError(NO_LIBRARY)

    def read(self, host: str) -> Sequence[Device]:
        """The GPUs of this host, whatever name it is given.

        :raises SourceError: NVML cannot be asked at all
        """
        reading = parse(self._bounded.call(self._ask))
        self._once.update(reading.skipped)
        return Listing(reading.devices, reading.skipped)

    def _ask_nvml(self) -> Answers:
        return ask(self.options.seconds)
