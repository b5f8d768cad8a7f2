#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

# Sourced by devstack in each phase: plugin.sh <stack|unstack|clean> [phase].

_XTRACE_DEVCOMPAT_PLUGIN=$(set +o | grep xtrace)
set +o xtrace

# shellcheck source=devstack/lib/devcompat
source "$DEVCOMPAT_DIR/devstack/lib/devcompat"

if [[ "$1" == "clean" ]]; then
    # Where the service has been disabled meanwhile, too.
    cleanup_devcompat
elif is_service_enabled devcompat && is_service_enabled n-api n-cpu n-sch; then
    case "$1/$2" in
        stack/install)
            # Nova is installed by now.
            echo_summary "Installing nova-devcompat"
            install_devcompat
            ;;
        stack/post-config)
            # nova.conf is complete, but for local.conf's own post-config, and no service of Nova
            # runs. nova-cpu.conf does not exist: start_nova_compute copies it from nova.conf.
            echo_summary "Configuring nova-devcompat"
            configure_devcompat
            ;;
        stack/test-config)
            # The services run, and this host's computes are mapped to their cell.
            if [[ "$DEVCOMPAT_VERIFY" == "True" ]]; then
                echo_summary "Checking nova-devcompat"
                verify_devcompat
            fi
            ;;
        # Nothing of ours runs, so there is nothing for unstack.
    esac
fi

$_XTRACE_DEVCOMPAT_PLUGIN
