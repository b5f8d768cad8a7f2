#!/usr/bin/env bash
# Write constraints/2026.2.txt anew: the freeze of an environment that has all that we install.
#
#   tools/refresh-constraints.sh [UPPER_CONSTRAINTS]
#
# UPPER_CONSTRAINTS is the file or URL of that OpenStack release's upper-constraints; without it
# the newest versions are taken that fit together. Run ./tools/test.sh before you commit the result.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$tools/lib/python.sh"

case "${1:-}" in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
        exit ;;
    '' | *://*) upper=${1:-} ;;
    *) upper=$(realpath -- "$1") ;;
esac

python=$(find_python)
cd "$tools/.."
target=constraints/2026.2.txt
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The release that we test. Pip would rather step back to an older Nova than say what is in its way.
cat > "$scratch/pins.txt" <<'EOF'
nova==34.0.0
openstack-placement==16.0.0
# WebOb asks for it from Python 3.13 on.
legacy-cgi
EOF

"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet ${upper:+-c "$upper"} -r "$scratch/pins.txt" \
    -r requirements.txt -r test-requirements.txt -r doc/requirements.txt -r .ci/requirements.txt
"$scratch/venv/bin/python" -m pip check

{
    cat <<'EOF'
# OpenStack 2026.2 (Nova 34, Placement 16) as our tests, checks and demonstration install it: the
# freeze of one environment that passes, taken from that release's upper-constraints where those
# have the package. Write it anew with tools/refresh-constraints.sh.
EOF
    "$scratch/venv/bin/python" -m pip freeze --all | grep -v '^pip==' | LC_ALL=C sort -f
} > "$scratch/new.txt"
mv "$scratch/new.txt" "$target"
echo "$target: $(grep -c == "$target") packages. Now run ./tools/test.sh." >&2
