#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Measure what nova-devcompat costs beside what Nova and Placement cost in the same run. --help says
# more; nothing is installed outside the tree's .venvs folder.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

python=$(find_python)
python=$(make_venv "$python" test)
PYTHONPATH=$_root exec "$python" -P -m tests.bench "$@"
