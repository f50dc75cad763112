#!/usr/bin/env python3
"""docs/security.md says how many system calls each thread has as src/jail.def has it.

  security.py ROOT        status 1 if a number is wrong
"""
import os
import re
import sys

EVERYBODY = 'VMDBSTWNPFR'


def main():
    root = sys.argv[1]
    with open(os.path.join(root, 'src', 'jail.def'), encoding='utf-8') as f:
        rows = re.findall(r'^CALL\((\w+), ([^)]*)\)', f.read(), re.M)
    calls = {name: set(EVERYBODY if who == 'A' else who.replace(' ', '').split('|')) for name, who in rows}
    with open(os.path.join(root, 'docs', 'security.md'), encoding='utf-8') as f:
        text = f.read()

    def count(of):
        return sum(bool(who & set(of)) for who in calls.values())

    wrong = []
    for letter in EVERYBODY:
        said = re.search(r'^\| [^|]* \| %s \| [^|]* \| (\d+) \|' % letter, text, re.M)
        if not said or int(said.group(1)) != count(letter):
            wrong.append(f'{letter}: {said.group(1) if said else "nothing"} in the table, {count(letter)} in jail.def')
    said = re.search(
        r'without network, NBD, VNC and shared folders has (\d+) in all; one with everything (\d+)\.', text
    )
    have = (count('VMDSTPR'), count(EVERYBODY))
    if not said or tuple(map(int, said.groups())) != have:
        wrong.append(f'in all: {said.groups() if said else "nothing"} in the text, {have} in jail.def')
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
