#!/usr/bin/env bash
# Stubs from the proto sources, into src/ (or the directory given).
set -eu
cd "$(dirname "$0")/.."
out=${1:-src}
PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m grpc_tools.protoc -I src \
    --python_out="$out" --grpc_python_out="$out" --mypy_out="quiet:$out" --mypy_grpc_out="quiet:$out" \
    src/eru/wire/core.proto src/eru/wire/v1.proto
PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m grpc_tools.protoc -I src \
    --python_out="$out" --mypy_out="quiet:$out" src/eru/store/etcd/rpc.proto
