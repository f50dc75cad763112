#!/usr/bin/env python3
"""Saved machines from outside: --save, --save-at-exit, --load. Guests are those of cli.py, a few bytes each.

  saved.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD), under both engines
"""
import os
import signal
import struct
import subprocess
import sys
import time

import cli
from cli import ECHO, HALT, LIMIT, RESET, check, in_jail, out8

# Increments a register and sends it whenever a byte comes: what it sends next is in the processor alone.
#   mov bl,'a'; poll: mov edx,3fdh; in al,dx; test al,1; jz poll; mov edx,3f8h; in al,dx; mov al,bl; out dx,al; inc ebx;
#     jmp poll
COUNT = bytes.fromhex('b361 bafd030000 ec a801 74f6 baf8030000 ec 88d8 ee 43 ebea')


class Loaded:
    def __init__(self, b, *words, **popen):
        settings = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
        settings.update(popen)
        self.process = subprocess.Popen([b.program, 'run', *b.jail(words)], **settings)
        b.machines.append(self.process)

    end = cli.Machine.end
    read = cli.Machine.read


def other(engine):
    return 'interp' if engine == 'bt' else 'bt'


def saved(b, code=COUNT, typed=b'x', came=1, *words):
    """The path of a machine that was saved when it was stopped."""
    path = os.path.join(b.dir, 'saved')
    m = b.start(code, '--save-at-exit', path, *words)
    m.process.stdin.write(typed)
    m.process.stdin.flush()
    m.read(came)
    m.process.send_signal(signal.SIGTERM)
    status, _, err = m.end()
    check((status, err) == (128 + signal.SIGTERM, ''), f'status {status}, {err!r}')
    return path


def wait_for(path, process):
    deadline = time.monotonic() + LIMIT
    while not os.path.exists(path):
        check(process.poll() is None and time.monotonic() < deadline, 'no file came')
        time.sleep(0.01)


# ---- cases: each is named by the sentence it proves ----


@in_jail
def a_saved_machine_goes_on_where_it_was_under_either_engine(b):
    path = saved(b, typed=b'xyz', came=3)
    check(os.stat(path).st_mode & 0o777 == 0o600, 'what is in a guest\'s memory is open to others')
    check(not [name for name in os.listdir(b.dir) if name.endswith('.tmp')], 'something is left behind')
    for engine in (b.engine, other(b.engine)):
        m = Loaded(b, '--load', path, '--engine', engine)
        m.process.stdin.write(b'12')
        m.process.stdin.flush()
        check(m.read(2) == b'de', 'it did not go on where it was')
        m.process.send_signal(signal.SIGTERM)
        check(m.end()[0] == 128 + signal.SIGTERM, 'it did not end by the signal')


def the_debug_exit_port_comes_from_the_file(b):
    path = saved(b, ECHO, b'a', 1, '--debug-exit', '0xf4')
    status, out, err = Loaded(b, '--load', path).end(b'bc!')
    check((status, out, err) == (15, b'bc', ''), f'status {status}, {out!r}, {err!r}')


@in_jail
def a_signal_saves_it_and_it_goes_on(b):
    path = os.path.join(b.dir, 'saved')
    m = b.start(ECHO, '--debug-exit', '0xf4', '--save', path)
    for _ in range(3):
        m.process.stdin.write(b'a')
        m.process.stdin.flush()
        m.read(1)
        if os.path.exists(path):
            os.unlink(path)
        m.process.send_signal(signal.SIGUSR1)
        wait_for(path, m.process)
    status, out, err = m.end(b'b!')
    check((status, out, err) == (15, b'b', ''), f'status {status}, {out!r}, {err!r}')
    status, out, err = Loaded(b, '--load', path).end(b'c!')
    check((status, out, err) == (15, b'c', ''), f'status {status}, {out!r}, {err!r}')


def a_signal_without_a_file_to_save_to_is_a_warning(b):
    m = b.start(ECHO, '--debug-exit', '0xf4')
    m.process.stdin.write(b'a')
    m.process.stdin.flush()
    m.read(1)
    m.process.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    status, _, err = m.end(b'!')
    check(status == 15 and err.count('\n') == 1 and '--save' in err, f'status {status}, {err!r}')


def what_was_typed_ahead_is_saved(b):
    # It says '.' when the first byte has come, and reads none for a while: all of them lie in the UART by then.
    path = os.path.join(b.dir, 'saved')
    slow = bytes.fromhex('bafd030000 ec a801 74f6') + out8(0x3F8, 0x2E) + bytes.fromhex('b900000010 49 75fd') + ECHO
    m = b.start(slow, '--debug-exit', '0xf4', '--save-at-exit', path)
    m.process.stdin.write(b'0123456789' * 30)
    m.process.stdin.flush()
    m.read(1)
    m.process.send_signal(signal.SIGTERM)
    check(m.end()[0] == 128 + signal.SIGTERM, 'it did not end by the signal')
    if b.engine == 'interp':
        words = ['--engine', 'bt']  # the loop takes long
    else:
        words = []
    status, out, err = Loaded(b, '--load', path, *words).end(b'!')
    check((status, out, err) == (15, b'0123456789' * 30, ''), f'status {status}, {out!r}, {err!r}')


@in_jail
def a_loaded_machine_can_start_anew(b):
    code = bytes.fromhex('8005 00002000 41 a0 00002000 baf8030000 ee') + ECHO[: -len(out8(0xF4, 7) + HALT)] + RESET
    path = saved(b, code, b'', 1)
    m = Loaded(b, '--load', path)
    m.process.stdin.write(b'!')
    m.process.stdin.flush()
    check(m.read(1) == b'A', 'it did not start anew')
    m.process.send_signal(signal.SIGTERM)
    m.end()


def options_that_contradict_the_file_are_refused(b):
    path = saved(b, ECHO, b'a', 1, '--debug-exit', '0xf4')
    for words, text in (
        (['--memory', '64M'], 'has 16 MiB'),
        (['--cpu', '486'], 'cpu: the saved machine has'),
        (['--debug-exit', '0xf5'], 'has it at 0xf4'),
    ):
        status, _, err = Loaded(b, '--load', path, *words).end()
        check(status == 2 and err.count('\n') == 1 and text in err, f'{words}: status {status}, {err!r}')
    status, _, _ = Loaded(b, '--load', path, '--memory', '16M', '--debug-exit', '0xf4').end(b'!')
    check(status == 15, f'what agrees is refused: status {status}')
    plain = saved(b)
    status, _, err = Loaded(b, '--load', plain, '--debug-exit', '0xf4').end()
    check(status == 2 and 'has no such port' in err, f'status {status}, {err!r}')


@in_jail
def drives_keep_their_serial_numbers(b):
    image, second = os.path.join(b.dir, 'image'), os.path.join(b.dir, 'second')
    for name in image, second:
        with open(name, 'wb') as f:
            f.truncate(1 << 20)
    other = '--disk', second + ',bus=virtio'
    path = saved(b, ECHO, b'a', 1, '--debug-exit', '0xf4', '--disk', image + ',serial=ONE', *other)

    def loaded(*words):
        status, _, err = Loaded(b, '--load', path, *words).end(b'!')
        return status, err

    for words in ((), ('--disk', image, *other), (*other, '--disk', image + ',serial=ONE')):
        status, err = loaded(*words)
        check((status, err) == (15, ''), f'{words}: status {status}, {err!r}')
    for words, text in (
        (('--disk', image + ',serial=TWO', *other), 'has the serial number ONE, not TWO'),
        (('--disk', image, '--disk', second + ',bus=virtio,serial=TWO'), 'has a serial number of ours, not TWO'),
    ):
        status, err = loaded(*words)
        check(status == 2 and err.count('\n') == 1 and text in err, f'{words}: status {status}, {err!r}')


def info_prints_every_chip_of_a_saved_machine(b):
    path = saved(b)
    whole = subprocess.run([b.program, 'info', path], capture_output=True, text=True, timeout=LIMIT)
    check(whole.returncode == 0 and not whole.stderr, f'{whole.returncode}, {whole.stderr!r}')
    for line in ('com1.lcr: 0x3', 'pit.c.mode: 0x3 0x3 0x3', 'cpu.cr0: 0x', '00:01.0 piix3.config:', 'rtc.second: '):
        check('\n' + line in '\n' + whole.stdout, f'{line} is not in it')
    one = subprocess.run([b.program, 'info', path, '--chip', 'cpu'], capture_output=True, text=True, timeout=LIMIT)
    check(
        one.returncode == 0
        and all(line.startswith('cpu.') for line in one.stdout.splitlines())
        and 'cpu.eip: 0x1000' in one.stdout,
        one.stdout,
    )
    none = subprocess.run([b.program, 'info', path, '--chip', 'toaster'], capture_output=True, text=True, timeout=LIMIT)
    check(none.returncode == 2 and 'toaster' in none.stderr, f'{none.returncode}, {none.stderr!r}')


def a_file_that_is_not_whole_is_one_line_and_status_1(b):
    path = saved(b)
    with open(path, 'rb') as f:
        whole = f.read()
    bad = os.path.join(b.dir, 'bad')
    n = len(whole)

    def refused(data, what, text=''):
        with open(bad, 'wb') as f:
            f.write(data)
        status, out, err = Loaded(b, '--load', bad).end()
        check((status, out) == (1, b'') and err.count('\n') == 1 and text in err, f'{what}: status {status}, {err!r}')

    for at in [0, 1, 15, 16, 23, 24, 63, 64, 100] + [n * i // 40 for i in range(1, 40)] + [n - 17, n - 16, n - 1]:
        refused(whole[:at], f'cut off at {at}', 'cut off')
        refused(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :], f'byte {at}')
    refused(whole[:16] + struct.pack('<I', 2) + whole[20:], 'of version 2', 'version')
    refused(b'\x7fELF' + bytes(200), 'another file', 'no saved machine')
    for path, text in (('/nonexistent/file', 'No such file'), (b.dir, 'Is a directory')):
        status, _, err = Loaded(b, '--load', path).end()
        check(status == 1 and err.count('\n') == 1 and text in err, f'{path}: status {status}, {err!r}')


@in_jail
def a_file_that_cannot_be_written_is_one_line_and_status_1(b):
    for path, text in (('/nonexistent/file', 'No such file'), ('/dev/full', 'No space left')):
        m = b.start(out8(0x3F8, 0x2E) + HALT, '--save-at-exit', path)
        m.read(1)
        m.process.send_signal(signal.SIGTERM)
        status, _, err = m.end()
        check(status == 1 and err.count('\n') == 1 and text in err, f'{path}: status {status}, {err!r}')


@in_jail
def it_is_written_to_a_pipe_and_read_from_one(b):
    pipe = os.path.join(b.dir, 'pipe')
    os.mkfifo(pipe)
    reader = subprocess.Popen(['cat', pipe], stdout=subprocess.PIPE)
    m = b.start(COUNT, '--save-at-exit', pipe)
    m.process.stdin.write(b'x')
    m.process.stdin.flush()
    m.read(1)
    m.process.send_signal(signal.SIGTERM)
    data = reader.communicate(timeout=LIMIT)[0]
    check(m.end()[0] == 128 + signal.SIGTERM, 'it did not end by the signal')
    writer = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=os.open(pipe, os.O_RDWR))
    later = Loaded(b, '--load', pipe)
    later.process.stdin.write(b'y')
    later.process.stdin.flush()
    writer.communicate(data, timeout=LIMIT)
    check(later.read(1) == b'b', 'it did not go on')
    later.process.send_signal(signal.SIGTERM)
    later.end()


CASES = [
    f
    for f in list(globals().values())
    if getattr(f, '__code__', None) and f.__code__.co_varnames[:1] == ('b',) and f is not saved
]

if __name__ == '__main__':
    sys.exit(cli.main(CASES, ('interp', 'bt'), 'saved.py'))
