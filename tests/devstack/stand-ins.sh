#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
#
# The functions of devstack that the plugin uses, for machines that have no devstack. Their real
# selves are used too where DEVSTACK_DIR names a checkout of it, see conftest.py.

for _function in iniget iniget_multiline iniset iniset_multiline iniadd inidelete; do
    eval "function $_function { \"\$TEST_PYTHON\" -I -S \"\$TEST_DIR/ini.py\" $_function \"\$@\"; }"
done

function is_service_enabled {
    local service
    for service in "$@"; do
        if [[ ",$ENABLED_SERVICES," == *",$service,"* ]]; then
            return 0
        fi
    done
    return 1
}

function enable_service {
    local service
    for service in "$@"; do
        if [[ ",$DISABLED_SERVICES," != *",$service,"* ]]; then
            ENABLED_SERVICES+=",$service"
        fi
    done
}

# trueorfalse default variable
function trueorfalse {
    case "${!2:-$1}" in
        [Tt]rue|[Yy]es|1) echo True ;;
        *) echo False ;;
    esac
}

function define_plugin {
    :
}

# die line message
function die {
    shift
    echo "[ERROR] $*" >&2
    exit 1
}

function echo_summary {
    echo "$*"
}

function get_python_exec_prefix {
    echo "$DEVSTACK_VENV/bin"
}

function pip_install {
    "$DEVSTACK_VENV/bin/pip" install -c "$REQUIREMENTS_DIR/upper-constraints.txt" "$@"
}
