#!/bin/sh
# Drain hosts one after another: ./drain.sh HOST...
# Nothing is migrated off a host that not all servers can leave.
set -eu
for host in "$@"; do
    openstack compute service set --disable --disable-reason drain "$host" nova-compute
    # 0: all can leave; 3: some cannot; 1 and 2: it could not be asked, which is said.
    if ! moves=$(nova-devcompat drain check "$host" -f value -c instance -c destination); then
        nova-devcompat drain check "$host" || true
        openstack compute service set --enable "$host" nova-compute
        exit 1
    fi
    printf '%s\n' "$moves" | while read -r server destination; do
        [ -z "$server" ] ||
            openstack server migrate --live-migration --host "$destination" --wait "$server" </dev/null
    done
done
