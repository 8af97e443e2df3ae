#!/usr/bin/env bash
# Write a lock file of everything that pyproject.toml names, all extras included.
#
#   packaging/lock.sh UV FILE [OPTION_OF_UV_PIP_COMPILE...]
set -euo pipefail
uv=$1 file=$2
shift 2
{
    echo "# Locked by make lock. The installer itself:"
    echo "# uv==$("$uv" --version | cut -d' ' -f2)"
    "$uv" pip compile --quiet --universal --python-version 3.11 --all-extras --no-header "$@" pyproject.toml
} >"$file.new"
mv "$file.new" "$file"
