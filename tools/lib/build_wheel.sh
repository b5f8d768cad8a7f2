#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# build_wheel.sh PYTHON FOLDER: build our wheel into FOLDER with a PYTHON that has pbr and setuptools.
set -euo pipefail

python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# setuptools would put what an earlier build left there into the wheel.
rm -rf build nova_devcompat.egg-info
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir "$folder" .
rm -rf build nova_devcompat.egg-info
