#!/usr/bin/env bash
# Write a lock file of everything that pyproject.toml names, all extras included. What is locked stays as it is
# unless --upgrade is given.
#
#   packaging/lock.sh UV FILE [OPTION_OF_UV_PIP_COMPILE...]
set -euo pipefail
uv=$1 file=$2
shift 2
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
[ ! -e "$file" ] || cp "$file" "$pins"
"$uv" pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --output-file "$pins" "$@" pyproject.toml >/dev/null
{
    echo "# Locked by make lock. The installer itself:"
    echo "# uv==$("$uv" --version | cut -d' ' -f2)"
    cat "$pins"
} >"$file.new"
mv "$file.new" "$file"
