# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

# Installed as nova/virt/devcompat/__init__.py: Nova imports 'nova.virt.' + compute_driver, so
# this is what makes ``compute_driver = devcompat.DeviceCompatDriver`` work. No code belongs here.

from nova_devcompat.compute.driver import DeviceCompatDriver

__all__ = ["DeviceCompatDriver"]
