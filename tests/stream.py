#!/usr/bin/env python3
"""The trace stream from outside: --trace-stream, and the readers of examples/stream. Guests are those of cli.py, of a
few bytes each.

  stream.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD), under both engines
"""
import os
import re
import struct
import subprocess
import sys
import time

import cli
from cli import LIMIT, SPIN, check, out8

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'examples/stream')
INCLUDE = os.path.join(EXAMPLES, '../../include')
BLOCK, LEFT, READ, WRITE = range(1, 5)
START = 0x100020
END = out8(0xF4, 3) + SPIN
# mov ecx,1000; L: inc dword [200000h]; mov [ecx*4+300000h],ecx; dec ecx; jnz L; then it ends
LOOP = bytes.fromhex('b9e8030000 ff0500002000 890c8d00003000 49 75f0') + END


def reader(b, name):
    path = os.path.join(b.dir, name)
    if not os.path.exists(path):
        source = os.path.join(EXAMPLES, name + '.c')
        subprocess.run(['gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-I', INCLUDE, '-o', path, source], check=True)
    return path


def start_reader(b, name, *words):
    """A reader that listens; what it is connected to by."""
    path = os.path.join(b.dir, f'{name}-socket')
    r = subprocess.Popen(
        [reader(b, name), f'unix:{path}', *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    limit = time.monotonic() + LIMIT
    while not os.path.exists(path):
        check(time.monotonic() < limit, f'{name} does not listen')
        time.sleep(0.01)
    return r, f'unix:{path}'


def run(b, code, stream, *words, status=7):
    got, _, err = b.start(code, '--debug-exit', '0xf4', '--trace-stream', stream, *words).end()
    check(got == status, f'status {got} instead of {status}: {err!r}')
    return err


def records(path):
    with open(path, 'rb') as f:
        data = f.read()
    magic, version, header, size, _, ring = struct.unpack_from('<8sIIIIQ', data)
    head, lost, ended = struct.unpack_from('<QQI', data, 64)
    check((magic, version, size, ended) == (b'tvstream', 1, 16, 1), f'header {magic} {version} {size} {ended}')
    check(head <= ring and not lost, f'{head} bytes of {ring}, {lost} lost')
    return list(struct.iter_unpack('<BBHIQ', data[header : header + head]))


def a_file_has_blocks_and_accesses_with_their_values(b):
    path = os.path.join(b.dir, 'file')
    err = run(b, LOOP, f'{path},size=1M,what=blocks+memory,at={START:#x}-{START + 0xFF:#x}')
    all_of = records(path)
    check(f'trace stream: {len(all_of)} records\n' in err, err)
    accesses = [r for r in all_of if r[0] in (READ, WRITE)]
    want = []
    for i in range(1000):
        want += [(READ, 4, (START + 5) & 0xFFFF, 0x200000, i), (WRITE, 4, (START + 5) & 0xFFFF, 0x200000, i + 1)]
        want += [(WRITE, 4, (START + 11) & 0xFFFF, 0x300000 + 4 * (1000 - i), 1000 - i)]
    for got, right in zip(accesses, want):
        check(got == right, f'{got} instead of {right}')
    check(len(accesses) == len(want), f'{len(accesses)} accesses instead of {len(want)}')
    insns = sum(r[4] >> 16 & 0xFFFF for r in all_of if r[0] == BLOCK) - sum(r[4] for r in all_of if r[0] == LEFT)
    check(insns >= 1 + 4 * 1000 + 3, f'{insns} instructions')


def the_coverage_reader_writes_drcov(b):
    out = os.path.join(b.dir, 'cov')
    r, to = start_reader(b, 'drcov', out)
    run(b, LOOP, f'{to},what=blocks,wait=on')
    said = r.communicate(timeout=LIMIT)[0]
    check(r.returncode == 0 and ', 0 records lost' in said, said)
    with open(out, 'rb') as f:
        head, blocks = re.split(rb'(?<=bbs\n)', f.read(), maxsplit=1)
    check(head.startswith(b'DRCOV VERSION: 2\nDRCOV FLAVOR: drcov\nModule Table: version 2, count 1\n'), head)
    n = int(re.search(rb'BB Table: (\d+) bbs', head)[1])
    check(len(blocks) == 8 * n, f'{len(blocks)} bytes of {n} blocks')
    covered = set()
    for at, size, module in struct.iter_unpack('<IHH', blocks):
        check(module == 0 and size, f'{at:x}: {size} bytes of module {module}')
        covered.update(range(at, at + size))
    want = set(range(START, START + len(LOOP) - len(SPIN)))  # the debug exit ends it in front of that
    check(want <= covered, f'not covered: {sorted(want - covered)[:5]}')
    check(covered <= set(range(START, START + len(LOOP))), f'covered too: {sorted(covered - want)[:5]}')


def the_cache_reader_counts_what_a_cache_would_miss(b):
    r, to = start_reader(b, 'cache', '4', '4', '64')
    run(b, LOOP, f'{to},what=memory,wait=on,at={START:#x}-{START + 0xFF:#x}')
    said = r.communicate(timeout=LIMIT)[0]
    # 4000 bytes from 300004h on are 63 lines, which are used once, beside that of the counter.
    check(said == '3000 accesses, 64 misses (2.13 %), 0 records lost\n', said)


def a_reader_that_stops_does_not_stop_the_guest(b):
    r, to = start_reader(b, 'cache')
    r.send_signal(19)  # SIGSTOP
    code = LOOP.replace(b'\xe8\x03\x00\x00', b'\x00\x00\x01\x00', 1).replace(
        bytes.fromhex('890c8d'), bytes.fromhex('890c0d'), 1
    )
    # It has to have the descriptor before it stops: what it listens with is enough for that.
    err = run(b, code, f'{to},what=memory,size=64K')
    check(re.search(r'trace stream: \d+ records, \d+ lost\n', err), err)
    r.kill()
    r.communicate()


def a_reader_that_dies_is_waited_for_no_more(b):
    r, to = start_reader(b, 'cache')
    m = b.start(
        bytes.fromhex('ff0500002000 ebf8'), '--trace-stream', f'{to},what=memory,wait=on,size=64K', '--timeout', '3'
    )
    time.sleep(0.3)
    r.kill()
    r.communicate()
    got, _, err = m.end()
    check(got == 124 and 'the reader has gone' in err, f'{got}: {err!r}')


def a_machine_that_waits_can_be_ended(b):
    path = os.path.join(b.dir, 'nobody')
    err = run(b, SPIN_WRITING, f'{path},what=memory,size=64K,wait=on', '--timeout', '1', status=124)
    check('trace stream: ' in err, err)


SPIN_WRITING = bytes.fromhex('ff0500002000 ebf8')  # L: inc dword [200000h]; jmp L


def a_saved_machine_goes_on_with_a_stream(b):
    saved, path = os.path.join(b.dir, 'saved'), os.path.join(b.dir, 'file')
    image = b.start(
        SPIN_WRITING, '--stop-after', '20000', '--save-at-exit', saved, '--trace-stream', f'{path}-1,size=1M'
    )
    got, _, err = image.end()
    check(got == 0, f'{got}: {err!r}')
    p = subprocess.run(
        [
            b.program,
            'run',
            '--load',
            saved,
            '--engine',
            b.engine,
            '--stop-after',
            '2000',
            '--serial',
            'none',
            '--trace-stream',
            f'{path},size=1M,what=memory',
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
    )
    check(p.returncode == 0, f'{p.returncode}: {p.stderr}')
    values = [r[4] for r in records(path) if r[0] == WRITE and r[3] == 0x200000]
    check(values == list(range(10001, 11001)), f'{values[:2]} .. {values[-1:]}')


def what_is_wrong_is_one_line(b):
    d = b.dir
    for stream, said, status in (
        (f'{d}/x,what=dance', 'what=dance: not of blocks, memory, events', 2),
        (f'{d}/x,size=3M', 'size=3M: not a power of two', 2),
        (f'{d}/x,cpl=4', 'a privilege level is 0 to 3', 2),
        (f'{d}/x,at=9-8', 'at= is not an address', 2),
        (f'{d}/x,frob=1', "'frob=1' is none of", 2),
        (',what=blocks', 'does not begin with a FILE', 2),
        (f'unix:{d}/absent', 'the reader listens there before', 1),
        (f'{d}/no/such', 'No such file or directory', 1),
        ('/dev/null', 'not a regular file', 1),
    ):
        err = run(b, LOOP, stream, status=status)
        check(err.count('\n') == 1 and '--trace-stream' in err and said in err, f'{stream}: {err!r}')


CASES = cli.cases(globals(), __name__)

if __name__ == '__main__':
    sys.exit(cli.main(CASES, ('interp', 'bt'), 'stream.py'))
