#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors
#
# Write a file of constraints/ anew: the freeze of an environment that has all that we install.
#
#   tools/refresh-constraints.sh [--nova RELEASE] [UPPER_CONSTRAINTS]
#
# RELEASE is one of rigs/releases.py, by default its newest; which Nova and Placement are
# installed stands there. UPPER_CONSTRAINTS is the file or URL of that OpenStack release's
# upper-constraints; without it the newest versions are taken that fit together, which for an older
# release can be too new. Run ./tools/test.sh --nova RELEASE before you commit the result.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

wanted=()
if [[ ${1:-} == --nova ]]; then
    wanted=("$1" "${2:?--nova needs a release, such as 2025.1}")
    shift 2
fi
case "${1:-}" in
    -h | --help)
        sed -n '5,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
        exit ;;
    -*)
        echo "$0: unknown option $1; --help says what there is" >&2
        exit 2 ;;
    '' | *://*) upper=${1:-} ;;
    *) upper=file://$(realpath -- "$1") ;;
esac

python=$(find_python)
release=$(run_rig "$python" releases "${wanted[@]}")
read -r name nova placement target <<< "$release"
cd "$tools/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The release that we test. Pip would rather step back to an older Nova than say what is in its way.
cat > "$scratch/pins.txt" <<PINS
nova==$nova
openstack-placement==$placement
# WebOb asks for it from Python 3.13 on.
legacy-cgi
PINS
case "$name" in
    # Their pbr builds wheels with pkg_resources, which setuptools 82 has no more.
    2025.*) echo 'setuptools<82' >> "$scratch/pins.txt" ;;
esac

if [[ -n $upper ]]; then
    # What runs our tests is ours to choose: OpenStack's pytest-cov is years behind, and the fixtures
    # of 2025.1 was yanked.
    "$python" - "$upper" > "$scratch/upper.txt" <<'PYTHON'
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as answer:
    lines = answer.read().decode().splitlines(keepends=True)
ours = ("coverage=", "fixtures=", "pytest")
sys.stdout.writelines(line for line in lines if not line.startswith(ours))
PYTHON
    upper=$scratch/upper.txt
fi

"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet ${upper:+-c "$upper"} -r "$scratch/pins.txt" \
    -r requirements.txt -r test-requirements.txt -r doc/requirements.txt -r .ci/requirements.txt
"$scratch/venv/bin/python" -m pip check

{
    cat <<HEAD
# OpenStack $name (Nova ${nova%%.*}, Placement ${placement%%.*}) as our tests, checks and demonstration install it: the
# freeze of one environment that passes, taken from that release's upper-constraints where those
# have the package. Write it anew with tools/refresh-constraints.sh --nova $name.
HEAD
    "$scratch/venv/bin/python" -m pip freeze --all | grep -v '^pip==' | LC_ALL=C sort -f
} > "$scratch/new.txt"
mv "$scratch/new.txt" "$target"
echo "$target: $(grep -c == "$target") packages. Now run ./tools/test.sh --nova $name." >&2
