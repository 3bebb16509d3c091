#!/usr/bin/env bash
# Everything that must hold. Lint first; the tests run in any case, so that their closing line is always the last one.
set -u
cd "$(dirname "$0")/.." || exit 2
scripts/lint.sh
lint=$?
.venv/bin/pytest "$@"
tests=$?
[ "$lint" -eq 0 ] && [ "$tests" -eq 0 ]
