#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Run the tests: unit, and functional on native threads as well as on eventlet. --help says more.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

python=$(find_python)
run_rig "$python" run_tests "$@"
