"""Whether no line of the tracked text files is wider than 120 columns (characters; a tab to the next multiple of 8).

Usage: width.py ROOT
"""

import os
import re
import subprocess
import sys

MOST = 120
# Files that may be wider: tables with one row a line, texts of others, and SQL, whose lines are statements as the
# program reads them.
WIDER = re.compile(r'.*\.def|LICENSE|bench/guest/.*\.sql')


def wide(root, name):
    """The numbers of the lines that are too wide. A row of a Markdown table cannot be wrapped: it may be."""
    with open(os.path.join(root, name), 'rb') as f:
        text = f.read()
    if b'\0' in text:
        return []  # no text
    lines = enumerate(text.decode(errors='replace').split('\n'), 1)
    return [n for n, l in lines if len(l.expandtabs(8)) > MOST and not (name.endswith('.md') and l.startswith('|'))]


def main(root):
    listed = subprocess.run(['git', '-C', root, 'ls-files', '-z'], capture_output=True, text=True)
    names = [n for n in listed.stdout.split('\0') if n and os.path.isfile(os.path.join(root, n))]
    if listed.returncode or not names:
        print(f'width.py: {root} is not a git work tree: {listed.stderr.strip()}', file=sys.stderr)
        return 77
    held = [n for n in names if not WIDER.fullmatch(n)]
    found = [f'{name}:{n}: wider than {MOST} columns' for name in held for n in wide(root, name)]
    print(*found, sep='\n', end='\n' if found else '')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
