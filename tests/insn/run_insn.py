#!/usr/bin/env python3
"""Runs one Multiboot test guest and judges it by its debug-exit status and its own PASS line.

  run_insn.py --transvisor PROGRAM --engine interp|bt [--extra ARGS] GUEST.elf
  run_insn.py --qemu GUEST.elf            the sanity oracle (a few of its answers are known to be wrong: the SDM decides)
"""
import argparse
import os
import subprocess
import sys

PASS, FAIL = (0x10 << 1) | 1, (0x11 << 1) | 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--engine', default='interp')
    parser.add_argument('--extra', default='')
    parser.add_argument('--qemu', action='store_true')
    parser.add_argument('--timeout', type=int, default=100)
    parser.add_argument('guest')
    options = parser.parse_args()
    if options.qemu:
        command = ['qemu-system-i386', '-accel', 'tcg', '-cpu', 'n270', '-m', '64M', '-display', 'none', '-no-reboot', '-serial', 'stdio',
                   '-device', 'isa-debug-exit,iobase=0xf4,iosize=4', '-kernel', options.guest]
    else:
        command = [options.transvisor, 'run', '--kernel', options.guest, '--memory', '64M', '--engine', options.engine,
                   '--serial', 'stdio', '--debug-exit', '0xf4'] + options.extra.split()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=options.timeout)
    except subprocess.TimeoutExpired as late:
        print((late.stdout or b'').decode('latin-1').replace('\r', ''))
        print(f'run_insn.py: no end within {options.timeout} s')
        return 1
    output = done.stdout.decode('latin-1').replace('\r', '')
    print(output, end='')
    name = os.path.splitext(os.path.basename(options.guest))[0]
    if done.returncode == PASS and f'{name}: PASS, ' in output:
        return 0
    print(f'run_insn.py: {name}: status {done.returncode}, which is ' +
          {PASS: 'a pass without its PASS line', FAIL: 'failed checks'}.get(done.returncode, 'neither passed nor failed: it died'))
    return 1


if __name__ == '__main__':
    sys.exit(main())
