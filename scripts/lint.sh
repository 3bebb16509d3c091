#!/usr/bin/env bash
# Style, types, import contracts and generated code. Says everything that is wrong, not only the first.
set -u
cd "$(dirname "$0")/.." || exit 2
failed=0

check() {
    local name=$1
    shift
    local out
    if out=$("$@" 2>&1); then
        printf '%-14s ok\n' "$name"
    else
        printf '%-14s FAILED: %s\n%s\n' "$name" "$*" "$out"
        failed=1
    fi
}

check "style" .venv/bin/ruff check .
check "format" .venv/bin/ruff format --check .
check "types" .venv/bin/mypy
check "imports" .venv/bin/lint-imports
check "generated code" scripts/check-wire.sh
exit "$failed"
