#!/usr/bin/env python3
"""docs/isa.md: every instruction by mode and engine, and how it is tested; out of insn.def, the translator's policy,
the differential tester's generators and the test guests.

  isa.py --table PROGRAM --root ROOT            prints it
  isa.py --table PROGRAM --root ROOT --check    status 1 if docs/isa.md is another one, or an instruction has no test
"""
import argparse
import os
import re
import subprocess
import sys

# What the test guests and unit tests call an instruction, where that is not its name with an operand size.
SPELLED = {
    'CALLF': r'lcall|far_call', 'JMPF': r'ljmp|far_jmp', 'RETF': r'lret|far_ret', 'IRET': r'iret[lw]?',
    'MOV_TO_CR': r'%%?cr\d', 'MOV_FROM_CR': r'%%?cr\d|read_cr', 'MOV_TO_DR': r'%%?db\d|cpu_write_dr',
    'MOV_FROM_DR': r'%%?db\d|cpu_read_dr', 'INT1': r'icebp|int1|0xf1|INT1', 'MOV_TO_SREG': r'movl? %\w+, %%?[defgs]s',
    'MOV_FROM_SREG': r'movl? %%?[cdefgs]s', 'POP_SREG': r'popl? %%?[defgs]s', 'PUSH_SREG': r'pushl? %%?[cdefgs]s',
    'UD2': r'ud2',
    'FWAIT': r'fwait', 'SALC': r'salc|0xd6', 'MONITOR': r'OP_MONITOR|monitor', 'MWAIT': r'OP_MWAIT|mwait',
    'INS': r'insb|insl|INS', 'OUTS': r'outsb|outsl|OUTS', 'IN': r'inb|inl|do_in', 'OUT': r'outb|outl',
    'RDMSR': r'rdmsr',
    'WRMSR': r'wrmsr', 'RDPMC': r'cpu_rdpmc|rdpmc', 'CPUID': r'cpuid', 'LMSW': r'lmsw', 'SMSW': r'smsw',
    'FNENI': r'FNENI|fneni', 'FNDISI': r'FNDISI|fndisi', 'FNSETPM': r'FNSETPM|fnsetpm',
}
MODES = ['kernel', 'user', '16-bit', 'real', 'vm86']
WIDTH = 120
HEAD = """# Instructions

Made by tests/isa/isa.py out of translator/front/insn.def, the translator's policy, and the tests; `ctest -R isa` holds
it.

The interpreter has all of them, in all modes. The columns:

- **needs**: the CPU feature without which it is #UD (`--cpu MODEL,-FEATURE`).
- **kernel, user, 16-bit, real, vm86**: translated in flat 32-bit code at CPL 0 and 3, in 16-bit protected mode at CPL
  3, in real and in virtual-8086 mode. yes: all forms; part: some, or not with every operand; interp: translated code
  calls the interpreter for it. Prefixes that are rare, and operands that are, may lead to the interpreter as well.
- **direct**: whether a page of user code that has it may run directly on the processor (docs/direct.md); where the host
  gives another result than the guest's processor, it may not.
- **tested**: u, k: compared with the processor in random 32-bit code (k: run at CPL 0 by our engines); s: in 16-bit
  code in segments of an LDT; #GP: only as a privileged instruction that faults there. Guests and unit tests that have
  it follow; fuzz/ and unit/test_interp run all of them in any state.

"""


def sources(root):
    found = {}
    for folder in ('tests/insn', 'tests/unit'):
        for name in sorted(os.listdir(os.path.join(root, folder))):
            if name.endswith(('.c', '.S')) and name not in ('rt.c', 'start.S', 'user.c', 'test_insn_table.c'):
                with open(os.path.join(root, folder, name), encoding='utf-8') as file:
                    found[folder.split('/')[1] + '/' + name.rsplit('.', 1)[0]] = file.read()
    return found


def mentions(op, texts):
    pattern = SPELLED.get(op, re.escape(op.lower()) + r'(?:[bwlqst]|ll)?')
    word = re.compile(r'(?<![\w])(?:' + pattern + r')(?![\w])')
    return [name for name, text in texts.items() if word.search(text)]


def tests_of(words, named, width):
    """words, and as many of the tests that are named as there is room for."""
    for n in range(len(named), -1, -1):
        text = ', '.join(words + named[:n] + (['..'] if n < len(named) else []))
        if len(text) <= width:
            return text
    return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--table', required=True)
    parser.add_argument('--root', required=True)
    parser.add_argument('--check', action='store_true')
    options = parser.parse_args()
    rows = subprocess.run([options.table], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    texts = sources(options.root)
    text, untested = HEAD, []
    text += f'| instruction | needs | forms | {" | ".join(MODES)} | direct | tested |\n'
    text += '|---' * (len(MODES) + 5) + '|\n'
    for row in sorted(rows):
        op, _, needs, forms, *rest = row.split('\t')
        modes, direct, (user, kernel, sixteen, privileged) = rest[:5], rest[5], rest[6:]
        judged = ''.join(letter for letter, on in zip('uks', (user, kernel, sixteen)) if on == '1')
        words = [judged and privileged == '1' and '#GP' or judged] if judged else []
        named = mentions(op, texts) if not judged or privileged == '1' else []
        if not named and (not judged or privileged == '1'):
            untested.append(op)
        direct = 'no' if direct == 'interp' else direct
        row = f'| {op} | {needs} | {forms} | {" | ".join(modes)} | {direct} | '
        text += row + tests_of(words, named, WIDTH - len(row) - len(' |')) + ' |\n'
    if not options.check:
        sys.stdout.write(text)
        return 0
    with open(os.path.join(options.root, 'docs/isa.md'), encoding='utf-8') as file:
        same = file.read() == text
    if not same:
        print('docs/isa.md is not what tests/isa/isa.py prints: run `cmake --build BUILD --target isa`')
    if untested:
        print('no test has ' + ', '.join(untested))
    return 0 if same and not untested else 1


if __name__ == '__main__':
    sys.exit(main())
