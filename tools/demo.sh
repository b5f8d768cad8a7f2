#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Tell the story of a mixed fleet on real Nova and Placement services, in one process.
# --help says more; nothing is installed outside the tree's .venvs folder.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

python=$(find_python)
python=$(make_venv "$python" test)
run_rig "$python" demo "$@"
