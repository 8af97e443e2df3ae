#!/bin/sh
# A C compiler for another machine: zig with its own libc, so that what it builds runs on glibc 2.17 and later.
# ZIG_PYTHON: an interpreter with the package `ziglang`. ZIG_TARGET: e.g. aarch64-linux-gnu.2.17
exec "$ZIG_PYTHON" -m ziglang cc -target "$ZIG_TARGET" "$@"
