#!/usr/bin/env python3
"""The program in surroundings that it did not choose: signals that its parent left blocked or ignored, descriptors that
are not there,
files that never answer, limits, a terminal that others want back.

  host.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD)
"""
import ctypes
import fcntl
import glob
import os
import pty
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import cli
from cli import HALT, LIMIT, POWEROFF, SPIN, Failure, check, out8, read

MANY = b'\xba\xf8\x03\x00\x00\xee\xeb\xfd'  # mov edx,3f8h; L: out dx,al; jmp L
EXIT = out8(0xF4, 16) + HALT  # status 33
DEBUG = ('--debug-exit', '0xf4')


def blocking(signals):
    return lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def limited(which, value):
    return lambda: resource.setrlimit(which, (value, value))


def ended(m, seconds=LIMIT):
    try:
        return m.process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise Failure(f'it did not end within {seconds} s') from None


def until(what, condition, more=lambda: ''):
    deadline = time.monotonic() + LIMIT
    while not condition():
        late = time.monotonic() >= deadline
        check(not late, f'{what} did not come {more() if late else ""}')
        time.sleep(0.01)


# ---- signals ----

# Pages: what is read through an empty window faults on the host. mov ecx,8; L: mov eax,[ecx*8+300000h]; loop L
TOUCH = bytes.fromhex('b908000000 8b04cd00003000 e2f7')


def signals_that_were_blocked_at_the_start_do_no_harm(b):
    every = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    for name, signals in (
        ('SIGSEGV', {signal.SIGSEGV}),
        ('real-time', set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1))),
        ('all', every),
    ):
        status, _, err = b.start(TOUCH + EXIT, *DEBUG, preexec_fn=blocking(signals)).end()
        check((status, err) == (33, ''), f'{name}: status {status}, {err!r}')
    m = b.start(out8(0x3F8, 0x2E) + SPIN, preexec_fn=blocking(every))
    m.read(1)
    m.process.send_signal(signal.SIGTERM)
    check(ended(m) == 128 + signal.SIGTERM, 'SIGTERM was blocked at the start, and does nothing')


def signals_that_were_ignored_at_the_start_stay_ignored(b):
    for sig in signal.SIGHUP, signal.SIGINT:
        m = b.start(out8(0x3F8, 0x2E) + SPIN, preexec_fn=lambda: signal.signal(sig, signal.SIG_IGN))
        m.read(1)
        m.process.send_signal(sig)
        time.sleep(0.3)
        check(m.process.poll() is None, f'{sig} ended it')
        m.process.send_signal(signal.SIGTERM)
        check(ended(m) == 128 + signal.SIGTERM, 'SIGTERM did not end it')


# ---- descriptors ----

# Fills memory from 0 on (where RAM's file begins), prints as much of something else, and compares: 16 if nothing has
# changed, else 32.
#   xor edi,edi; mov ecx,400h; mov eax,5a5a5a5ah; cld; rep stosd; mov edx,3f8h; mov al,2eh; mov ecx,4096; L: out dx,al;
#     loop L;
#   xor edi,edi; mov ecx,400h; mov eax,5a5a5a5ah; repe scasd; jne bad
FILL = bytes.fromhex(
    '31ff b900040000 b85a5a5a5a fc f3ab baf8030000 b02e b900100000 ee e2fd 31ff b900040000 b85a5a5a5a f3af 7512'
)


def closed_standard_descriptors_are_not_taken_by_files_of_ours(b):
    code = FILL + out8(0xF4, 16) + b'\xf4' * (0x12 - len(out8(0xF4, 16))) + out8(0xF4, 32) + HALT
    for closed in (0,), (1,), (2,), (0, 1), (0, 1, 2):
        m = b.start(
            code,
            *DEBUG,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: [os.close(n) for n in closed],
        )
        status = ended(m)
        check(status == 33, f'{closed}: status {status}')


def a_client_for_whom_there_is_no_descriptor_costs_nothing(b):
    path = os.path.join(b.dir, 'serial')
    # In jail root alone sees its descriptors.
    m = b.start(HALT, '--serial', f'unix:{path}', '--direct', 'off', '--no-jail')
    until('the socket', lambda: os.path.exists(path))
    time.sleep(0.2)
    used = len(os.listdir(f'/proc/{m.process.pid}/fd'))
    hard = resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE, (used, hard))
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    time.sleep(0.2)

    def ticks():
        with open(f'/proc/{m.process.pid}/stat') as f:
            return sum(int(t) for t in f.read().rsplit(')', 1)[1].split()[11:13])

    before = ticks()
    time.sleep(0.7)
    cost = (ticks() - before) / os.sysconf('SC_CLK_TCK')
    check(cost < 0.2, f'{cost} s of processor time in 0.7 s')
    resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE, (used + 1, hard))
    until('a descriptor for the client', lambda: len(os.listdir(f'/proc/{m.process.pid}/fd')) == used + 1)


# ---- files that keep us waiting ----


def waiting_for_a_fifo_ends_with_sigterm(b):
    for name in 'kernel', 'initrd', 'serial', 'stats':
        fifo = os.path.join(b.dir, f'fifo-{name}')
        os.mkfifo(fifo)
        words = {
            'kernel': ('--kernel', fifo),
            'initrd': ('--initrd', fifo),
            'serial': ('--serial', f'file:{fifo}'),
            'stats': ('--stats', fifo),
        }[name]
        m = b.start(SPIN, *words)
        time.sleep(0.3)
        check(m.process.poll() is None, f'{name}: it did not wait')
        m.process.send_signal(signal.SIGTERM)
        status, _, err = m.end()
        check((status, err) == (128 + signal.SIGTERM, ''), f'{name}: status {status}, {err!r}')


def a_fifo_serves_as_any_file(b):
    names = {name: os.path.join(b.dir, f'through-{name}') for name in ('kernel', 'serial', 'stats')}
    for fifo in names.values():
        os.mkfifo(fifo)
    m = b.start(SPIN, '--kernel', names['kernel'], '--serial', f'file:{names["serial"]}', '--stats', names['stats'])
    with open(names['kernel'], 'wb') as f:
        f.write(cli.multiboot(out8(0x3F8, 0x41) + POWEROFF))
    with open(names['serial'], 'rb') as f, open(names['stats'], 'rb') as g:
        text, stats = f.read(), g.read()
    status, _, err = m.end()
    check(
        (status, err, text) == (0, '', b'A') and stats.startswith(b'{'),
        f'status {status}, {err!r}, {text!r}, {stats[:20]!r}',
    )


def a_stuck_reader_of_a_serial_fifo_does_not_keep_it_from_stopping(b):
    fifo = os.path.join(b.dir, 'stuck')
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    m = b.start(MANY, '--serial', f'file:{fifo}')
    time.sleep(0.5)
    m.process.send_signal(signal.SIGTERM)
    check(ended(m) == 128 + signal.SIGTERM, f'status {m.process.returncode}')
    os.close(reader)


def a_client_that_does_not_read_is_waited_for_once(b):
    # mov ecx,20000h; mov edx,3f8h; L: out dx,al; loop L: what its socket does not hold is dropped
    path, stats = os.path.join(b.dir, 'serial'), os.path.join(b.dir, 'stats')
    wait = bytes.fromhex('bafd030000 ec a801 74f8')  # until a byte has come
    m = b.start(
        wait + bytes.fromhex('b900000200 baf8030000 ee e2fd') + EXIT,
        *DEBUG,
        '--serial',
        f'unix:{path}',
        '--stats',
        stats,
        '--memory',
        '16M',
    )
    until('the socket', lambda: os.path.exists(path))
    line = socket.socket(socket.AF_UNIX)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    until('a listener', lambda: not line.connect_ex(path))
    begin = time.monotonic()
    line.sendall(b'!')
    check(ended(m) == 33, f'status {m.process.returncode}')
    took = time.monotonic() - begin
    with open(stats) as f:
        dropped = int(re.search(r'"serial_dropped": (\d+)', f.read())[1])
    got = 0
    while chunk := line.recv(65536):
        got += len(chunk)
    check(dropped > 0 and got + dropped == 0x20000, f'{got} bytes came and {dropped} were dropped, of {0x20000}')
    check(took < 10, f'it took {took:.1f} s')


# ---- limits ----


def a_limit_of_file_size_is_an_error_or_does_no_harm(b):
    status, _, err = b.start(EXIT, *DEBUG, preexec_fn=limited(resource.RLIMIT_FSIZE, 1 << 20)).end()
    check(status == 33 or status == 1 and 'RLIMIT_FSIZE' in err and err.count('\n') == 1, f'status {status}, {err!r}')
    log = os.path.join(b.dir, 'log')
    m = b.start(MANY, '--serial', f'file:{log}')
    until('output', lambda: os.path.exists(log) and os.path.getsize(log))
    resource.prlimit(m.process.pid, resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
    time.sleep(0.5)
    check(m.process.poll() is None, f'status {m.process.returncode}: it ended when its file was full')
    m.process.send_signal(signal.SIGTERM)
    check(ended(m) == 128 + signal.SIGTERM, f'status {m.process.returncode}')


MIB, GIB = 1 << 20, 1 << 30


def with_little_address_space_it_runs_with_fewer_windows_or_none(b):
    for room, told in (30 * GIB, False), (2 * GIB + 16 * MIB, True):
        status, _, err = b.start(TOUCH + EXIT, *DEBUG, preexec_fn=limited(resource.RLIMIT_AS, room)).end()
        check(
            status == 33 and (err.count('\n') == 1 and 'RLIMIT_AS' in err if told else not err),
            f'{room >> 20} MiB: status {status}, {err!r}',
        )
    status, _, err = b.start(EXIT, *DEBUG, preexec_fn=limited(resource.RLIMIT_AS, 64 * MIB)).end()
    check(status == 1 and err.count('\n') == 1 and 'RLIMIT_AS' in err, f'64 MiB: status {status}, {err!r}')


# Ticks by the 8254: out 43h,34h; out 40h,0; out 40h,10h (3.4 ms), then in al,43h and HLT without interrupts would wait
# for ever; instead 2000h polls of port 61h, which take a microsecond each, while the host's alarm goes off for the
# 8254.
TICKS = out8(0x43, 0x34) + out8(0x40, 0) + out8(0x40, 0x10) + bytes.fromhex('b900200000 e461 e2fc')


def without_queued_signals_it_runs(b):
    status, _, err = b.start(TICKS + EXIT, *DEBUG, preexec_fn=limited(resource.RLIMIT_SIGPENDING, 0)).end()
    check((status, err) == (33, ''), f'status {status}, {err!r}')
    m = b.start(out8(0x3F8, 0x2E) + SPIN, preexec_fn=limited(resource.RLIMIT_SIGPENDING, 0))
    m.read(1)
    m.process.send_signal(signal.SIGTERM)
    check(ended(m) == 128 + signal.SIGTERM, f'status {m.process.returncode}')


# ---- refusals: seccomp filters that fail some system calls ----

CALLS = {
    'capset': 126,
    'clone3': 435,
    'close_range': 436,
    'memfd_create': 319,
    'prctl': 157,
    'ptrace': 101,
    'seccomp': 317,
    'timer_create': 222,
    'timerfd_create': 283,
}
ENOSYS, EPERM, EAGAIN = 38, 1, 11


def denying(calls, error):
    """For preexec_fn: these calls fail with error. SECCOMP_RET_ERRNO by number, whatever the arguments."""
    code = (
        [(0x20, 0, 0, 0)]
        + [s for name in calls for s in ((0x15, 0, 1, CALLS[name]), (0x06, 0, 0, 0x50000 | error))]
        + [(0x06, 0, 0, 0x7FFF0000)]
    )
    program = ctypes.create_string_buffer(b''.join(struct.pack('<HBBI', *s) for s in code))
    head = ctypes.create_string_buffer(struct.pack('<HxxxxxxQ', len(code), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)

    def install():
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, head):
            os._exit(99)

    install.keep = program
    return install


NO_FILTERS = 'transvisor: warning: jail: the host filters no system calls (seccomp)\n'


def what_can_be_worked_round_is(b):
    for calls, error in (
        ('memfd_create', EPERM),
        ('memfd_create', ENOSYS),
        ('timer_create', ENOSYS),
        ('timer_create', EAGAIN),
        ('clone3', ENOSYS),
        ('seccomp', EPERM),
    ):
        status, _, err = b.start(TOUCH + TICKS + EXIT, *DEBUG, preexec_fn=denying([calls], error)).end()
        told = NO_FILTERS if calls == 'seccomp' else ''
        check((status, err) == (33, told), f'{calls} {error}: status {status}, {err!r}')
    m = b.start(out8(0x3F8, 0x2E) + SPIN, preexec_fn=denying(['timer_create'], ENOSYS))
    m.read(1)
    m.process.send_signal(signal.SIGTERM)
    check(ended(m) == 128 + signal.SIGTERM, f'status {m.process.returncode}')


def what_cannot_is_one_line_with_the_name_of_the_call(b):
    for calls, words in (
        (['timer_create', 'timerfd_create'], ()),
        (['prctl'], ()),
        (['ptrace'], ('--direct', 'always')),
        (['prctl'], ('--direct', 'always')),
        (['close_range'], ('--direct', 'always')),
        (['capset'], ('--direct', 'always')),
        (['memfd_create'], ('--direct', 'always')),
    ):
        status, _, err = b.start(EXIT, *DEBUG, *words, preexec_fn=denying(calls, EPERM)).end()
        check(
            status == 1 and err.count('\n') == 1 and all(call in err for call in calls),
            f'{calls}: status {status}, {err!r}',
        )


# ---- /tmp ----


def a_jitdump_has_the_code_of_each_block_that_the_perf_map_names(b):
    m = b.start(EXIT, *DEBUG, '--perf-map', '--jitdump', '--engine', 'bt')
    pid, status = m.process.pid, m.end()[0]
    dump, names = f'/tmp/jit-{pid}.dump', f'/tmp/perf-{pid}.map'
    with open(dump, 'rb') as f:
        data = f.read()
    with open(names) as f:
        blocks = {int(line.split()[0], 16): line.split()[1:] for line in f}
    os.unlink(dump)
    os.unlink(names)
    magic, version, size, machine = struct.unpack_from('<IIII', data)
    check((magic, version, size, machine) == (0x4A695444, 1, 40, 62), f'{data[:40]!r}')
    at, index = size, 0
    while at < len(data):
        kind, length, _, told, _, _, address, n, number = struct.unpack_from('<IIQIIQQQQ', data, at)
        name, code = data[at + 56 : at + length - n].decode(), data[at + length - n : at + length]
        check((kind, told, number) == (0, pid, index), f'record {index}: {kind} {told} {number}')
        check([f'{n:x}', name.rstrip('\0')] == blocks[address] and len(code) == n, f'{name} {n}: {blocks[address]}')
        at, index = at + length, index + 1
    check(status == 33 and at == len(data) and index == len(blocks) > 0, f'{status}, {index} of {len(blocks)}')


def a_perf_map_is_never_written_through_what_lies_in_wait(b):
    victim = os.path.join(b.dir, 'victim')
    with open(victim, 'w') as f:
        f.write('keep\n')
    image = os.path.join(b.dir, 'image')
    with open(image, 'wb') as f:
        f.write(cli.multiboot(EXIT))
    for kind, plant in ('link', 'ln -s "$0"'), ('file of ours', 'cp "$0"'):
        script = f'{plant} /tmp/perf-$$.map; echo $$ >"$1"; shift; exec "$@"'
        p = subprocess.run(
            [
                'sh',
                '-c',
                script,
                victim,
                os.path.join(b.dir, 'pid'),
                b.program,
                'run',
                '--kernel',
                image,
                '--memory',
                '16M',
                *DEBUG,
                '--perf-map',
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT,
        )
        with open(os.path.join(b.dir, 'pid')) as f:
            planted = f'/tmp/perf-{int(f.read())}.map'
        with open(planted) as f:
            map_text = f.read()
        os.unlink(planted)
        with open(victim) as f:
            check(f.read() == 'keep\n', f'{kind}: it was written over')
        if kind == 'link':
            check(
                p.returncode == 1 and 'perf-map' in p.stderr and p.stderr.count('\n') == 1,
                f'{kind}: status {p.returncode}, {p.stderr!r}',
            )
        else:
            check(
                p.returncode == 33 and 'guest_kernel_' in map_text,
                f'{kind}: status {p.returncode}, {p.stderr!r}, {map_text!r}',
            )


# ---- the terminal ----


def under_a_shell(b, words):
    """The program in the foreground of a terminal of its own, under a parent with job control, so that signals can stop
    it."""
    near, far = pty.openpty()
    before = termios.tcgetattr(far)
    pid = os.path.join(b.dir, 'pid')
    script = 'set -m; "$@" & echo $! >"$0"; fg >/dev/null 2>&1; read x; fg >/dev/null 2>&1; read x'
    shell = subprocess.Popen(
        ['sh', '-c', script, pid, *words],
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    b.machines.append(shell)
    until('the raw terminal', lambda: termios.tcgetattr(far) != before)
    with open(pid) as f:
        return near, far, before, int(f.read())


def state(pid):
    try:
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rsplit(')', 1)[1].split()[0]
    except OSError:
        return 'gone'


def threads(pid):
    """What the kernel says of each thread of the process: for failures."""
    lines = []
    for path in sorted(glob.glob(f'/proc/{pid}/task/*/')):
        with open(path + 'status') as f:
            fields = dict(line.split(':', 1) for line in f if ':' in line)
        with open(path + 'wchan') as f:
            where = f.read()
        names = ('Name', 'State', 'SigPnd', 'ShdPnd', 'SigBlk')
        lines.append(' '.join(f'{name}={fields[name].strip()}' for name in names) + f' in {where}')
    return '\n'.join([''] + lines)


def a_terminal_is_put_back_by_every_signal_that_ends_the_program(b):
    image = os.path.join(b.dir, 'image')
    with open(image, 'wb') as f:
        f.write(cli.multiboot(SPIN))
    for name in 'HUP QUIT ILL TRAP ABRT BUS FPE SEGV USR2 ALRM XCPU VTALRM PROF IO SYS'.split():
        near, far, before, pid = under_a_shell(
            b, [b.program, 'run', '--kernel', image, '--memory', '16M', '--direct', 'off']
        )
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        os.kill(pid, getattr(signal, 'SIG' + name))
        until(f'{name}: the end', lambda: state(pid) in ('gone', 'Z'))
        check(termios.tcgetattr(far) == before, f'SIG{name} left the terminal raw')
        b.machines[-1].kill()
        os.close(near)
        os.close(far)


def a_terminal_is_put_back_while_the_program_is_stopped_and_raw_again_after(b):
    image = os.path.join(b.dir, 'image')
    with open(image, 'wb') as f:
        f.write(cli.multiboot(SPIN))
    near, far, before, pid = under_a_shell(
        b, [b.program, 'run', '--kernel', image, '--memory', '16M', '--direct', 'off']
    )
    os.kill(pid, signal.SIGTSTP)
    until('the stop', lambda: state(pid) == 'T')
    until('the old settings', lambda: termios.tcgetattr(far) == before)
    os.write(near, b'\n')  # the shell brings it back
    until('the raw terminal', lambda: termios.tcgetattr(far) != before and state(pid) != 'T')
    os.kill(pid, signal.SIGTERM)
    until('the end', lambda: state(pid) in ('gone', 'Z'), lambda: threads(pid))
    until('the old settings', lambda: termios.tcgetattr(far) == before)
    os.close(near)
    os.close(far)


CASES = cli.cases(globals(), __name__)

if __name__ == '__main__':
    sys.exit(cli.main(CASES, ('bt',), 'host.py'))
