#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# check.sh TOOL [ARGUMENT...]: run a tool of the environment that .ci/run checks with, made first if
# needed. The hooks of .pre-commit-config.yaml use it, so that a tool has one version everywhere.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tools/lib/python.sh

base=$(find_python)
check=$(make_venv "$base" check)
PATH=$(dirname "$check"):$PATH exec "$@"
