#!/usr/bin/env python3
"""Debian's gdb looks into Debian's kernel.

  debugger.py --transvisor FILE [--work DIRECTORY] NAME
  debugger.py --list --long yes|no

steps    From the first instruction on gdb makes a thousand steps as the interpreter's trace goes, under each engine.
many-steps  Ten thousand.
kernel   A hardware breakpoint that is set before the first instruction stops at start_kernel; a watchpoint sees jiffies
         go; REP, IRET, SYSENTER and INT are stepped over. Where things are the guest has said in a boot before.
symbols  The same by the kernel's own debug symbols, from a package of 760 MB.
load     A debugger comes, looks, steps and goes a hundred times, while the guest computes; what it computes is right.
Status 77: what it needs is not here.
"""
import argparse
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'gdb'))
import rsp  # noqa: E402
from fetched import SKIPPED, fetched  # noqa: E402

OPTIONS = argparse.Namespace()
LIMIT = 900
NAMES = ['start_kernel', 'do_timer', 'memcpy', 'entry_INT80_32', 'entry_SYSENTER_32']  # the table has functions alone
MEGABYTES = 64


class Guest:
    """The kernel with a shell on its serial port."""

    def __init__(self, kernel, work, *words, engine='bt', place='nokaslr'):
        self.door = os.path.join(work, 'door')
        initramfs = os.path.join(work, 'shell.cpio')
        if not os.path.exists(initramfs):
            subprocess.run([os.path.join(HERE, 'mkinitramfs.sh'), 'shell', initramfs], check=True)
        self.process = subprocess.Popen(
            [OPTIONS.transvisor, 'run', '--kernel', kernel, '--initrd', initramfs, '--memory', '128M']
            + ['--append', f'console=ttyS0 panic=-1 {place} norandmaps loglevel=4', '--engine', engine]
            + ['--timeout', str(LIMIT), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.text, self.seen, self.changed, self.ended = b'', 0, threading.Condition(), False
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            data = os.read(self.process.stdout.fileno(), 65536)
            with self.changed:
                self.text += data
                self.ended = not data
                self.changed.notify_all()
            if not data:
                return

    def says(self, pattern):
        """Waits until it has; returns what it is, and goes on behind it."""
        until = time.monotonic() + LIMIT
        with self.changed:
            while not (found := re.compile(pattern).search(self.text, self.seen)):
                if self.ended or not self.changed.wait(max(until - time.monotonic(), 0)):
                    raise AssertionError(f'the guest did not say {pattern}: {self.text[-2000:].decode("latin-1")}')
            self.seen = found.end()
            return found

    def types(self, line):
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def table(g, names):
    """What the guest's own table says."""
    g.says(rb'/ # ')
    g.types(f"grep -E ' ({'|'.join(names)})$' /proc/kallsyms; echo th''at is all")
    begin, end = g.says(rb'kallsyms').end(), g.says(rb'that is all').start()
    text = g.text[begin:end].decode('latin-1')
    return {name: int(at, 16) for at, name in re.findall(r'([0-9a-f]{8}) \w (\w+)\s', text)}


def addresses(kernel, work):
    """Each boot has the same (nokaslr)."""
    with Guest(kernel, work) as g:
        found = table(g, NAMES)
    assert sorted(found) == sorted(NAMES), found
    return found


def traced(kernel, n):
    """The registers at each of the first n instructions, of the first of each run of them at one place."""
    command = [OPTIONS.transvisor, 'run', '--kernel', kernel, '--append', 'nokaslr', '--memory', '128M']
    p = subprocess.run(
        command + ['--engine', 'interp', '--serial', 'null', '--trace', 'exec', '--stop-after', str(n)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=LIMIT,
    )
    rows = rsp.traced_rows(p.stderr.decode())
    assert len(rows) > n // 2, p.stderr[-500:]
    return rows[:-1]  # the last may not be done


def debug(work, what, door, at=None, trace=None, symbols=None):
    """What gdb says of that task."""
    with open(os.path.join(work, 'task.py'), 'w', encoding='ascii') as f:
        task = {'what': what, 'door': door, 'at': at or {}, 'trace': trace or [], 'symbols': bool(symbols)}
        f.write(f'import json\nTASK = json.loads({json.dumps(task)!r})\n')
        with open(os.path.join(HERE, 'debugger_inside.py'), encoding='ascii') as inside:
            f.write(inside.read())
    until = time.monotonic() + LIMIT
    while not os.path.exists(door):
        assert time.monotonic() < until, 'no door'
        time.sleep(0.05)
    command = ['gdb', '-nx', '-batch', *([symbols] if symbols else []), '-x', f.name]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
    assert 'GDB IS CONTENT' in out.stdout, out.stdout[-3000:]
    return out.stdout


def steps(kernel, work, n=1000):
    rows = traced(kernel, n)
    for engine in ('bt', 'interp'):
        door = os.path.join(work, f'door-{engine}')
        with subprocess.Popen(
            [OPTIONS.transvisor, 'run', '--kernel', kernel, '--append', 'nokaslr', '--memory', '128M']
            + ['--engine', engine, '--serial', 'null', '--gdb', 'unix:' + door, '--paused', '--timeout', str(LIMIT)]
        ) as process:
            try:
                out = debug(work, 'steps', door, trace=rows)
            finally:
                process.kill()
        print(f'{engine}: {re.search("STEPS .*", out)[0]}, {len(rows)} rows of the trace')


def many_steps(kernel, work):
    steps(kernel, work, 10000)


def kernel_(kernel, work, symbols=None):
    at = {} if symbols else addresses(kernel, work)
    with Guest(kernel, work, '--gdb', f'unix:{work}/door', '--paused') as g:
        debug(work, 'kernel', g.door, at=at, symbols=symbols)


def symbols(kernel, work):
    kernel_(kernel, work, fetched('the debug symbols are not to be had', '686', 'symbols-686')['SYMBOLS_686'])


def slid(kernel, work):
    """A kernel that chooses its place: --symbols FILE,slide=auto finds it, for the monitor and for perf."""
    with Guest(kernel, work) as g:
        found = table(g, [*NAMES, 'asm_exc_.*', 'early_idt_handler_array', 'schedule'])
    path, door = os.path.join(work, 'map'), os.path.join(work, 'monitor')
    with open(path, 'w', encoding='ascii') as file:
        file.writelines(f'{at:08x} T {name}\n' for name, at in found.items())
    words = ['--symbols', path + ',slide=auto', '--perf-map', '--human-monitor', 'unix:' + door]
    slides = set()
    for _ in range(8):  # there are few places: chance may choose the usual one
        with Guest(kernel, work, *words, place='kaslr') as g:
            there = table(g, NAMES)
            slide = there['do_timer'] - found['do_timer']
            assert all(there[name] == found[name] + slide for name in NAMES), (there, found)
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(door)
                s.sendall(b'info symbol schedule+4\ninfo symbol 0x%x\n' % (there['memcpy'] + 3))
                said = b''
                while b' is memcpy+0x3' not in said:
                    part = s.recv(4096)
                    assert part, said
                    said += part
            assert b'schedule+4 is at %08x' % (found['schedule'] + slide + 4) in said, said
            with open(f'/tmp/perf-{g.process.pid}.map', encoding='ascii') as file:
                names = {line.split()[2].split('+')[0] for line in file}
            os.unlink(file.name)
        assert {'start_kernel', 'do_timer', 'schedule'} <= names, [n for n in names if not n.startswith('guest_')]
        slides.add(slide)
        if slide:
            break
    assert slides != {0}, 'it always chose the usual place'
    print(f'slides: {", ".join(map(hex, slides))}')


def load(kernel, work):
    with Guest(kernel, work, '--gdb', f'unix:{work}/door') as g:
        g.says(rb'/ # ')
        g.types(f'while [ ! -e /tmp/end ]; do dd if=/dev/zero bs=1M count={MEGABYTES} 2>&- | md5sum; done &')
        want = hashlib.md5(bytes(MEGABYTES << 20)).hexdigest().encode()
        for i in range(100):
            c = rsp.connect(g.door)
            at = c.registers()['eip']
            c.memory(at, 1)
            c.add(rsp.HARD, at)
            for _ in range(i % 4):
                c.step()
            c.remove(rsp.HARD, at)
            c.good(b'D')
            c.close()
        g.types('touch /tmp/end; wait; echo ev""ery sum')
        end = g.says(rb'every sum').start()
        sums = re.findall(rb'([0-9a-f]{32})  -', g.text[:end])
        assert sums and set(sums) == {want}, sums
        print(f'a hundred debuggers, {len(sums)} sums')


TESTS = {'steps': steps, 'many-steps': many_steps, 'kernel': kernel_, 'symbols': symbols, 'slid': slid, 'load': load}
LONG = ('many-steps', 'symbols')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', default='no')
    parser.add_argument('name', nargs='?', choices=TESTS)
    parser.parse_args(namespace=OPTIONS)
    if OPTIONS.list:
        print(';'.join(name for name in TESTS if (name in LONG) == (OPTIONS.long == 'yes')))
        return 0
    if not shutil.which('gdb'):
        print('skipped: gdb is not installed')
        return SKIPPED
    kernel = fetched('the kernel is not to be had', '686', 'busybox')['KERNEL_686']
    with tempfile.TemporaryDirectory(dir=OPTIONS.work) as work:
        TESTS[OPTIONS.name](kernel, work)
    return 0


if __name__ == '__main__':
    sys.exit(main())
