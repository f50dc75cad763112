#!/usr/bin/env python3
"""What a person sees and types: --display text on a terminal, --display vnc with clients of it, well-behaved and other.

  screen.py --transvisor PROGRAM NAME
  screen.py --list

The guest is keys.S: it shows what is typed; Enter brings a picture, and one more key ends it with status 21h.
"""
import argparse
import fcntl
import os
import pty
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

from firmware import SEABIOS, SKIPPED, VGABIOS, Skip, boot_disk, need, png
from rfb import Client, Refused, encrypt

RETURN, SHIFT, CONTROL, UP = 0xFF0D, 0xFFE1, 0xFFE3, 0xFF52
OPTIONS = argparse.Namespace()
LIMIT = 60


def machine(work, *words):
    need(SEABIOS, 'seabios')
    need(VGABIOS, 'seabios')
    need('/usr/lib/x86_64-linux-gnu/libvncserver.so.1', 'libvncserver1')
    return [OPTIONS.transvisor, 'run', boot_disk(work, 'keys.S'), '--memory', '32M', '--debug-exit', '0xf4'] + [
        '--timeout',
        str(LIMIT),
        *words,
    ]


def free_display():
    """A number N for which nobody listens at port 5900 + N."""
    for _ in range(100):
        n = random.randrange(100, 20000)
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', 5900 + n))
                return n
            except OSError:
                pass
    raise AssertionError('no free port')


class Machine:
    def __init__(self, work, *words, password=None):
        self.number = free_display()
        self.port = 5900 + self.number
        display = f'vnc=127.0.0.1:{self.number}' + (f',password={password}' if password else '')
        command = machine(work, '--serial', 'stdio', '--display', display, *words)
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.text = b''

    def says(self, what, limit=30):
        """Waits until this has appeared on the serial port, where SeaBIOS sends what is printed by INT 10h."""
        until = time.monotonic() + limit
        while what not in self.text:
            if not select.select([self.process.stdout], [], [], max(until - time.monotonic(), 0))[0]:
                raise AssertionError(f'{what} did not appear: {self.text}')
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                raise AssertionError(f'{what} did not appear before the end: {self.text}')
            self.text += piece

    def ends(self, status=0x21):
        out = self.process.communicate(timeout=LIMIT)[0]
        if self.process.returncode != status:
            raise AssertionError(f'status {self.process.returncode}, not {status}: {self.text + out}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def check(fine, what):
    if not fine:
        raise AssertionError(what)


def finish(machine_, client):
    """From the text to the picture and to the end."""
    client.press(RETURN)
    check(client.wait_for(lambda: client.height == 200), f'{client.width} x {client.height}, not 320 x 200')
    while client.update(0.4):
        pass
    rows = client.rows()
    client.press(ord('x'))
    machine_.ends()
    return rows


def vnc(work):
    """A client sees each change of the screen's size, and the very picture that --screenshot writes; what it types
    arrives, with Shift as a US keyboard wants it; of a screen that stands still nothing is sent."""
    path = os.path.join(work, 'end.png')
    with Machine(work, '--screenshot', path) as m:
        client = Client(m.port)
        check(client.name == 'transvisor', client.name)
        m.says(b'type: ')
        client.press(ord('a'), ord('B'), ord('%'), UP)
        client.key(SHIFT, True)
        client.press(ord('C'), ord('/'))  # as a German layout has it
        client.key(SHIFT, False)
        client.press(ord('d'))
        m.says(b'type: aB%<48>C/d')
        check(client.wait_for(lambda: (client.width, client.height) == (720, 400)), f'{client.width} x {client.height}')
        while client.update(0.15):
            pass
        before = client.bytes
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            client.update(0.2)
        check(client.bytes - before < 16 * 64 * 16 * 4, f'{client.bytes - before} bytes for a cursor that blinks')
        for i in range(50):
            client.pointer(i * 10, i * 5, i % 8)
        rows = finish(m, client)
    check(rows == png(path), 'the picture is not that of --screenshot')
    check(len(set(rows[0][:256])) > 100 and rows[0][:64] == rows[4][: 64], 'the picture is not the guest\'s')


def vnc_password(work):
    """Who does not know the password is sent away; who does sees and types."""
    path = os.path.join(work, 'password')
    with open(path, 'w', encoding='ascii') as file:
        file.write('geheim!\n')
    try:
        encrypt('x', bytes(16))
    except (OSError, subprocess.CalledProcessError) as why:
        raise Skip('openssl has no DES') from why
    with Machine(work, password=path) as m:
        for password in ('wrong', None):
            try:
                Client(m.port, password)
                check(False, f'{password} was let in')
            except Refused:
                pass
        client = Client(m.port, 'geheim!')
        m.says(b'type: ')
        client.press(ord('k'))
        m.says(b'type: k')
        finish(m, client)


def vnc_strangers(work):
    """Clients that send rubbish or half a message, or take nothing, or go away: the machine and others go on. A key
    that a client held when it went is let go."""
    rng = random.Random(13)
    with Machine(work) as m:
        good = Client(m.port)
        m.says(b'type: ')
        others = []
        for messages in (
            b'',
            b'\0' * 12,
            b'GET / HTTP/1.0\r\n\r\n',
            bytes(rng.randrange(256) for _ in range(5000)),
            b'RFB 003.008\n\1\1',  # half a greeting
        ):
            raw = socket.create_connection(('127.0.0.1', m.port))
            others.append(raw)
            raw.sendall(messages)
        for message in (
            struct.pack('>BxxxI', 6, 0xFFFFFFF0),  # a cut text of 4 GiB
            struct.pack('>BxH', 2, 65535) + bytes(1000),  # half of its encodings
            struct.pack('>B3xBBBBHHHBBB3x', 0, 7, 200, 9, 9, 0, 0, 0, 99, 99, 99),  # no pixels
            struct.pack('>BBHHHH', 3, 0, 60000, 60000, 65535, 65535),  # no part of the screen
            struct.pack('>BBxx', 8, 3),  # the screen in a third of its size
            b'\xfb' + bytes(rng.randrange(256) for _ in range(64)),
            bytes([7] + [255] * 11 + [1]),  # files
        ):
            try:
                client = Client(m.port)
                client.socket.sendall(message)
                others.append(client.socket)
            except (Refused, OSError):
                pass
        greedy = Client(m.port)  # asks, and takes nothing
        try:
            greedy.socket.setblocking(False)
            for _ in range(2000):
                greedy.request(False)
        except OSError:
            pass
        holder = Client(m.port)
        holder.key(SHIFT, True)
        holder.press(ord('A'))
        m.says(b'type: A')
        holder.close()
        time.sleep(1)
        for letter in b'bcd':
            good.press(letter)
        m.says(b'type: Abcd')
        for other in others:
            other.close()
        good.press(ord('e'))
        m.says(b'type: Abcde')
        finish(m, good)


def vnc_in_use(work):
    """A port that is taken, a password file that is none: one line, which names it."""
    number = free_display()
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 5900 + number))
        taken.listen()
        for display, want, status in (
            (f'vnc=127.0.0.1:{number}', f'port {5900 + number}: Address already in use', 1),
            ('vnc,password=/nonexistent', '/nonexistent: No such file', 1),
            ('vnc=nonsense', 'is not HOST:N', 2),
            ('window', "there is no 'window'", 2),
            ('text', 'no terminal', 1),
        ):
            ran = subprocess.run(
                machine(work, '--display', display),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                timeout=LIMIT,
            )
            lines = ran.stderr.splitlines()
            check(
                ran.returncode == status and len(lines) == 1 and lines[0].startswith('transvisor: --display'),
                f'{display}: {ran}',
            )
            check(want in lines[0], f'{display}: {lines[0]}')


def unseen(work):
    """Without a display a line tells of graphics, once; text that firmware has put on the serial port as well is told
    of by none."""
    command = machine(work, '--serial', 'stdio', '--type', '<ret>@type:')
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stderr.readline().rstrip()
        time.sleep(0.5)
        process.terminate()
        rest = process.communicate(timeout=LIMIT)[1]
        want = 'transvisor: warning: the guest shows graphics, 320 x 200: --display vnc lets you look'
        check((line, rest) == (want, ''), f'{line!r}, {rest!r}')
    finally:
        process.kill()
        process.wait()


class Terminal:
    """As much of a terminal as is written to: cells, the other screen, the cursor."""

    def __init__(self, columns, rows):
        self.columns, self.rows, self.alternate, self.cursor = columns, rows, False, True
        self.clear()
        self.left = b''

    def clear(self):
        self.cells = [[' '] * self.columns for _ in range(self.rows)]
        self.x = self.y = 0

    def feed(self, data):
        data = self.left + data
        done = 0
        for found in re.finditer(rb'\x1b\[(\??[0-9;]*)([A-Za-z])|[\r\n]|[\x20-\x7e]|[\xc0-\xff][\x80-\xbf]+', data):
            done = found.end()
            if found.group(2):
                self.control(found.group(1).decode(), found.group(2).decode())
                continue
            c = found.group().decode(errors='replace')
            if c in '\r\n':
                self.x, self.y = (0, self.y) if c == '\r' else (self.x, min(self.y + 1, self.rows - 1))
            elif self.x < self.columns:
                self.cells[self.y][self.x] = c
                self.x += 1
        self.left = data[done:]

    def control(self, parameters, kind):
        numbers = [int(n) for n in parameters.strip('?').split(';') if n]
        if kind == 'H':
            self.y, self.x = (n - 1 for n in numbers) if numbers else (0, 0)
        elif kind == 'J':
            self.clear()
        elif kind == 'K':
            self.cells[self.y] = [' '] * self.columns if numbers else self.cells[self.y][: self.x] + [' '] * (
                self.columns - self.x
            )
        elif kind == 'C':
            self.x += numbers[0] if numbers else 1
        elif kind in 'hl' and numbers == [1049]:
            self.alternate = kind == 'h'
        elif kind in 'hl' and numbers == [25]:
            self.cursor = kind == 'h'

    def line(self, y):
        return ''.join(self.cells[y]).rstrip()

    def said(self, text):
        return any(text in self.line(y) for y in range(self.rows))


def text(work):
    """On a terminal of 60 x 20: colours, text, cursor and graphics' notice; keys of all kinds; Ctrl-A h; stopped and
    gone on; the terminal is left as it was. A warning waits until then."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack('HHHH', 20, 60, 0, 0))
    before = termios.tcgetattr(child)
    command = machine(work, '--display', 'text', '--screenshot', os.path.join(work, 'none', 'x.txt') + '@0.2')
    # A group of its own, which has a parent in its session: others cannot be stopped.
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, preexec_fn=os.setpgrp)
    terminal, sent = Terminal(60, 20), b''

    def shows(wanted, what, limit=20):
        nonlocal sent
        until = time.monotonic() + limit
        while not wanted():
            if not select.select([parent], [], [], max(until - time.monotonic(), 0))[0]:
                screen = '\n'.join(terminal.line(y) for y in range(terminal.rows))
                raise AssertionError(f'{what}: {screen}\n{sent[-500:]}')
            piece = os.read(parent, 65536)
            sent += piece
            terminal.feed(piece)

    try:
        shows(lambda: terminal.line(0) == 'type:', 'the guest is there')
        check(terminal.alternate, 'the other screen')
        check(b'\x1b[0;93;44m' in sent and b'\x1b[0;37;40m' in sent, f'colours: {sent}')
        shows(lambda: (terminal.x, terminal.y, terminal.cursor) == (6, 0, True), 'the cursor')
        sent = b''
        os.write(parent, b'aB\x1b[A%')
        shows(lambda: terminal.line(0) == 'type: aB<48>%', 'what was typed')
        check(len(sent) < 1000, f'{len(sent)} bytes for eight characters: {sent}')
        os.write(parent, b'\x01h')
        shows(lambda: 'Ctrl-A x ends the machine' in terminal.line(19), 'Ctrl-A h')
        os.write(parent, b'c')
        shows(lambda: terminal.line(0) == 'type: aB<48>%c' and not terminal.line(19), 'the notice goes')
        terminal.clear()
        os.write(parent, b'\x01c')
        shows(lambda: not terminal.alternate and terminal.said('(transvisor)'), 'the monitor')
        os.write(parent, b'stop\rinfo status\rcont\r')
        shows(lambda: terminal.said('VM status: paused'), 'its answer')
        os.write(parent, b'\x01c')
        shows(lambda: terminal.alternate and terminal.line(0) == 'type: aB<48>%c', 'the guest\'s screen again')
        check(not terminal.said('(transvisor)'), 'the monitor is still there')
        os.kill(process.pid, signal.SIGTSTP)
        shows(lambda: not terminal.alternate, 'stopped: the terminal is as it was')
        until = time.monotonic() + 5  # they come behind the sequence that leaves the other screen
        while termios.tcgetattr(child) != before and time.monotonic() < until:
            time.sleep(0.01)
        check(termios.tcgetattr(child) == before, 'stopped: its settings are as they were')
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # going on before that would be in vain
        terminal.clear()
        os.kill(process.pid, signal.SIGCONT)
        shows(lambda: terminal.alternate and terminal.line(0) == 'type: aB<48>%c', 'gone on: all is there again')
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack('HHHH', 10, 12, 0, 0))
        terminal = Terminal(12, 10)
        shows(lambda: terminal.line(0) == 'type: aB<48>', 'a smaller terminal')
        os.write(parent, b'\r')
        shows(lambda: b'The guest shows graphics, 320 x 200' in sent, 'graphics')
        os.write(parent, b'x')
        shows(lambda: not terminal.alternate and terminal.cursor, 'the end')
        shows(lambda: b'warning: screenshot' in sent and sent.endswith(b'\n'), 'the warning')
        check(sent.rindex(b'transvisor: ') > sent.rindex(b'\x1b[?1049l'), f'the warning came before the end: {sent}')
        check(process.wait(timeout=LIMIT) == 0x21, f'status {process.returncode}')
        check(termios.tcgetattr(child) == before, 'the terminal\'s settings are as they were')
    finally:
        process.kill()
        process.wait()
        os.close(parent)
        os.close(child)


def automatic(work):
    """With no option the serial port has the terminal until the guest writes to its screen alone: then that has it, and
    the keyboard; the terminal is left as it was. It waits while the user has the monitor there. With --serial it does
    not happen, and a line tells."""
    need(SEABIOS, 'seabios')
    need(VGABIOS, 'seabios')
    disk = boot_disk(work, 'textonly.S')
    command = [OPTIONS.transvisor, 'run', disk, '--memory', '32M', '--debug-exit', '0xf4', '--timeout', str(LIMIT)]
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack('HHHH', 20, 60, 0, 0))
    before = termios.tcgetattr(child)
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, preexec_fn=os.setpgrp)
    terminal, sent = Terminal(60, 20), b''

    def shows(wanted):
        nonlocal sent
        until = time.monotonic() + 40
        while not wanted():
            check(select.select([parent], [], [], max(until - time.monotonic(), 0))[0], f'the screen: {sent}')
            piece = os.read(parent, 65536)
            sent += piece
            terminal.feed(piece)

    try:
        # Nor does it happen while the user has the terminal.
        shows(lambda: b'Booting from' in sent)
        os.write(parent, b'\x01cinfo status\r')
        shows(lambda: b'VM status: running' in sent)
        time.sleep(2)
        os.write(parent, b'info balloon\r')
        shows(lambda: b'there is no balloon' in sent)
        check(not terminal.alternate, 'the other screen took the terminal from its user')
        os.write(parent, b'\x01c')
        shows(lambda: terminal.line(0) == 'no serial port')
        check(terminal.alternate, 'the other screen')
        check(b'Booting from' in sent.split(b'no serial port')[0], f'the serial port had it first: {sent}')
        os.write(parent, b'a')
        check(process.wait(timeout=LIMIT) == (ord('a') << 1 | 1) & 0xFF, f'status {process.returncode}')
        while select.select([parent], [], [], 0.2)[0]:
            terminal.feed(os.read(parent, 65536))
        check(not terminal.alternate and terminal.cursor, 'the terminal is back')
        check(termios.tcgetattr(child) == before, 'its settings')
        # A pipe is no terminal.
        nothing = subprocess.DEVNULL
        piped = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE, text=True)
        line = piped.stderr.readline()
        piped.kill()
        check('--display text lets you look' in line, line)
        piped.communicate()
    finally:
        process.kill()
        process.wait()


def text_gone(work):
    """The terminal goes away, and nobody is told (SIGHUP is ignored): the machine goes on to its end."""
    parent, child = pty.openpty()
    command = machine(work, '--display', 'text', '--type', '<ret>x@2')
    process = subprocess.Popen(
        command,
        stdin=child,
        stdout=child,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    try:
        os.close(child)
        time.sleep(0.5)
        os.close(parent)
        check(process.wait(timeout=LIMIT) == 0x21, f'status {process.returncode}')
    finally:
        process.kill()
        process.wait()


CASES = {
    'vnc': vnc,
    'vnc-password': vnc_password,
    'vnc-strangers': vnc_strangers,
    'vnc-in-use': vnc_in_use,
    'unseen': unseen,
    'text': text,
    'automatic': automatic,
    'text-gone': text_gone,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('name', nargs='?')
    parser.parse_args(namespace=OPTIONS)
    if OPTIONS.list:
        print('\n'.join(CASES))
        return 0
    with tempfile.TemporaryDirectory() as work:
        try:
            CASES[OPTIONS.name](work)
        except Skip as why:
            print(why)
            return SKIPPED
        except AssertionError as why:
            print(f'FAIL: {why}')
            return 1
    print(f'PASS: {OPTIONS.name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
