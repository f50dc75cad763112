#!/bin/sh
# Accepts the host code that the translator makes now: rewrites expected.txt. Then read `git diff
# tests/emit/expected.txt`: every line of it is to be explained by the change that is being made, and it is committed
# together with it.
# Usage: tests/emit/accept.sh [BUILD-DIRECTORY]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-${TRANSVISOR_BUILD:-$here/../../build}}
cmake --build "$build" --target emit_golden
"$build/tests/emit/emit_golden" --accept "$here/cases.txt" "$here/expected.txt"
git -C "$here" diff --stat -- expected.txt
