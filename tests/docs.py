#!/usr/bin/env python3
"""Documents name only files that exist: every path of the tree in README.md, CONTRIBUTING.md and docs/, in the comments
of sources
and in CMake files is looked up.

  docs.py ROOT        status 1 if one is not there
"""
import os
import re
import sys

# A path begins with one of the tree's folders. NAME.c, a pattern (*, {a,b}) or what a build makes (build/..) is not
# meant.
PATH = re.compile(
    r'(?<![\w/.$}-])((?:docs|include|translator|runtime|src|tests|bench|scripts|examples)/'
    r'[\w./-]*\w\.(?:c|h|S|def|py|sh|md|txt|ini))(?![\w*])'
)
FOLDER = re.compile(r'`((?:docs|include|translator|runtime|src|tests|bench|scripts|examples)/(?:[\w-]+/)*)`')


def main():
    root = os.path.abspath(sys.argv[1])
    missing = looked = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(('.', 'build')) and f != '__pycache__']
        for name in sorted(names):
            if (
                not name.endswith(('.md', '.c', '.h', '.S', '.def', '.py', '.txt', '.cmake', '.sh'))
                or name == 'CHANGELOG.md'
            ):
                continue
            path = os.path.join(folder, name)
            shown = os.path.relpath(path, root)
            if shown in ('tests/layering.py', 'tests/docs.py'):  # made-up names are what they are tested with
                continue
            with open(path, encoding='utf-8') as file:
                for number, line in enumerate(file, 1):
                    if re.match(r'\s*#\s*include', line):
                        continue  # the compiler's
                    for there in PATH.findall(line) + FOLDER.findall(line):
                        looked += 1
                        near = [root, os.path.join(root, 'include'), folder]
                        if not any(os.path.exists(os.path.join(base, there)) for base in near):
                            missing += 1
                            print(f'{shown}:{number}: {there} is not there')
    print(f'{looked} names looked up, {missing} missing')
    return 1 if missing or not looked else 0


if __name__ == '__main__':
    sys.exit(main())
