#!/usr/bin/env bash
# Copy the checkout's own files (no build output) into a folder, which then builds apart from it.
#
#   packaging/copy_tree.sh DIR
#
# What was built there before stays, so that only changed kernels are compiled again.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1
mkdir -p "$dir"
list=(agent core_ext models config packaging benchmarks tests docs requirements
    setup.py pyproject.toml Makefile MANIFEST.in README.md CHANGELOG.md CONTRIBUTING.md ARCHITECTURE.md LICENSE .ci .gitignore)
present=()
for name in "${list[@]}"; do [ -e "$name" ] && present+=("$name"); done
for name in "${present[@]}"; do
    # Sources that are gone must go in the copy too; compiled files of the copy stay.
    [ -d "$dir/$name" ] && find "$dir/$name" -type f ! -name '*.so' ! -name '_*.c' ! -name '*.o' -delete
done
tar --create --exclude=__pycache__ --exclude='*.so' --exclude='core_ext/*.c' --exclude='*.egg-info' "${present[@]}" |
    tar --extract --directory "$dir"
