#!/usr/bin/env python3
"""The program from outside: exit statuses, signals, the console's keys, reboots, statistics. Guests are a few bytes
each.

  cli.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD), under both engines
  cli.py TRANSVISOR --no-jail     those that ask something of the jail, outside of it
"""
import argparse
import errno
import json
import os
import pty
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

LIMIT = 30  # seconds that any single wait may take


class Failure(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failure(text)


# ---- guests: Multiboot, loaded flat at 1 MiB; code follows the header ----


def multiboot(code):
    flags = 1 << 16
    header = struct.pack(
        '<IIIIIIII', 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, 0x100000, 0x100000, 0, 0, 0x100020
    )
    return header + code


def out8(port, value):
    return (
        b'\xba' + struct.pack('<I', port) + b'\xb0' + bytes([value]) + b'\xee'
    )  # mov edx,port; mov al,value; out dx,al


def out16(port, value):
    return b'\xba' + struct.pack('<I', port) + b'\x66\xb8' + struct.pack('<H', value) + b'\x66\xef'


HALT = b'\xfa\xf4\xeb\xfc'  # cli; hlt; jmp back
SPIN = b'\xeb\xfe'
POWEROFF = out16(0x604, 1 << 13 | 5 << 10) + HALT
RESET = out8(0xCF9, 6) + HALT
TRIPLE = b'\x0f\x0b'  # ud2, and no IDT to speak of
# Echoes COM1 until a '!' comes, then exits with 7 by port F4h:
#   poll: mov edx,3fdh; in al,dx; test al,1; jz poll; mov edx,3f8h; in al,dx; cmp al,'!'; je end; out dx,al; jmp poll
ECHO = bytes.fromhex('bafd030000 ec a801 74f6 baf8030000 ec 3c21 7403 ee ebe9') + out8(0xF4, 7) + HALT


class Machine:
    """A started transvisor. stdin and stdout are pipes unless said otherwise."""

    def __init__(self, bench, code, *words, **popen):
        image = os.path.join(bench.dir, 'guest')
        with open(image, 'wb') as f:
            f.write(multiboot(code))
        settings = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
        settings.update(popen)
        self.process = subprocess.Popen(
            [bench.program, 'run', '--kernel', image, '--memory', '16M', '--engine', bench.engine, *bench.jail(words)],
            **settings,
        )
        bench.machines.append(self.process)

    def end(self, data=None):
        try:
            out, err = self.process.communicate(data, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise Failure('it did not end') from None
        return self.process.returncode, out, (err or b'').decode('latin-1')

    def read(self, n):
        return read(self.process.stdout.fileno(), n)


def read(fd, n):
    data = b''
    deadline = time.monotonic() + LIMIT
    while len(data) < n:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        check(ready, f'only {data!r} came')
        more = os.read(fd, n - len(data))
        check(more, f'it ended after {data!r}')
        data += more
    return data


class Bench:
    def __init__(self, program, engine, folder, jailed=True):
        self.program, self.engine, self.dir, self.jailed = program, engine, folder, jailed
        self.machines = []

    def jail(self, words):
        """The words of `run`, outside of the jail if that is what is tested."""
        return words if self.jailed else [*words, '--no-jail']

    def start(self, code, *words, **popen):
        return Machine(self, code, *words, **popen)


def in_jail(case):
    """Marks a case that asks something of the jail: files, the terminal, serial lines, signals, resets."""
    case.in_jail = True
    return case


# ---- cases: each is named by the sentence it proves ----


def power_off_ends_with_0(b):
    status, out, err = b.start(POWEROFF).end()
    check((status, out, err) == (0, b'', ''), f'status {status}, {out!r}, {err!r}')


def debug_exit_ends_with_the_value_times_two_plus_one(b):
    for value, want in ((0, 1), (16, 33), (127, 255), (128, 1)):
        status, _, err = b.start(out8(0xF4, value) + HALT, '--debug-exit', '0xf4').end()
        check(status == want and not err, f'{value}: status {status}, {err!r}')


def without_the_option_the_debug_exit_port_does_nothing(b):
    status, _, _ = b.start(out8(0xF4, 16) + POWEROFF).end()
    check(status == 0, f'status {status}')


def the_selector_at_entry_is_chosen(b):
    code = b'\x66\x8c\xc8\xba\xf4\x00\x00\x00\xee' + HALT  # mov ax,cs; mov edx,f4h; out dx,al
    for words, cs in (((), 0x10), (('--entry-cs', '0x10'), 0x10), (('--entry-cs', '0x08'), 8)):
        status, _, err = b.start(code, '--debug-exit', '0xf4', *words).end()
        check((status, err) == (cs << 1 | 1, ''), f'{words}: status {status}, {err!r}')


def every_channel_of_the_trace_prints(b):
    # What each is made of: a CR0 write, INVLPG, CPUID, an MSR, ports, device memory, a fault (which ends it), and a
    # block that is left twice the same way, since that is when it is linked.
    code = (
        # mov esp,..; mov cr0; invlpg; cpuid; rdmsr
        b'\xbc\x00\x00\x20\x00\x0f\x20\xc0\x0f\x22\xc0\x0f\x01\x38\x0f\xa2\xb9\x1b\x00\x00\x00\x0f\x32'
        b'\xa1\x20\x00\xe0\xfe\xb9\x40\x00\x00\x00' + b'\x49\x75\xfd' + out8(0x80, 1) + b'\x0f\x0b'
    )  # mov eax,[fee00020h]; loop; out; ud2
    want = {
        'exec': 'exec 00100020: eax',
        'exc': 'exception 06',
        'mmu': 'invlpg',
        'io': 'out 0080.1 = 1',
        'msr': 'rdmsr 0000001b',
    }
    if b.engine == 'bt':
        want |= {
            'guest': '00100020',
            'host': '00100020',
            'exits': 'exit ',
            'chain': 'chain: 001',
            'smc': 'smc: code page 100000',
        }
    for channel, line in want.items():
        status, _, err = b.start(code, '--trace', channel).end()
        check(status == 3 and line in err, f'{channel}: status {status}, no {line!r} in {err[:300]!r}')
    status, _, err = b.start(code, '--trace', 'io').end()
    check('read  fee00020.4' in err, f'io: no device memory in {err[:300]!r}')
    status, _, err = b.start(code, '--trace', 'msr').end()
    check('cpuid 0' in err, f'msr: no CPUID in {err[:300]!r}')


@in_jail
def a_triple_fault_ends_with_3_and_a_diagnosis(b):
    status, _, err = b.start(b'\xb8\x78\x56\x34\x12' + TRIPLE).end()
    check(status == 3, f'status {status}, {err!r}')
    for word in ('triple fault', '12345678', '00100025', 'ud2'):
        check(word in err.lower(), f'the diagnosis lacks {word}: {err}')


def a_reset_with_no_reboot_ends_with_0(b):
    status, _, err = b.start(RESET, '--no-reboot').end()
    check((status, err) == (0, ''), f'status {status}, {err!r}')


@in_jail
def a_reset_starts_the_machine_anew(b):
    # It increments a byte of RAM and sends it: were RAM kept, it would not be 'A' each time.
    code = bytes.fromhex('8005 00002000 41 a0 00002000 baf8030000 ee') + RESET
    m = b.start(code)
    check(m.read(5) == b'AAAAA', 'RAM was not as at power-on')
    m.process.send_signal(signal.SIGTERM)
    check(m.end()[0] == 128 + signal.SIGTERM, 'it did not end by the signal')


@in_jail
def signals_stop_it_and_statistics_are_written(b):
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for code in (SPIN, HALT):
            path = os.path.join(b.dir, 'stats.json')
            m = b.start(out8(0x3F8, 0x2E) + code, '--stats', path)
            m.read(1)
            m.process.send_signal(sig)
            status, _, err = m.end()
            check((status, err) == (128 + sig, ''), f'{sig}: status {status}, {err!r}')
            with open(path) as f:
                stats = json.load(f)
            check(isinstance(stats, dict) and stats, 'no statistics')
            os.unlink(path)


@in_jail
def input_from_a_pipe_reaches_the_guest_byte_by_byte(b):
    text = bytes(range(1, 33)) + b'text\x01x\x03\x04' + bytes(range(128, 256))
    status, out, err = b.start(ECHO, '--debug-exit', '0xf4').end(text + b'!')
    check((status, out, err) == (15, text, ''), f'status {status}, {out!r}, {err!r}')


def much_input_is_not_lost(b):
    text = b'0123456789abcdef' * 4096
    status, out, _ = b.start(ECHO, '--debug-exit', '0xf4').end(text + b'!')
    check(status == 15 and out == text, f'status {status}, {len(out)} bytes of {len(text)}')


def end_of_input_does_not_end_the_machine(b):
    m = b.start(out8(0x3F8, 0x2E) + HALT, stdin=subprocess.DEVNULL)
    m.read(1)
    time.sleep(0.3)
    check(m.process.poll() is None, 'it ended')
    m.process.send_signal(signal.SIGTERM)
    m.end()


@in_jail
def a_terminal_is_raw_while_it_runs_and_its_keys_work(b):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    m = b.start(out8(0x3F8, 0x2E) + ECHO, stdin=slave, stdout=slave)
    read(master, 1)
    check(not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG), 'it is not raw')
    os.write(master, b'a\x03\x01\x01b')
    got = read(master, 4)
    check(got == b'a\x03\x01b', f'{got!r} came back')
    os.write(master, b'\x01x')
    status, _, err = m.end()
    check((status, err) == (0, ''), f'status {status}, {err!r}')
    check(termios.tcgetattr(slave) == before, 'the terminal is not as it was')


@in_jail
def a_terminal_is_put_back_when_a_signal_or_an_abort_ends_it(b):
    for sig, want in (
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGABRT, -signal.SIGABRT),
        (signal.SIGSEGV, -signal.SIGSEGV),
    ):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        m = b.start(
            out8(0x3F8, 0x2E) + SPIN,
            stdin=slave,
            stdout=slave,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        )
        read(master, 1)
        m.process.send_signal(sig)
        status = m.end()[0]
        check(status == want, f'{sig}: status {status}')
        check(termios.tcgetattr(slave) == before, f'{sig}: the terminal is not as it was')
        os.close(master)
        os.close(slave)


@in_jail
def a_unix_socket_is_a_serial_line(b):
    path = os.path.join(b.dir, 'serial')
    m = b.start(ECHO, '--serial', f'unix:{path}', '--debug-exit', '0xf4')
    deadline = time.monotonic() + LIMIT
    line = socket.socket(socket.AF_UNIX)
    while True:
        try:
            line.connect(path)
            break
        except (FileNotFoundError, ConnectionRefusedError):  # not bound yet, or not listening
            check(time.monotonic() < deadline, 'nobody listens on the socket')
            time.sleep(0.01)
    line.sendall(b'over a socket')
    got = read(line.fileno(), 13)
    check(got == b'over a socket', f'{got!r} came back')
    line.sendall(b'!')
    check(m.end()[0] == 15, 'wrong status')
    check(not os.path.exists(path), 'the socket is left behind')


@in_jail
def a_serial_file_and_port_e9_are_written(b):
    path = os.path.join(b.dir, 'log')
    status, out, _ = b.start(out8(0x3F8, 0x41) + out8(0xE9, 0x42) + POWEROFF, '--serial', f'file:{path}').end()
    with open(path, 'rb') as f:
        text = f.read()
    check((status, out, text) == (0, b'', b'AB'), f'status {status}, {out!r}, {text!r}')


def a_halted_machine_takes_no_time(b):
    m = b.start(out8(0x3F8, 0x2E) + HALT)
    m.read(1)
    with open(f'/proc/{m.process.pid}/stat') as f:
        before = f.read()
    time.sleep(1)
    with open(f'/proc/{m.process.pid}/stat') as f:
        after = f.read()

    def ticks(text):
        return sum(int(t) for t in text.rsplit(')', 1)[1].split()[11:13])

    used = (ticks(after) - ticks(before)) / os.sysconf('SC_CLK_TCK')
    m.process.send_signal(signal.SIGTERM)
    m.end()
    check(used <= 0.02, f'{used} s of processor time in a second')


def files(folder):
    return {name: os.stat(os.path.join(folder, name)) for name in os.listdir(folder)}


def stats_of(bench, code, *words):
    path = os.path.join(bench.dir, 'stats.json')
    status, _, err = bench.start(code, '--stats', path, *words).end()
    check((status, err) == (0, ''), f'status {status}, {err!r}')
    with open(path) as f:
        return json.load(f)


def work(end):
    # mov esp,200000h; mov ecx,1000; L: inc eax; call F; dec ecx; jnz L; end; F: xor ebx,eax; ret
    return (
        b'\xbc\x00\x00\x20\x00\xb9\xe8\x03\x00\x00\x40\xe8'
        + struct.pack('<I', 3 + len(end))
        + b'\x49\x75\xf7'
        + end
        + b'\x31\xc3\xc3'
    )


def a_second_run_with_a_cache_translates_nothing(b):
    cache = os.path.join(b.dir, 'cache')
    old = os.umask(0)
    try:
        first = stats_of(b, work(POWEROFF), '--cache', cache)
    finally:
        os.umask(old)
    check(os.stat(cache).st_mode & 0o777 == 0o700, 'the directory is open to others')
    if b.engine == 'interp':
        check(not files(cache), f'the interpreter kept {list(files(cache))}')
        return
    kept = files(cache)
    check(len(kept) == 1 and first['blocks'] > 2 and not first['cloned'], f'{list(kept)}, {first}')
    check(list(kept.values())[0].st_mode & 0o777 == 0o600, 'the file is open to others')
    second = stats_of(b, work(POWEROFF), '--cache', cache)
    check(second['templates_loaded'] == first['templates'] > 2, f'{first} {second}')
    check(second['blocks'] == 0 and second['cloned'] >= first['blocks'], f'{first} {second}')
    check(
        files(cache) == {name: st for name, st in files(cache).items() if st.st_ino == kept[name].st_ino},
        'it was written again for nothing',
    )
    third = stats_of(b, work(POWEROFF), '--cache', cache, '--disable', 'ctl')
    check(third['templates_loaded'] == 0 and len(files(cache)) == 2, 'other options took the same file')


@in_jail
def a_cache_outlives_a_reset(b):
    cache = os.path.join(b.dir, 'cache')
    m = b.start(work(out8(0x3F8, 0x41) + RESET), '--cache', cache)
    check(m.read(3) == b'AAA', 'it did not start anew')
    m.process.send_signal(signal.SIGTERM)
    status, _, err = m.end()
    check((status, err) == (128 + signal.SIGTERM, ''), f'status {status}, {err!r}')
    check(len(files(cache)) == (b.engine == 'bt'), f'{list(files(cache))}')


@in_jail
def a_cache_directory_keeps_few_files(b):
    cache = os.path.join(b.dir, 'cache')
    os.mkdir(cache)
    for i in range(20):
        path = os.path.join(cache, f'templates-{i:016x}')
        with open(path, 'w') as f:
            f.write('old')
        os.utime(path, (1000 + i, 1000 + i))
    for name in ('notes', 'templates-0000000000000000.new', 'templates-000000000000000g'):
        with open(os.path.join(cache, name), 'w') as f:
            f.write('not ours to judge')
    stats_of(b, work(POWEROFF), '--cache', cache)
    left = sorted(name for name in files(cache) if len(name) == 26 and name[-1] != 'g')
    if b.engine == 'bt':
        check(
            len(left) == 8 and [f'templates-{i:016x}' in left for i in range(12, 20)] == [False] + [True] * 7, f'{left}'
        )
    else:
        check(len(left) == 20, f'{left}')
    check(len(files(cache)) == len(left) + 3, f'{list(files(cache))}')


def the_guest_stops_after_exactly_so_many_instructions(b):
    # mov ecx, 1000; 1: dec ecx; jnz 1b; then 2001 have been done, and a further two write 3 to the debug-exit port.
    code = b'\xb9\xe8\x03\x00\x00' + b'\x49\x75\xfd' + out8(0xF4, 3) + SPIN

    def run(*words):
        path = os.path.join(b.dir, 'stats')
        m = b.start(code, '--debug-exit', '0xf4', '--stats', path, *words)
        status = m.end()[0]
        with open(path, encoding='utf-8') as f:
            return status, json.load(f).get('instructions_retired')

    check(run('--count') == (7, 2004), f'{run("--count")} instead of 7, 2004')
    for n in (1, 2, 3, 777, 2000, 2003):
        got = run('--stop-after', str(n))
        check(got == (0, n), f'--stop-after {n}: {got}')
    check(run('--stop-after', '5000') == (7, 2004), 'a limit that is not reached changed something')


def a_guest_with_a_speed_takes_its_time_and_leaves_the_host_the_rest(b):
    # mov ecx, 2000000; 1: dec ecx; jnz 1b; then out: four million instructions, 0.4 s at 10 MHz.
    code = b'\xb9\x80\x84\x1e\x00' + b'\x49\x75\xfd' + out8(0xF4, 3) + SPIN
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    check(b.start(code, '--debug-exit', '0xf4', '--speed', '10').end()[0] == 7, 'it did not end')
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    check(took > 0.39, f'0.4 s took {took}')
    check(cpu < took * 0.75, f'of {took} s {cpu} were spent')


def say(text):
    """Sends it on COM1."""
    return b''.join(out8(0x3F8, c) for c in text)


def a_timeout_ends_with_124(b):
    for code in (SPIN, HALT):
        begin = time.monotonic()
        status, _, err = b.start(code, '--timeout', '1').end()
        check((status, err) == (124, '') and time.monotonic() - begin >= 1, f'status {status}, {err!r}')
    status, _, err = b.start(POWEROFF, '--timeout', '20.5').end()
    check((status, err) == (0, ''), f'in time: status {status}, {err!r}')


@in_jail
def an_expected_text_ends_with_0(b):
    for end in (SPIN, HALT):
        status, out, err = b.start(say(b'a login: ') + end, '--expect', 'login:').end()
        check((status, err) == (0, '') and out.startswith(b'a login:'), f'status {status}, {out!r}, {err!r}')


def a_text_that_never_comes_ends_with_1_or_124(b):
    for code, words in ((POWEROFF, ()), (out8(0xF4, 16) + HALT, ('--debug-exit', '0xf4'))):
        status, _, err = b.start(say(b'a log') + code, '--expect', 'login:', *words).end()
        check(status == 1 and err == "transvisor: --expect: 'login:' did not appear\n", f'status {status}, {err!r}')
    status, _, err = b.start(say(b'a log') + SPIN, '--expect', 'login:', '--timeout', '1').end()
    check(status == 124, f'status {status}, {err!r}')


def a_guest_that_panicked_and_waits_gets_a_hint(b):
    code = say(b'---[ end Kernel panic - not syncing: x ]---\n') + HALT
    status, _, err = b.start(code, '--timeout', '3').end()
    check(status == 124 and 'hint' in err and 'panic=-1' in err and err.count('\n') == 1, f'status {status}, {err!r}')


def linux(code):
    """A bzImage in form: the loader takes it, and enters it at its code."""
    image = bytearray(2048 + 65536)
    for at, data in (
        (0x1F1, b'\3'),
        (0x1F4, struct.pack('<I', 4096)),
        (0x1FE, b'\x55\xaa'),
        (0x200, b'\xebjHdrS\x0f\x02'),
        (0x211, b'\1'),
        (0x22C, b'\xff\xff\xff\x7f\0\0\x10\0\1'),
        (0x238, b'\xff\7'),
        (0x25A, b'\x10'),
        (0x262, b'\x10'),
        (2048, code),
    ):
        image[at : at + len(data)] = data
    return bytes(image)


def a_silent_linux_without_a_console_gets_a_hint(b):
    path = os.path.join(b.dir, 'bzImage')
    for code, words, hint in (
        (HALT, (), True),
        (HALT, ('--append', 'console=ttyS0'), False),
        (out8(0x3F8, 0x2E) + HALT, (), False),
    ):
        with open(path, 'wb') as f:
            f.write(linux(code))
        done = subprocess.run(
            [b.program, path, '--memory', '64', '--engine', b.engine, '--timeout', '6.5', *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        check(
            done.returncode == 124
            and ('--append console=ttyS0' in done.stderr) == hint
            and done.stderr.count('\n') == hint,
            f'{words}: status {done.returncode}, {done.stderr!r}',
        )


@in_jail
def the_keys_are_told(b):
    for key in (b'h', b'?'):
        master, slave = pty.openpty()
        m = b.start(out8(0x3F8, 0x2E) + ECHO, stdin=slave, stdout=slave)
        read(master, 1)
        os.write(master, b'\x01' + key + b'\x01x')
        status, _, err = m.end()
        check(status == 0 and 'Ctrl-A x ends' in err and err.count('\n') == 2, f'status {status}, {err!r}')
        os.close(master)
        os.close(slave)


@in_jail
def ctrl_a_c_opens_a_monitor_on_the_terminal_and_closes_it(b):
    version = subprocess.check_output([b.program, '--version']).split()[1]
    for words in ((), ('--serial', 'null', '--virtio-console', 'stdio')):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        m = b.start((out8(0x3F8, 0x2E) if not words else b'') + ECHO, *words, stdin=slave, stdout=slave)
        seen = read(master, 1) if not words else b''

        def types(keys, *wanted):
            """What is wanted comes in this order."""
            nonlocal seen
            os.write(master, keys)
            for what in wanted:
                while what not in seen:
                    seen += read(master, 1)
                seen = seen.split(what, 1)[1]

        types(b'\x01c', b'help', b'(transvisor) ')
        types(b'info ver\t\r', b'info version ', b'\n' + version[:3], b'(transvisor) ')
        types(b'sto\t\rinfo status\r', b'VM status: paused')
        types(b'st\t', b'step', b'stop')  # both; and Ctrl-C leaves the line
        types(b'\x03cont\r\x1b[A\x1b[A\r', b'VM status: running')
        types(b'pmemsave 0 16 %s/none/x\r' % os.fsencode(b.dir), b'none/x: ')  # refused, or there is no such folder
        types(b'x 0x1', b'x 0x1\x1b[K')
        if not words:
            types(b'\x01chello', b'hello')  # the guest has the keys again
            types(b'\x01c', b'(transvisor) x 0x1')  # and the monitor its line
        types(b'00000 4\r', b'00100000:')
        os.write(master, b'quit\r')
        status, _, err = m.end()
        check((status, err.strip()) == (0, ''), f'{words}: status {status}, {err!r}')
        check(termios.tcgetattr(slave) == before, 'the terminal is not as it was')
        os.close(master)
        os.close(slave)


def what_users_of_other_programs_type_is_understood_or_answered(b):
    def ask(*words):
        done = subprocess.run(
            [b.program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
        )
        return done.returncode, done.stdout, done.stderr

    m = b.start(
        POWEROFF,
        '-nographic',
        '-serial',
        'mon:stdio',
        '-m',
        '16',
        '-M',
        'pc',
        '-smp',
        '1',
        '-net',
        'none',
        '-append',
        'a',
        '-no-reboot',
    )
    check(m.end()[::2] == (0, ''), 'QEMU spellings')
    m = b.start(out8(0xF4, 16) + HALT, '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04')
    check(m.end()[::2] == (33, ''), 'isa-debug-exit')
    image = os.path.join(b.dir, 'guest')
    check(ask(image, '-m', '16', '--engine', b.engine, '--timeout', '1')[0] == 124, 'a kernel alone')
    disk = os.path.join(b.dir, 'disk.img')
    with open(disk, 'wb') as f:
        f.truncate(1 << 20)
    large = os.path.join(b.dir, 'large.img')
    with open(large, 'wb') as f:
        f.truncate(4 << 20)
    later = 'not supported yet'
    for words, answer in (
        (('gone.vmdk',), 'qemu-img convert'),
        (('run', '-fda', large), 'fit on no floppy disk'),
        (('run',) + ('--floppy', disk + ',readonly=on') * 3, '2 floppy drives at most'),
        (('run', '--disk', disk + ',bus=scsi'), later),
        (('run', '--disk', disk + ',bus=virtio,media=cdrom'), 'is on IDE'),
        (('run', '--disk', disk + ',format=vmdk'), later),
        (('run', '--disk', disk + ',cache=unsafe'), later),
        (('run', '--disk', 'nbd:unix:/nowhere,cache=none'), 'cache=none is for files and block devices'),
        (('run', '--disk', disk + ',colour=red'), 'colour=red'),
        (('run', '--boot', 'tape', disk), 'is not a list of floppy'),
        (('run', image) + ('--net', 'user') * 9, 'room for 8 cards'),
        (('run', image, '--net', 'user,model=ne3000'), 'there is no model=ne3000'),
        (('run',) + ('--cdrom', disk) * 5, 'room for 4 drives'),
        (('run', '--disk', ',snapshot=on'), 'file is missing'),
        (('run', image, '-smp', '2'), later),
        (('run', image, '--net', 'tap'), "--net: there is no 'tap'"),
        (('run', image, '-accel', 'kvm'), '--engine'),
        (('run', image, '-display', 'gtk'), "--display: there is no 'gtk'"),
        (('run', image, '-sdl'), later),
        (('run', image, '--vnc', 'here'), 'vnc=here: is not HOST:N'),
        (('run', image, '-curses'), '--display text'),
        (('run', image, '--type', '<nosuch>'), "--type: there is no key 'nosuch'"),
        (('-kernel', image, '-m', '16'), f'transvisor run -kernel {image} -m 16'),
        (('-m', '16', '-fda', disk), f'transvisor run -m 16 -fda {disk}'),
        (('rnu',), 'did you mean run'),
        (('run', '--kernle', image), 'did you mean --kernel'),
        (('run', image, '-m', '1'), '-m: 1 is not within 16M to 3584M'),
    ):
        status, out, err = ask(*words)
        check(
            status == 2 and not out and answer in err and err.count('\n') == 1,
            f'{words}: status {status}, {out!r}, {err!r}',
        )
    for words, answer in (
        (('--help',), 'transvisor run'),
        (('run', '--help'), '--kernel FILE'),
        (('run', image, '-h'), '--kernel FILE'),
        (('run', '-cpu', 'help'), 'n270\n'),
        (('run', '--trace', 'help'), 'exec '),
        (('translate', '--help'), '--base'),
        (('help', 'check'), '--json'),
    ):
        status, out, err = ask(*words)
        check(
            status == 0 and not err and answer in out and len(out.splitlines()) <= 30,
            f'{words}: status {status}, {out!r}, {err!r}',
        )


def a_door_to_which_no_debugger_comes_keeps_no_guest_from_ending(b):
    door = f'unix:{b.dir}/door'
    for code, words, want in (
        (POWEROFF, (), 0),
        (RESET, ('--no-reboot',), 0),
        (out8(0xF4, 16) + HALT, ('--debug-exit', '0xf4'), 33),
        (TRIPLE, (), 3),
        (POWEROFF, ('-S', '--timeout', '1'), 124),  # it waits to be let go
    ):
        status, _, err = b.start(code, '--gdb', door, *words).end()
        check(status == want, f'{words}: status {status}, not {want}, {err!r}')


def the_short_word_for_the_debuggers_door_is_port_1234(b):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(('127.0.0.1', 1234))
            taken.listen()
        except OSError as e:  # somebody else's, then
            check(e.errno == errno.EADDRINUSE, str(e))
        status, out, err = b.start(POWEROFF, '-s').end()
    want = 'transvisor: --gdb tcp:127.0.0.1:1234: Address already in use\n'
    check((status, out, err) == (1, b'', want), f'status {status}, {out!r}, {err!r}')


def the_host_is_checked_by_trying(b):
    def check_host(limits, *words):
        done = subprocess.run(
            ['sh', '-c', f'{limits} exec "$@"', 'sh', b.program, 'check', *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        check(not done.stderr, done.stderr)
        return done.returncode, done.stdout

    status, out = check_host('', '--json')
    told = json.loads(out)
    check(told.pop('can_run') == (status == 0), f'status {status}, {out}')
    for name in (
        'BMI2',
        '32-bit code',
        'ptrace',
        'seccomp',
        'memfd',
        'address space',
        'descriptors',
        'map count',
        '/dev/kvm',
        'machine',
    ):
        check(told[name]['state'] in ('ok', 'worse', 'missing', 'unknown') and told[name]['text'], f'{name}: {out}')
        check(('cure' in told[name]) == (told[name]['state'] in ('worse', 'missing')), f'{name}: {out}')
    check(
        told['machine']['state'] != 'missing' and status == 0, f'status {status}, {out}'
    )  # for the other cases do run
    lines = check_host('')[1].splitlines()
    check(len(lines) == len(told) and all(len(line) < 250 for line in lines), f'{lines}')
    status, out = check_host('ulimit -v 4000000;')
    check(re.search(r'^worse +address space .*RLIMIT_AS.*cure: ulimit -v', out, re.M), out)
    status, out = check_host('ulimit -n 20;')
    check(re.search(r'^worse +descriptors .*cure: ulimit -n', out, re.M), out)
    status, out = check_host('ulimit -v 100000;')
    check(status == 1 and re.search(r'^missing +machine .*cannot run', out, re.M), f'status {status}, {out}')


@in_jail
def a_full_output_pipe_does_not_keep_it_from_stopping(b):
    # out dx,al without end; nobody reads
    m = b.start(b'\xba\xf8\x03\x00\x00\xee\xeb\xfd')
    m.read(1)
    time.sleep(0.5)
    m.process.send_signal(signal.SIGTERM)
    try:
        status = m.process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        raise Failure('it did not end') from None
    check(status == 128 + signal.SIGTERM, f'status {status}')


def cases(names, module):
    """The functions that prove a sentence: those of the module whose argument is a bench."""
    return [
        f
        for f in list(names.values())
        if getattr(f, '__module__', None) == module
        and hasattr(f, '__code__')
        and f.__code__.co_varnames[: f.__code__.co_argcount] == ('b',)
    ]


CASES = cases(globals(), __name__)


def main(cases, engines, name):
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('-k', default='')
    parser.add_argument('--engine', action='append')
    parser.add_argument('--no-jail', action='store_true', help='machines are started with --no-jail')
    options = parser.parse_args()
    failed = ran = 0
    for engine in options.engine or engines:
        for case in cases:
            if options.k not in case.__name__:
                continue
            if options.no_jail and not hasattr(case, 'in_jail'):
                continue
            ran += 1
            with tempfile.TemporaryDirectory() as folder:
                b = Bench(options.program, engine, folder, not options.no_jail)
                try:
                    case(b)
                except Failure as why:
                    failed += 1
                    print(f'FAIL: {engine}: {case.__name__}: {why}')
                finally:
                    for process in b.machines:
                        if process.poll() is None:
                            process.kill()
                            process.wait()
    print(f'{name}: {ran} cases, {failed} failures')
    return 1 if failed or not ran else 0


if __name__ == '__main__':
    sys.exit(main(CASES, ('interp', 'bt'), 'cli.py'))
