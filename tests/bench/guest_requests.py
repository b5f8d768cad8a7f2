# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""What Nova's scheduler is asked for: guests without and with devices, pinned, and on the move."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from nova import context as nova_context
from nova import objects
from nova.compute import power_state, task_states, vm_states

from nova_devcompat import wire
from nova_devcompat.compat.need import DeviceNeed, Need
from tests.bench.nova_cloud import Cloud, Host

#: Some of the hosts accept it.
VERSION = "1.2"
GPU = {"resources:VGPU": "1"}


def flavor(extra_specs: Mapping[str, str]) -> objects.Flavor:
    """A small one, of which thousands fit."""
    return objects.Flavor(
        id=1,
        name="f",
        flavorid="f",
        memory_mb=64,
        vcpus=1,
        root_gb=1,
        ephemeral_gb=0,
        swap=0,
        rxtx_factor=1.0,
        vcpu_weight=0,
        disabled=False,
        is_public=True,
        extra_specs=dict(extra_specs),
    )


def request(
    cloud: Cloud, extra_specs: Mapping[str, str], of: str = "", ignore: tuple[str, ...] = ()
) -> objects.RequestSpec:
    """A request, as nova-conductor makes it.

    :param of: the guest's UUID, where there is one
    :param ignore: hosts that it is not to go to
    """
    number = of or str(uuid.uuid4())
    return objects.RequestSpec.from_components(
        cloud.context,
        number,
        objects.ImageMeta(properties=objects.ImageMetaProps()),
        flavor(extra_specs),
        None,
        objects.InstancePCIRequests(instance_uuid=number, requests=[]),
        {"ignore_hosts": list(ignore) or None},
        None,
        None,
        project_id="project",
        user_id="user",
    )


def moving_guest(cloud: Cloud, host: Host) -> str:
    """The UUID of a guest with a vGPU and a record, which is being live migrated off a host."""
    cell = next(one for one in cloud.cell_mappings.values() if not one.is_cell0())
    need = Need(
        devices=(
            DeviceNeed.of("gpu", {"version": [VERSION], "caps": ["migration"]}, slot="rc:VGPU"),
        )
    )
    with nova_context.target_cell(cloud.context, cell) as context:
        instance = objects.Instance(
            context,
            host=host.name,
            node=host.name,
            compute_id=1,
            project_id="project",
            user_id="user",
            vm_state=vm_states.ACTIVE,
            power_state=power_state.RUNNING,
            task_state=task_states.MIGRATING,
            flavor=flavor(GPU),
            system_metadata=dict(wire.dump_record(need)),
            pci_requests=objects.InstancePCIRequests(requests=[]),
        )
        instance.create()
    objects.InstanceMapping(
        cloud.context, instance_uuid=instance.uuid, project_id="project", cell_mapping=cell
    ).create()
    return str(instance.uuid)


def requests(cloud: Cloud, host: Host) -> dict[str, Any]:
    """Those that are measured, by name.

    :param host: which the guest on the move is on
    """
    pinned = {**GPU, "devcompat:gpu.version": VERSION}
    moving = moving_guest(cloud, host)
    return {
        "boot without devices": request(cloud, {}),
        "boot with a vGPU": request(cloud, GPU),
        "boot with a vGPU and a pin": request(cloud, pinned),
        "live migration with a vGPU": request(cloud, GPU, of=moving, ignore=(host.name,)),
    }
