#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# setup_machine.sh NAME ADDRESS FOLDER MODULES
#
# What a virtual machine has beside the files of this one: devices, two networks, a folder FOLDER that
# both see and write to, mediated devices of the kernel's sample, and a QEMU that migrates guests with
# them. ADDRESS is on the network of the machines among themselves. MODULES has the versions of mtty.
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin

name=$1 address=$2 folder=$3 modules=$4

hostname "$name"
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr

# Nothing of it is kept: both sides may change it.
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none cloud "$folder"

/run/busybox ip link set lo up
/run/busybox ip link set eth0 up
/run/busybox ip address add 10.0.2.15/24 dev eth0
/run/busybox ip link set eth1 up
/run/busybox ip address add "$address/24" dev eth1

# mdevctl misses them.
mkdir -p /etc/mdevctl.d/scripts.d/{callouts,notifiers}
/usr/lib/systemd/systemd-udevd --daemon
/run/busybox insmod "$modules/1/mtty.ko"
udevadm trigger --subsystem-match=mdev --subsystem-match=pci
udevadm settle -t 30

# Debian's kernel lacks what a device tells QEMU with which memory it has written to (IOMMUFD), so QEMU
# must not ask the device for it, and then migrates such a guest only if it is told to.
emulator=/usr/bin/qemu-system-x86_64
mv "$emulator" "$emulator.real"
cat > "$emulator" << 'END'
#!/bin/sh
exec "$0.real" "$@" -global vfio-pci.enable-migration=on -global vfio-pci.x-device-dirty-page-tracking=off
END
chmod 755 "$emulator"
echo "$name is set up, $(cut -d' ' -f1 /proc/uptime) s after its start"
