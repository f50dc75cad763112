"""A client of gdb's remote protocol, of the simplest kind: each request is one call."""
import re
import select
import socket
import time

LIMIT = 30  # seconds that any wait may take
HARD = 1  # a breakpoint's kind

CORE = ['eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi', 'eip', 'eflags', 'cs', 'ss', 'ds', 'es', 'fs', 'gs']


class Lost(Exception):
    """The other side has hung up."""


def framed(data):
    return b'$' + data + b'#%02x' % (sum(data) & 0xFF)


class Client:
    """Of a socket that is connected, or of a pair of pipes."""

    def __init__(self, where, acks=False):
        self.pipes = where if isinstance(where, tuple) else None
        if self.pipes:
            self.send, self.receive = where[0].write, where[1].read1
            self.fileno = where[1].fileno
        else:
            self.socket = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
            if isinstance(where, tuple) or isinstance(where, str):
                self.socket.connect(where)
            self.send, self.receive = self.socket.sendall, self.socket.recv
            self.fileno = self.socket.fileno
        self.pending = b''
        self.acks = True
        self.supported = self.ask(b'qSupported:swbreak+;hwbreak+')
        if not acks:
            assert self.ask(b'QStartNoAckMode') == b'OK'
            self.acks = False

    def write(self, data):
        self.send(data)
        if self.pipes:
            self.pipes[0].flush()

    def byte(self, limit=LIMIT):
        if not self.pending:
            if not select.select([self.fileno()], [], [], limit)[0]:
                raise TimeoutError('no answer')
            self.pending = self.receive(65536)
            if not self.pending:
                raise Lost()
        c, self.pending = self.pending[:1], self.pending[1:]
        return c

    def packet(self, limit=LIMIT):
        """The next packet's data."""
        c = self.byte(limit)
        while c != b'$':
            c = self.byte(limit)
        data = b''
        while (c := self.byte()) != b'#':
            data += c
        told = int(self.byte() + self.byte(), 16)
        assert told == sum(data) & 0xFF, (told, data)
        if self.acks:
            self.write(b'+')
        out, escaped = b'', False
        for b in data:
            if escaped:
                out, escaped = out + bytes([b ^ 0x20]), False
            elif b == 0x7D:
                escaped = True
            else:
                out += bytes([b])
        return out

    def ask(self, data):
        self.write(framed(data))
        return self.packet()

    def good(self, data):
        answer = self.ask(data)
        assert answer == b'OK', (data, answer)

    def registers(self):
        text = self.ask(b'g')
        values = [int.from_bytes(bytes.fromhex(text[8 * i : 8 * i + 8].decode()), 'little') for i in range(16)]
        return dict(zip(CORE, values))

    def register(self, n):
        return int.from_bytes(bytes.fromhex(self.ask(b'p%x' % n).decode()), 'little')

    def memory(self, address, n):
        return bytes.fromhex(self.ask(b'm%x,%x' % (address, n)).decode())

    def word(self, address):
        return int.from_bytes(self.memory(address, 4), 'little')

    def add(self, kind, address, n=1):
        self.good(b'Z%d,%x,%x' % (kind, address, n))

    def remove(self, kind, address, n=1):
        self.good(b'z%d,%x,%x' % (kind, address, n))

    def step(self):
        answer = self.ask(b'vCont;s:1')
        assert answer.startswith(b'T05'), answer
        return answer

    def go(self):
        """Until it stands again: the stop's words."""
        return self.ask(b'vCont;c').decode()

    def start(self):
        self.write(framed(b'vCont;c'))

    def interrupt(self):
        self.write(b'\x03')
        return self.packet().decode()

    def monitor(self, words):
        self.write(framed(b'qRcmd,' + words.encode().hex().encode()))
        text = b''
        while (answer := self.packet()) != b'OK':
            assert answer[:1] == b'O', answer
            text += bytes.fromhex(answer[1:].decode())
        return text.decode()

    def document(self, name):
        text = b''
        while True:
            part = self.ask(b'qXfer:%s:%x,400' % (name.encode(), len(text)))
            text += part[1:]
            if part[:1] == b'l':
                return text.decode()

    def close(self):
        if not self.pipes:
            self.socket.close()


def connect(where, acks=False, alive=lambda: True):
    """Waits for a door that is about to open, or turns us away for the one before, whose leave it has not noticed yet.
    Gives up once nobody is alive behind it."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            return Client(where, acks)
        except (ConnectionError, FileNotFoundError, Lost):
            if time.monotonic() > end or not alive():
                raise
            time.sleep(0.02)


def traced_rows(trace):
    """What --trace exec has printed, for single steps to be compared with: a list of registers, of the first of each
    run of instructions at one place."""
    rows = []
    for line in trace.splitlines():
        m = re.match(r'exec ([0-9a-f]{8}): (.*) fl ([0-9a-f]+) cpl (\d)', line)
        words = m[2].split()
        row = dict(zip(words[::2], (int(w, 16) for w in words[1::2])), eip=int(m[1], 16), eflags=int(m[3], 16))
        if not rows or rows[-1]['eip'] != row['eip']:
            rows.append(row)
    return rows
