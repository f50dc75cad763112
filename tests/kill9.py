#!/usr/bin/env python3
"""A machine that is killed at any moment under load has lost nothing that its guest was told is on disk. Neither has
one whose NBD server is killed: its guest hears of that.

  kill9.py TRANSVISOR [--rounds N] [--seed N]     N kills for each kind of image [3]

The guest writes the number of each write into a sector of its own, all over the disk, flushes after every fourth, and
sends the number of the last write to the serial port once the flush is done: that is the journal. After the kill each
sector holds what was flushed last, or what was written after that.
"""
import argparse
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import cli

LIMIT = 60  # seconds without a word
SECTORS, STEP = 1 << 14, 1103  # write n goes to sector n * STEP: an odd step comes by all of them before any again

# With n in EBX: WRITE SECTORS of one at n * 1103 mod 4000h, 128 times n; wait for BSY; ERR ends it by port F4h. After
# n = 3 mod 4 FLUSH CACHE in the same way, and n to COM1.
WRITER = bytes.fromhex(
    '69cb4f040000 81e1ff3f0000 66baf601b0e0ee 66baf201b001ee 4288c8ee 4288e8ee 42b000ee 66baf701b030ee'
    'eca80874fb 66baf00189d8b980000000efe2fd 66baf701eca88075fba8017533'
    '89d824033c037528 b0e7eeeca88075fba801751f'
    '89deb90400000066bafd03eca82074fb66baf80389f0eec1ce08e2eb 43eb80'
    '66baf40066baf101ec66baf400eef4'
)


def sector_of(n):
    return n * STEP % SECTORS


def guest(first):
    return cli.multiboot(b'\xbb' + struct.pack('<I', first) + WRITER)


def tool(program, *words, fine=(0,)):
    done = subprocess.run([program, 'img', *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode not in fine:
        raise SystemExit(f'FAIL: img {" ".join(words)}: status {done.returncode}, {done.stdout}')
    return done.returncode


def run_and_kill(command, seconds):
    """The numbers that came before the end."""
    m = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    alarm = time.monotonic() + LIMIT
    os.set_blocking(m.stdout.fileno(), False)
    data, kill_at = b'', None
    while kill_at is None or time.monotonic() < kill_at:
        time.sleep(0.001)
        data += m.stdout.read() or b''
        if m.poll() is not None or time.monotonic() > alarm:
            m.kill()
            raise SystemExit(f'FAIL: it ended by itself, or says nothing: {m.returncode}, {m.stderr.read()}')
        if len(data) >= 4 and kill_at is None:  # the first number, whole
            kill_at = time.monotonic() + seconds
    m.send_signal(signal.SIGKILL)
    m.wait()
    os.set_blocking(m.stdout.fileno(), True)
    data += m.stdout.read()
    return [n for (n,) in struct.iter_unpack('<I', data[: len(data) // 4 * 4])]


class Journal:
    """What each sector holds, as far as is known."""

    def __init__(self, at=None):
        self.at = at or [0] * SECTORS

    def compare(self, raw, first, told):
        """told: the last number that was sent; writes after it may be there, each whole, or not."""
        for n in range(first, told + 1):
            self.at[sector_of(n)] = n
        if len(raw) != SECTORS * 512:
            raise SystemExit(f'FAIL: the image has {len(raw)} bytes')
        for s in range(SECTORS):
            values = set(struct.unpack_from('<128I', raw, s * 512))
            n = values.pop()
            later = told < n < told + SECTORS and sector_of(n) == s
            if values or not (n == self.at[s] or later):
                raise SystemExit(f'FAIL: sector {s} has {n:#x} {sorted(values)}, not {self.at[s]:#x}; told {told:#x}')
            self.at[s] = n


def rounds(program, folder, kind, options, count, rng, backing=False):
    image, kernel, raw, base = (os.path.join(folder, name) for name in ('disk', 'guest', 'raw', 'base'))
    journal, first, flushed = Journal(), 1, 0
    if backing:  # a sector of which a cluster keeps what was there before
        journal = Journal([0xFFFF0000 | n for n in range(SECTORS)])
        with open(base, 'wb') as f:
            f.write(b''.join(struct.pack('<I', n) * 128 for n in journal.at))
        options = [*options, '-b', base, '-F', 'raw']
    tool(program, 'create', '-q', '-f', kind, *options, image, str(SECTORS * 512))
    for _ in range(count):
        with open(kernel, 'wb') as f:
            f.write(guest(first))
        words = ['--kernel', kernel, '--memory', '16M', '--disk', f'{image},format={kind}', '--debug-exit', '0xf4']
        told = run_and_kill([program, 'run', *words], rng.random() * 0.25)
        if kind == 'qcow2':
            tool(program, 'check', '-q', '--repair', image, fine=(0, 3))
        tool(program, 'convert', '-q', '-f', kind, '-O', 'raw', image, raw)
        with open(raw, 'rb') as f:
            journal.compare(f.read(), first, told[-1])
        flushed += len(told)
        first = told[-1] + SECTORS
    what = 'with a backing file' if backing else ' '.join(options)
    print(f'kill9.py: {kind} {what}: {count} kills, {flushed} flushes, nothing lost')


class NbdServer(threading.Thread):
    """One disk for one client. It dies in the midst of a write, after so many, and takes with it what it has not been
    told to flush."""

    READ, WRITE, FLUSH = 0, 1, 3

    def __init__(self, path, disk, writes):
        super().__init__(daemon=True)
        self.safe, self.cached, self.writes = disk, bytearray(disk), writes
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.start()

    def negotiate(self, stream):
        stream.write(b'NBDMAGICIHAVEOPT' + struct.pack('>H', 1))
        stream.flush()
        stream.read(4)
        option = 0
        while option != 7:  # NBD_OPT_GO
            option, length = struct.unpack('>8xII', stream.read(16))
            stream.read(length)
            answer = struct.pack('>QI', 0x3E889045565A9, option)
            if option == 7:  # HAS_FLAGS, SEND_FLUSH
                stream.write(answer + struct.pack('>IIHQH', 3, 12, 0, len(self.safe), 5))
                stream.write(answer + struct.pack('>II', 1, 0))
            else:
                stream.write(answer + struct.pack('>II', 0x80000001, 0))
            stream.flush()

    def run(self):
        connection = self.listener.accept()[0]
        stream = connection.makefile('rwb')
        self.negotiate(stream)
        while True:
            _, _, kind, handle, at, length = struct.unpack('>IHHQQI', stream.read(28))
            data = b''
            if kind == self.READ:
                data = self.cached[at : at + length]
            elif kind == self.WRITE and self.writes:
                self.cached[at : at + length] = stream.read(length)
                self.writes -= 1
            elif kind == self.FLUSH:
                self.safe = bytes(self.cached)
            else:
                stream.read(length // 2)
                connection.shutdown(socket.SHUT_RDWR)
                return
            stream.write(struct.pack('>IIQ', 0x67446698, 0, handle) + data)
            stream.flush()


def server_rounds(program, folder, count, rng):
    path, kernel = os.path.join(folder, 'socket'), os.path.join(folder, 'guest')
    journal, disk, first, flushed = Journal(), bytes(SECTORS * 512), 1, 0
    for _ in range(count):
        with open(kernel, 'wb') as f:
            f.write(guest(first))
        server = NbdServer(path, disk, 4 + rng.randrange(400))
        words = ['--kernel', kernel, '--memory', '16M', '--disk', f'nbd:unix:{path}', '--debug-exit', '0xf4']
        m = subprocess.run(
            [program, 'run', *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            check=False,
        )
        # The guest ends with its disk's error register: ABRT, or UNC.
        if m.returncode not in ((0x04 << 1) | 1, (0x40 << 1) | 1):
            raise SystemExit(f'FAIL: the guest heard nothing of a dead server: status {m.returncode}, {m.stderr}')
        server.join(LIMIT)
        told = [n for (n,) in struct.iter_unpack('<I', m.stdout[: len(m.stdout) // 4 * 4])]
        journal.compare(server.safe, first, told[-1])
        disk = server.safe
        flushed += len(told)
        first = told[-1] + SECTORS
        os.remove(path)
    print(f'kill9.py: NBD: {count} dead servers, {flushed} flushes, nothing lost')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seed', type=int, default=13)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    for kind, words, backing in (
        ('raw', [], False),
        ('qcow2', [], False),
        ('qcow2', ['-o', 'cluster_size=4K,lazy_refcounts=on'], False),
        ('qcow2', [], True),
    ):
        with tempfile.TemporaryDirectory() as folder:
            rounds(options.program, folder, kind, words, options.rounds, rng, backing)
    with tempfile.TemporaryDirectory() as folder:
        server_rounds(options.program, folder, options.rounds, rng)
    return 0


if __name__ == '__main__':
    sys.exit(main())
