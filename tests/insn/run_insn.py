#!/usr/bin/env python3
"""Runs one Multiboot test guest and judges it by its debug-exit status and its own PASS line.

  run_insn.py --transvisor PROGRAM --engine interp|bt|direct [--extra ARGS] GUEST.elf
  run_insn.py --qemu GUEST.elf            the sanity oracle (a few of its answers are known to be wrong: the SDM
  decides)
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

# Guests for direct execution, and what must have been counted at least in a run with --direct always: else it tested
# something else.
# directfpu: on hosts whose MXCSR has more bits than the guest's, its pages with LDMXCSR do not run directly.
DIRECT = {
    'direct': {'runs': 1000},
    'directmem': {'runs': 3000, 'faults': 2000},
    'directfpu': {'runs': 50},
    'hostile': {'runs': 3000, 'escapes': 500},
    'restless': {'runs': 10},
    'mixed': {'runs': 50},
    'watched': {'runs': 50},
    'strict': {'runs': 900},
    'shadow': {'runs': 10},
}
# Channels of --trace that only a guest of some size makes print, and how their lines begin.
TRACED = {'sites': 'site', 'window': 'aspace', 'direct': 'direct'}
# What must have been counted at most, by guest and engine: else something that is to be cheap costs an exit each time.
AT_MOST = {
    ('mixed', 'bt'): {'code_writes': 600, 'emulated': 42500},
    ('mixed', 'direct'): {'code_writes': 600, 'emulated': 42500, 'direct_runs': 500},
    ('directmem', 'direct'): {'direct_fetches': 1000, 'direct_unfit': 60, 'direct_runs': 12000},
}
for run in ('bt', 'direct'):
    AT_MOST['watched', run] = {'emulated': 1400000}
    AT_MOST['shadow', run] = {'emulated': 10000}
# And at least: what an armed breakpoint does not concern goes on as translated code, its accesses to that page by a
# callout.
AT_LEAST = {('watched', 'bt'): {'watched': 1000000}, ('watched', 'direct'): {'watched': 1000000}}
with open('/proc/cpuinfo', encoding='ascii') as cpuinfo:
    if ' ospke' in cpuinfo.read():  # a page may be executed and not read: those with sensitive instructions are patched
        AT_LEAST['direct', 'direct'] = {'direct_traps': 30, 'direct_reads': 8, 'direct_patched': 6}
SKIPPED = 77
PASS, FAIL = (0x10 << 1) | 1, (0x11 << 1) | 1


def wrong_counts(name, engine, stats):
    """What was counted too often, or too rarely, as text; '' if all is well."""
    most = AT_MOST.get((name, engine), {})
    with open(stats, encoding='ascii') as file:
        counted = {key: int(value) for key, value in re.findall(r'"(\w+)": (\d+)', file.read())}
    many = {key: counted.get(key) for key in most if key not in counted or counted[key] > most[key]}
    least = AT_LEAST.get((name, engine), {})
    few = {key: counted.get(key) for key in least if counted.get(key, 0) < least[key]}
    text = f'counted {many}, expected at most {most}' if many else ''
    return text + (f' counted {few}, expected at least {least}' if few else '')


def too_few(name, stats):
    """What was counted too rarely, as text; '' if all is well."""
    with open(stats, encoding='ascii') as file:
        counted = dict(re.findall(r'"direct_(\w+)": (\d+)', file.read()))
    few = {key: counted.get(key) for key, least in DIRECT[name].items() if int(counted.get(key, 0)) < least}
    return f'counted {few}, expected at least {DIRECT[name]}' if few else ''


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--engine', default='interp')
    parser.add_argument('--extra', default='')
    parser.add_argument('--trace', default='', help='channels, each of which must print a line')
    parser.add_argument('--qemu', action='store_true')
    parser.add_argument('--timeout', type=int, default=100)
    parser.add_argument('guest')
    options = parser.parse_args()
    name = os.path.splitext(os.path.basename(options.guest))[0]
    direct = options.engine == 'direct'
    stats = tempfile.NamedTemporaryFile()
    if options.qemu:
        command = [
            'qemu-system-i386',
            '-accel',
            'tcg',
            '-cpu',
            'n270',
            '-m',
            '64M',
            '-display',
            'none',
            '-no-reboot',
            '-serial',
            'stdio',
            '-device',
            'isa-debug-exit,iobase=0xf4,iosize=4',
            '-kernel',
            options.guest,
        ]
    else:
        command = [
            options.transvisor,
            'run',
            '--kernel',
            options.guest,
            '--memory',
            '64M',
            '--serial',
            'stdio',
            '--debug-exit',
            '0xf4',
        ] + options.extra.split()
        command += ['--stats', stats.name] + (['--direct', 'always'] if direct else ['--engine', options.engine])
    if options.trace:
        command += ['--trace', options.trace]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=options.timeout
        )
    except subprocess.TimeoutExpired as late:
        print((late.stdout or b'').decode('latin-1').replace('\r', ''))
        print(f'run_insn.py: no end within {options.timeout} s')
        return 1
    output = done.stdout.decode('latin-1').replace('\r', '')
    silent = [
        channel
        for channel in options.trace.split(',')
        if channel and not re.search(f"^{TRACED[channel]}: ", output, re.M)
    ]
    if silent:
        print(f'run_insn.py: {name}: --trace printed nothing of {silent}')
        return 1
    print(re.sub('^(site|aspace|direct): .*\n', '', output, flags=re.M), end='')
    if (
        direct
        and done.returncode == 1
        and re.search('--direct: (the host runs no 32-bit code|PTRACE_SYSEMU is refused)', output)
    ):
        return SKIPPED
    if direct and done.returncode == PASS and too_few(name, stats.name):
        print(f'run_insn.py: {name}: {too_few(name, stats.name)}')
        return 1
    if not options.qemu and done.returncode == PASS and wrong_counts(name, options.engine, stats.name):
        print(f'run_insn.py: {name}: {wrong_counts(name, options.engine, stats.name)}')
        return 1
    if done.returncode == PASS and f'{name}: PASS, ' in output:
        return 0
    print(
        f'run_insn.py: {name}: status {done.returncode}, which is '
        + {PASS: 'a pass without its PASS line', FAIL: 'failed checks'}.get(
            done.returncode, 'neither passed nor failed: it died'
        )
    )
    return 1


if __name__ == '__main__':
    sys.exit(main())
