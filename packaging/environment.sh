#!/usr/bin/env bash
# Make a virtual environment hold exactly what a lock file lists.
#
#   packaging/environment.sh DIR LOCK
#
# PYTHON names the interpreter (default python3). A run that was cut off leaves DIR/.unfinished behind, and the
# next run starts from nothing. uv installs if it can be had (seconds); else pip does, from the same lock.
set -euo pipefail

dir=$1 lock=$2 python=${PYTHON:-python3}

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

command -v "$python" >/dev/null ||
    fail "$python was not found." "Install Python 3.11 or later (Debian: apt-get install python3 python3-venv python3-dev)," "or name one: make setup PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: Forebay needs Python 3.11 or later." "Name another: make setup PYTHON=python3.12"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    fail "Python.h is missing; the compiled core needs it (Debian: apt-get install python3-dev)."
command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null ||
    fail "no C compiler was found; the compiled core needs one (Debian: apt-get install gcc libc6-dev)."

if [ -e "$dir/.unfinished" ] || { [ -e "$dir" ] && ! "$dir/bin/python" -c '' 2>/dev/null; }; then
    echo "setup: $dir is broken or from a run that was cut off; making it anew"
    rm -rf "$dir"
fi

mkdir -p "$dir"
touch "$dir/.unfinished"
if ! [ -x "$dir/bin/python" ]; then
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        "$python" -m venv "$dir"
    elif command -v uv >/dev/null; then
        uv venv --quiet --allow-existing --seed --python "$python" "$dir"
    elif "$python" -c 'import virtualenv' 2>/dev/null; then
        "$python" -m virtualenv --quiet "$dir"
    else
        rm -rf "$dir"
        fail "$python has no venv or ensurepip module (Debian: apt-get install python3-venv)." "uv or virtualenv would do instead; neither is there."
    fi
fi

uv=$(sed -n 's/^# uv==//p' "$lock")
pip=("$dir/bin/python" -m pip install --quiet --disable-pip-version-check)
if [ -z "${FOREBAY_NO_UV:-}" ] && "${pip[@]}" "uv==$uv"; then
    "$dir/bin/uv" pip sync --quiet --python "$dir/bin/python" "$lock"
else
    echo "setup: no uv $uv to be had; pip installs the same versions, which takes longer" >&2
    "${pip[@]}" --requirement "$lock"
fi
rm "$dir/.unfinished"
