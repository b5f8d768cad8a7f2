#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Run what takes too long for each change, and say what came of it. --help says more, --list what
# there is; nothing is installed outside the tree's .venvs and .cloud folders.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

python=$(find_python)
run_rig "$python" nightly "$@"
