#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Run Nova's own functional tests, stock and with nova-devcompat in place, and compare test by test.
# --help says more; nothing is installed outside the tree's .venvs folder.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

python=$(find_python)
run_rig "$python" nova_suite "$@"
