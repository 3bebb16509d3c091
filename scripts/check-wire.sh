#!/usr/bin/env bash
# The committed stubs are what the proto sources give.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
bash scripts/generate-wire.sh "$fresh"
bad=0
while IFS= read -r file; do
    if ! diff -q "$fresh/$file" "src/$file" >/dev/null 2>&1; then
        echo "src/$file is not what its proto source gives; type: bash scripts/generate-wire.sh"
        bad=1
    fi
done < <(cd "$fresh" && find . -type f -name '*_pb2*' | sed 's|^\./||' | sort)
exit "$bad"
