# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Sourced by tools/*.sh and .ci/run: finds a Python, has rigs.venvs make an environment, and runs
# other modules of rigs.

_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# What another project's environment may have set must not reach ours.
unset PYTHONHOME PYTHONPATH
# A run is many processes, which would each compile all that they import, and pytest rewrite all
# tests, which is half of the time that it takes to collect them.
unset PYTHONDONTWRITEBYTECODE

# Print the path of a Python >= 3.11 that can make virtual environments. $PYTHON, if set, is the
# only candidate. A name on PATH may be a shim that fails to run, so each is tried.
find_python() {
    local -a names=(python3 python3.13 python3.12 python3.11 python3.14 python3.15 python)
    local name path answer seen='' newer='' tried=''
    [ -z "${PYTHON:-}" ] || names=("$PYTHON")
    for name in "${names[@]}"; do
        while IFS= read -r path; do
            answer=$("$path" -c '
import sys
try:
    import ensurepip, venv
    can = "venv"
except ImportError:
    can = "no-venv"
print("%d.%d" % sys.version_info[:2], can, sys.executable)' 2>/dev/null) || {
                tried+="  $path does not run"$'\n'
                continue
            }
            case "$seen" in *"|$answer|"*) continue ;; esac
            seen+="|$answer|"
            case "$answer" in
                2.*|3.?\ *|3.10\ *)
                    tried+="  $path is Python ${answer%% *}: too old"$'\n' ;;
                *\ no-venv\ *)
                    tried+="  $path (Python ${answer%% *}) cannot make virtual environments:"
                    tried+=" it lacks venv or ensurepip"$'\n' ;;
                3.11\ *|3.12\ *|3.13\ *)
                    printf '%s\n' "${answer#* venv }"
                    return ;;
                *)
                    # Newer than Nova says it supports: only if there is no other.
                    [ -n "$newer" ] || newer=$answer ;;
            esac
        done < <(type -aP "$name")
    done
    if [ -n "$newer" ]; then
        printf '%s\n' "Using Python ${newer%% *}, which Nova is not tested with." >&2
        printf '%s\n' "${newer#* venv }"
        return
    fi
    cat >&2 <<EOF
No usable Python: this needs Python 3.11 or newer with the venv module.
${tried:-  none was found on PATH
}${PYTHON:+  (Only $PYTHON was tried, because the variable PYTHON is set.)
}
What to do:
  Debian, Ubuntu   apt install python3 python3-venv
  Fedora, RHEL     dnf install python3.12
  others           pyenv install 3.12, or python.org
or name one: PYTHON=/path/to/python3.12 $0
EOF
    return 1
}

# make_venv PYTHON NAME: print the path of the python of environment NAME, made first if needed.
make_venv() {
    (run_rig "$1" venvs "$2")
}

# run_rig PYTHON MODULE [ARGUMENT...]: go on as a module of rigs, whatever folder we are in; nothing
# is imported from there (-P).
run_rig() {
    PYTHONPATH=$_root exec "$1" -P -m "rigs.$2" "${@:3}"
}
