#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Change the code of compat in thousands of small ways, one at a time, and see whether a test
# notices. --help says more. Nothing is installed outside the tree's .venvs folder; what is known
# of each change is kept in .mutants.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

python=$(find_python)
python=$(make_venv "$python" mutants)
run_rig "$python" mutants "$@"
