# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""Compute hosts with a real libvirtd and QEMU, each in namespaces of its own on this machine."""
