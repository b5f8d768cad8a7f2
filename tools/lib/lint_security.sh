#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# lint_security.sh: bandit over what is shipped, and over the rigs. It must be on PATH.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Rigs are not shipped, and read and ask what they have made themselves: XML of pytest, addresses
# of the loopback device; "password" is a word in what they write; they become other programs,
# without a shell; and what they draw is no secret.
rigs_may=B105,B310,B311,B314,B405,B606

status=0
bandit -q -c pyproject.toml -r nova_devcompat shim || status=$?
bandit -q -c pyproject.toml -r rigs -s "$rigs_may" || status=$?
exit "$status"
