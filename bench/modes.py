#!/usr/bin/env python3
"""What segmented code costs: the loops of bench/kernel/modes.c in flat 32-bit code, in real mode, in virtual-8086 mode
and in 16-bit segments, under transvisor's translator and interpreter and under QEMU's TCG, in turns.

    bench/modes.py [--transvisor PROGRAM] [--contestants bt,interp,qemu] [--runs 3] [--json FILE]

A figure is CPU time of the process for one pass, in ns, the median of all runs: what else the host does meanwhile takes
little part in it.
"""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import material  # noqa: E402  (what is beside this file)

MODES = ['flat', 'real', 'vm86', 'seg16']
BEGINS, ENDS = re.compile(rb'BEGINS (\w+) (\w+)\s'), re.compile(rb'ENDS (\d+)\s')  # a firmware's line may be before
DEBUG_EXIT, DONE = '0xf4', 0x10 << 1 | 1


def command(contestant, transvisor, kernel):
    if contestant == 'qemu':
        return ['qemu-system-i386', '-accel', 'tcg', '-m', '64M', '-nographic', '-no-reboot', '-kernel', kernel] + [
            '-device', f'isa-debug-exit,iobase={DEBUG_EXIT},iosize=4', '-monitor', 'none', '-serial', 'stdio'
        ]
    return [transvisor, 'run', '--kernel', kernel, '--memory', '64M', '--serial', 'stdio', '--engine', contestant] + [
        '--debug-exit', DEBUG_EXIT
    ]


def cpu_ns(pid):
    """CPU time of all threads of a process so far."""
    total = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/schedstat', encoding='ascii') as file:
            total += int(file.read().split()[0])
    return total


def stopped_ns(guest):
    """The same, and it stands from there on."""
    guest.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, guest.pid, os.WSTOPPED)
    return cpu_ns(guest.pid)


def measure(arguments):
    """{(mode, loop): ns for one pass} of one run."""
    figures = {}
    guest = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    begun, row = 0, None
    for line in guest.stdout:
        begins, ends = BEGINS.search(line), ENDS.search(line)
        if begins:
            row = tuple(word.decode() for word in begins.groups())
            begun = stopped_ns(guest)
            guest.stdin.write(b'x')
            guest.send_signal(signal.SIGCONT)
        elif ends:
            figures[row] = (stopped_ns(guest) - begun) / int(ends[1])
            guest.stdin.write(b'x')
            guest.send_signal(signal.SIGCONT)
    if guest.wait() != DONE:
        raise RuntimeError(f'{arguments[0]} ended with status {guest.returncode}')
    return figures


def table(results, contestants):
    """results: {contestant: {(mode, loop): [ns]}}"""
    medians = {c: {row: statistics.median(values) for row, values in results[c].items()} for c in contestants}
    loops = list(dict.fromkeys(loop for _, loop in next(iter(medians.values()))))
    print('ns for one pass; in brackets, as a multiple of flat code')
    for contestant in contestants:
        mine = medians[contestant]
        print(f'\n{contestant:14}' + ''.join(f'{mode:>18}' for mode in MODES))
        for loop in loops:
            cells = [mine[mode, loop] for mode in MODES]
            print(f'{loop:14}' + ''.join(f'{ns:10.1f} ({ns / cells[0]:5.1f})' for ns in cells))
    first = contestants[0]
    for other in contestants[1:]:
        print(f'\n{first + "/" + other:14}' + ''.join(f'{mode:>18}' for mode in MODES))
        for loop in loops:
            ratios = (medians[first][mode, loop] / medians[other][mode, loop] for mode in MODES)
            print(f'{loop:14}' + ''.join(f'{ratio:18.2f}' for ratio in ratios))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--transvisor', default=os.path.join(HERE, '..', 'build', 'transvisor'))
    parser.add_argument('--contestants', default='bt,interp,qemu', help='of bt, interp, qemu; ratios are to the first')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--json', help='all figures of all runs')
    options = parser.parse_args()
    contestants = options.contestants.split(',')
    results = {c: {} for c in contestants}
    transvisor, kernel = os.path.abspath(options.transvisor), material.build_kernel('modes')
    report = os.path.abspath(options.json) if options.json else None
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for _ in range(options.runs):
            for contestant in contestants:
                program = transvisor
                for row, ns in measure(command(contestant, program, kernel)).items():
                    results[contestant].setdefault(row, []).append(ns)
    table(results, contestants)
    if report:
        rows = {c: {' '.join(row): values for row, values in results[c].items()} for c in contestants}
        with open(report, 'w', encoding='ascii') as file:
            json.dump(rows, file, indent=1)


if __name__ == '__main__':
    main()
