#!/usr/bin/env python3
"""What instruments cost (docs/instruments.md), in turns with QEMU's TCG and plugins of it: the loops of
bench/kernel/watched.c as they are; with doors that nobody uses; after a debugger has left; under one whose breakpoints
and watchpoints are never met; with each block, or each instruction, counted; with a function called; with a trace
stream that another process reads.

    bench/instruments.py [--transvisor PROGRAM] [--only KIND,..] [--loops LOOP,..] [--runs 5] [--brief] [--json FILE]

A figure in ns is of one pass, in CPU time of the thread that runs the guest; of streams and of execlog, in time that
passes. Ratios are those of one round, against the loop as it is, or (beside) to execlog's. An event is a record of the
stream, of which a block is one, however many instructions it has; of execlog, an instruction or an access to memory. It
writes them to /dev/null.
execlog is built from QEMU's sources, which tests/guests/fetch.sh has; the plugin that counts each block is
bench/qemu_count.c. Medians of all rounds.
"""
import argparse
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'tests', 'gdb')]
import machine  # noqa: E402  (what is beside this file)
import material  # noqa: E402
import rows  # noqa: E402
import rsp  # noqa: E402
import table  # noqa: E402

LOOPS = ['short', 'hash', 'sort']
# Instructions and accesses of a pass, which is what execlog tells of: as the loops are written. A pass of `sort` has
# many, and calls of each block would say nothing of one.
EVENTS = {'short': 2, 'hash': 9 + 3}
DEBUG_EXIT, DONE = '0xf4', 0x10 << 1 | 1
FUNCTION = 'const char f_signature[] = "void (uint32_t)"; static unsigned n; void f(unsigned a) { n += a; }\n'
RING = 'size=16M'
OURS, QEMU = 'transvisor', 'qemu-tcg'
LIMIT = 300  # seconds of one run
# What docs/instruments.md holds, by a row's end: at most, or (True) at least.
AIMS = {
    'doors_ratio': (1.02, False),
    'detached_ratio': (1.02, False),
    'breakpoint_ratio': (1.02, False),
    'probe_ratio': (1.2, False),
    'call_each': (100, False),
    'stream_events': (100, True),
    'stream_beside_execlog': (20, True),
}


def thread_times(guest):
    """{thread: CPU time so far}. They stand from there on: else the guest asks for its byte meanwhile, and what the
    system says of a thread that runs is old."""
    guest.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, guest.pid, os.WSTOPPED)
    times = {}
    for thread in os.listdir(f'/proc/{guest.pid}/task'):
        with open(f'/proc/{guest.pid}/task/{thread}/schedstat', encoding='ascii') as file:
            times[thread] = int(file.read().split()[0])
    return times


PLUGINS = {'execlog': ('contrib', 'plugins', 'execlog.c'), 'probe': None}  # in QEMU's sources, or ours


def build_plugin(scratch, name):
    """A plugin of QEMU's, and why there is none."""
    try:
        source = material.fetch(os.path.join(material.GUESTS, 'fetch.sh'), 'qemu-source')['QEMU_SOURCE']
        flags = subprocess.run(['pkg-config', '--cflags', 'glib-2.0'], capture_output=True, text=True, check=True)
        plugin, theirs = os.path.join(scratch, name + '.so'), PLUGINS[name]
        subprocess.run(
            ['gcc', '-O2', '-shared', '-fPIC', *flags.stdout.split(), '-I', os.path.join(source, 'include', 'qemu')]
            + ['-o', plugin, os.path.join(source, *theirs) if theirs else os.path.join(HERE, 'qemu_count.c')],
            check=True,
        )
        return plugin, None
    except (OSError, KeyError) as error:
        return None, f'its build: {error}'
    except subprocess.CalledProcessError as error:
        return None, f'{os.path.basename(error.cmd[0])} failed{": " + error.stderr.strip() if error.stderr else ""}'


class Measure:
    """A method for each kind: it takes a loop, and returns ns of a pass and, of some, events a second. None: that loop
    has no such figure."""

    def __init__(self, options, scratch):
        self.program, self.scratch = os.path.abspath(options.transvisor), scratch
        self.brief = ' brief' if options.brief else ''
        self.kernel = material.build_kernel('watched')
        self.library, self.reader = os.path.join(scratch, 'f.so'), os.path.join(scratch, 'stream_count')
        source = os.path.join(scratch, 'f.c')
        with open(source, 'w', encoding='ascii') as file:
            file.write(FUNCTION)
        subprocess.run(['gcc', '-O2', '-shared', '-fPIC', '-o', self.library, source], check=True)
        include = ['-I', os.path.join(HERE, '..', 'include'), '-I', os.path.join(HERE, '..', 'examples', 'stream')]
        source = os.path.join(HERE, 'stream_count.c')
        subprocess.run(['gcc', '-O2', *include, '-o', self.reader, source], check=True)
        text = subprocess.run(['nm', '-S', self.kernel], stdout=subprocess.PIPE, check=True, text=True).stdout
        self.at = {name: int(at, 16) for at, name in re.findall(r'^(\w+) (?:\w+ )?\w (\w+)$', text, re.M)}
        self.size = {name: int(n, 16) for n, name in re.findall(r'^\w+ (\w+) \w (\w+)$', text, re.M)}
        self.plugin = {}  # by name

    def ours(self, loop, *words):
        return [self.program, 'run', '--kernel', self.kernel, '--append', loop + self.brief, '--memory', '64M'] + [
            *('--serial', 'stdio', '--debug-exit', DEBUG_EXIT, '--timeout', str(LIMIT), *words)
        ]

    def qemu(self, loop, *words):
        return ['qemu-system-i386', '-accel', 'tcg', '-m', '64M', '-nographic', '-no-reboot'] + [
            *('-kernel', self.kernel, '-append', loop + self.brief, '-monitor', 'none', '-serial', 'stdio'),
            *('-device', f'isa-debug-exit,iobase={DEBUG_EXIT},iosize=4', *words),
        ]

    def path(self, name):
        path = os.path.join(self.scratch, name)
        if os.path.exists(path):
            os.unlink(path)
        return path

    def run(self, arguments, counted=lambda: 0, started=lambda: None):
        """Passes, CPU ns and ns in which they were made, and what counted() came to meanwhile."""
        guest = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        try:
            started()
            result = None
            for line in guest.stdout:
                if b'BEGINS' in line:
                    cpu, before = thread_times(guest), counted()
                    guest.stdin.write(b'x')
                    began = time.monotonic_ns()
                    guest.send_signal(signal.SIGCONT)
                elif ends := re.search(rb'ENDS (\d+)', line):
                    passed = time.monotonic_ns() - began
                    busiest = max(ns - cpu.get(thread, 0) for thread, ns in thread_times(guest).items())
                    result = int(ends[1]), busiest, passed, counted() - before
                    guest.stdin.write(b'x')
                    guest.send_signal(signal.SIGCONT)
            if guest.wait() != DONE or not result:
                raise RuntimeError(f'{" ".join(arguments)}: ended with status {guest.returncode}')
            return result
        finally:
            guest.kill()
            guest.communicate()

    def cpu(self, arguments, started=lambda: None):
        passes, cpu, _, _ = self.run(arguments, started=started)
        return cpu / passes, None

    def plain(self, loop):
        return self.cpu(self.ours(loop))

    def doors(self, loop):
        doors = ['--gdb', 'unix:' + self.path('door'), '--monitor', 'unix:' + self.path('monitor')]
        return self.cpu(self.ours(loop, *doors))

    def debugged(self, loop, points, leaves=False):
        door, clients = self.path('door'), []

        def attach():
            clients.append(rsp.connect(door))
            for kind, where, n in points:
                clients[0].add(kind, where, n)
            if leaves:
                clients[0].good(b'D')
            else:
                clients[0].start()

        figure = self.cpu(self.ours(loop, '--gdb', 'unix:' + door, '--paused'), attach)
        clients[0].close()
        return figure

    def points(self):
        """In the loops' own page, where nothing is run; and elsewhere."""
        return [(rsp.HARD, self.at['never_run'], 1), (rsp.HARD, 0x3000000, 1)]

    def detached(self, loop):
        return self.debugged(loop, self.points(), leaves=True)

    def breakpoint(self, loop):
        return self.debugged(loop, self.points())

    def watchpoint(self, loop):
        return self.debugged(loop, [(2, 0x3100000, 4)])

    def count(self, loop):
        return self.cpu(self.ours(loop, '--count'))

    def probe(self, loop):
        """Of each block of the loop."""
        first, size = self.at[loop + '_passes'], self.size[loop + '_passes']
        return self.cpu(self.ours(loop, '--probe', f'block,at={first:#x}-{first + size - 1:#x}'))

    def call(self, loop):
        """Once a pass."""
        if loop not in EVENTS:
            return None
        where = f'insn,at={self.at[loop + "_again"]:#x}'
        return self.cpu(self.ours(loop, '--probe', where, '--call', f'{self.library}:f(u32 eax)'))

    def stream(self, loop, what='blocks+memory'):
        ring = os.path.join('/dev/shm', f'instruments-{os.getpid()}')
        state = {}

        def begin():
            end = time.monotonic() + LIMIT
            while not os.path.exists(ring) or os.path.getsize(ring) < 8192:
                assert time.monotonic() < end
                time.sleep(0.01)
            with open(ring, 'r+b') as file:
                state['map'] = mmap.mmap(file.fileno(), 4096)
            while state['map'][:8] != b'tvstream':
                time.sleep(0.01)
            state['reader'] = subprocess.Popen([self.reader, ring], stdout=subprocess.PIPE)

        def head():
            return struct.unpack_from('<Q', state['map'], 64)[0] // 16

        try:
            words = ['--trace-stream', f'{ring},what={what},wait=on,{RING}']
            passes, _, passed, records = self.run(self.ours(loop, *words), head, begin)
            said = state['reader'].communicate()[0]
            if b', 0 lost' not in said:
                raise RuntimeError(f'the reader of the stream: {said.decode()}')
        finally:
            if 'reader' in state:
                state['reader'].kill()
                state['reader'].wait()
            if os.path.exists(ring):
                os.unlink(ring)
        return passed / passes, records / passed * 1e9

    def stream_blocks(self, loop):
        return self.stream(loop, 'blocks')

    def qemu_plain(self, loop):
        return self.cpu(self.qemu(loop))

    def qemu_probe(self, loop):
        """Of each block of the machine: it cannot say which."""
        return self.cpu(self.qemu(loop, '-plugin', self.plugin['probe']))

    def qemu_execlog(self, loop):
        arguments = self.qemu(loop, '-plugin', self.plugin['execlog'], '-d', 'plugin', '-D', '/dev/null')
        passes, _, passed, _ = self.run(arguments)
        return passed / passes, EVENTS[loop] * passes / passed * 1e9 if loop in EVENTS else None


KINDS = ['plain', 'doors', 'detached', 'breakpoint', 'watchpoint', 'count', 'probe', 'call', 'stream', 'stream_blocks']
QEMU_KINDS = ['qemu_plain', 'qemu_probe', 'qemu_execlog']


def one_round(measure, loop, kinds, turn, into):
    """Adds the rows of one round of one loop."""
    figures = {kind: getattr(measure, kind)(loop) for kind in kinds[turn:] + kinds[:turn]}  # nobody is always first
    for kind in kinds:
        if not figures[kind]:
            continue
        ns, events = figures[kind]
        who, what = (QEMU, kind.partition('_')[2]) if kind in QEMU_KINDS else (OURS, kind)
        name = loop if what == 'plain' else f'{loop}_{what}'
        into.add(who, name, 'ns', ns)
        if events:
            into.add(who, f'{name}_events', 'million/s', events / 1e6)
        plain = figures.get('qemu_plain' if who == QEMU else 'plain')
        if plain and what != 'plain':
            into.add(who, f'{name}_ratio', 'x', ns / plain[0])
        if plain and what == 'call':
            into.add(who, f'{name}_each', 'ns', ns - plain[0])
    theirs = figures.get('qemu_execlog')
    for kind in ('stream', 'stream_blocks'):
        if theirs and theirs[1] and figures.get(kind):
            into.add(OURS, f'{loop}_{kind}_beside_execlog', 'x', figures[kind][1] / theirs[1])


def aims(measured):
    for row in measured:
        for end, (limit, least) in AIMS.items():
            if row['contestant'] == OURS and row['name'].partition('_')[2] == end:
                met = row['value'] >= limit if least else row['value'] <= limit
                bound = f'at {"least" if least else "most"} {limit}'
                yield f'aim {row["name"]}: {row["value"]:.3g} {row["unit"]}, {bound}: {"met" if met else "missed"}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--transvisor', default=os.path.join(HERE, '..', 'build', 'transvisor'))
    parser.add_argument('--only', default=','.join(KINDS + QEMU_KINDS), help='kinds: all of them, if not said')
    parser.add_argument('--loops', default=','.join(LOOPS))
    parser.add_argument('--runs', type=int, default=5, help='rounds')
    parser.add_argument('--brief', action='store_true', help='loops of some 10 ms: whether it works')
    parser.add_argument('--json', help='the rows, as `transvisor bench --json` writes them')
    options = parser.parse_args()
    kinds, loops = options.only.split(','), options.loops.split(',')
    for word, known in [(k, KINDS + QEMU_KINDS) for k in kinds] + [(loop, LOOPS) for loop in loops]:
        if word not in known:
            parser.error(f"there is no '{word}', but {', '.join(known)}")
    missing, into, began = {}, rows.Rows(), time.monotonic()
    about = machine.describe(os.path.abspath(options.transvisor))
    with tempfile.TemporaryDirectory() as scratch:
        measure = Measure(options, scratch)
        for name in PLUGINS:
            if 'qemu_' + name in kinds:
                measure.plugin[name], why = build_plugin(scratch, name)
                if why:
                    missing['qemu_' + name] = why
        if not about['versions']['qemu']:
            missing.update({kind: 'there is no qemu-system-i386' for kind in QEMU_KINDS if kind in kinds})
        kinds = [kind for kind in kinds if kind not in missing]
        for number in range(options.runs):
            for loop in loops:
                one_round(measure, loop, kinds, number % max(1, len(kinds)), into)
    measured = into.all()
    print(table.medians(measured, [who for who in (OURS, QEMU) if any(r['contestant'] == who for r in measured)]))
    for name, why in missing.items():
        print(f'missing: {name}: {why}')
    for line in aims(measured) if not options.brief else ():  # that is too short for figures
        print(line)
    if options.json:
        result = {
            'format': rows.FORMAT,
            'program': 'bench/instruments.py',
            'when': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
            'seconds': round(time.monotonic() - began),
            'runs': options.runs,
            'conditions': {'brief': options.brief},
            'machine': about,
            'rows': measured,
            'missing': missing,
        }
        with open(options.json, 'w', encoding='utf-8') as out:
            json.dump(result, out, indent=1)
    return 0 if measured else 1


if __name__ == '__main__':
    sys.exit(main())
