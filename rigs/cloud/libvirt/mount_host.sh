#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# mount_host.sh NAME FOLDER USR KEEP...
#
# Mount what a host has of its own, in namespaces made for it. FOLDER is where that is: files for
# /etc, folders of libvirt, and the servers' disks. USR names folders, with colons between, that lie
# over /usr, none if empty: programs that the machine does not have, or of other versions. KEEP are
# folders that are to be seen as they are, wherever they lie.
set -euo pipefail

name=$1 folder=$2 usr=$3
shift 3

# Nothing that is mounted here shows outside.
mount --make-rprivate /
hostname "$name"
mount -t proc proc /proc

# Kept open: what is mounted next may hide them.
declare -A kept
for path in "$@" "$folder"; do
    exec {descriptor}< "$path"
    kept[$path]=$descriptor
done

[[ -z $usr ]] || mount -t overlay "$name-usr" -o "ro,lowerdir=$usr:/usr" /usr
# What a machine loses with its power, and what lies over /etc.
mount -t tmpfs "$name-run" -o mode=755 /run
mkdir -p /run/etc/{upper,work}
mount -t overlay "$name-etc" -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mount -t tmpfs "$name-var" -o mode=755 /var
mkdir -p /etc/libvirt /var/{tmp,lib/libvirt,cache/libvirt,log/libvirt,lib/nova/instances}
chmod 1777 /var/tmp
ln -s /run /var/run
mkdir -m 755 /run/sshd
for path in "${!kept[@]}"; do
    if [[ ! $path -ef /proc/self/fd/${kept[$path]} ]]; then
        mkdir -p "$path"
        # Its name would lead to what now hides it.
        mount --no-canonicalize --bind "/proc/self/fd/${kept[$path]}" "$path"
    fi
done

cp -r "$folder"/etc/. /etc/
mkdir -p "$folder"/{libvirt/{etc,lib,cache,log},instances}
mount --bind "$folder/libvirt/etc" /etc/libvirt
for part in lib cache log; do
    mount --bind "$folder/libvirt/$part" "/var/$part/libvirt"
done
# The same path on all hosts, as live migration wants it; a folder of each one's own.
mount --bind "$folder/instances" /var/lib/nova/instances
