#!/bin/sh
# Whether the tree is laid out as .clang-format says, and no line is wider than 120 columns (width.py; not looked at
# without git); status 1 if not, 77 without clang-format 14 (others differ in details).
# Usage: format.sh ROOT
set -eu
cd "$1"
status=0
python3 -B tests/width.py . || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 77 ] || exit 1
format=$(command -v clang-format-14 || command -v clang-format) || exit 77
case $("$format" --version) in *" 14."*) ;; *) exit 77 ;; esac
find include core translator runtime src tests bench examples -name '*.[ch]' 2>/dev/null |
    xargs "$format" --dry-run -Werror
