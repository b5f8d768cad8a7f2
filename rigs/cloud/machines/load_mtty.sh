#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# load_mtty.sh MODULES VERSION: load a version of mtty in place of the one that is, on a machine whose
# guests have none of its devices. Those that Nova has left for the next guest go, or it would give them
# to one though they are not there any more.
set -euo pipefail

modules=$1 version=$2

for device in $(virsh nodedev-list --cap mdev); do
    virsh nodedev-destroy "$device"
done
for device in $(virsh nodedev-list --cap mdev --all); do
    virsh nodedev-undefine "$device"
done
/run/busybox rmmod mtty
/run/busybox insmod "$modules/$version/mtty.ko"
udevadm settle -t 30
