#!/bin/sh
# Whether the tree is laid out as .clang-format says; status 1 if not, 77 without clang-format 14 (others differ in
# details).
# Usage: format.sh ROOT
set -eu
cd "$1"
format=$(command -v clang-format-14 || command -v clang-format) || exit 77
case $("$format" --version) in *" 14."*) ;; *) exit 77 ;; esac
find include core translator runtime src tests bench examples -name '*.[ch]' 2>/dev/null | xargs "$format" --dry-run -Werror
wide=$(find include core translator runtime src -name '*.[chS]' -exec awk 'length > 120 { print FILENAME ":" FNR ": wider than 120 columns" }' {} +)
[ -z "$wide" ] || { echo "$wide"; exit 1; }
