#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# lint_shell.sh: shellcheck and bashate over all shell scripts in git. Both must be on PATH.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mapfile -t scripts < <(
    git grep -lE '^#!(/usr/bin/env |/bin/)bash$|^# shellcheck shell=bash$'
)
shellcheck -x -P SCRIPTDIR "${scripts[@]}"
# Lines may be as long as in Python; what bashate would only warn of is an error.
bashate -i E006 -e E005,E042,E043 "${scripts[@]}"
echo "${#scripts[@]} shell scripts are clean"
