"""A client of RFB (RFC 6143), such as a VNC viewer is: raw encoding, DesktopSize, VNC authentication."""
import select
import socket
import struct
import subprocess
import time

RAW, DESKTOP_SIZE = 0, -223


class Refused(Exception):
    """By the server, or it has hung up."""


def encrypt(password, challenge):
    """DES with the password as its key, the bits of each byte turned around; by openssl, which has no other way in."""
    key = bytes(int(f'{byte:08b}'[::-1], 2) for byte in password.encode().ljust(8, b'\0')[:8])
    command = ['openssl', 'enc', '-des-ecb', '-K', key.hex(), '-nopad', '-provider', 'legacy', '-provider', 'default']
    return subprocess.run(command, input=challenge, stdout=subprocess.PIPE, check=True).stdout


class Client:
    """rows: the picture, a list of (red, green, blue) for each row."""

    def __init__(self, port, password=None, limit=20):
        until = time.monotonic() + limit
        while True:
            try:
                self.socket = socket.create_connection(('127.0.0.1', port), timeout=limit)
                break
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        self.rectangles = self.bytes = 0
        self.socket.sendall(self.read(12))  # its version is ours
        kinds = self.read(self.read(1)[0])
        if password is None and 1 in kinds:
            self.socket.sendall(b'\1')
        elif password is not None and 2 in kinds:
            self.socket.sendall(b'\2')
            self.socket.sendall(encrypt(password, self.read(16)))
        else:
            raise Refused(f'authentication: {list(kinds)}')
        if self.read(4) != b'\0\0\0\0':
            raise Refused('authentication failed')
        self.socket.sendall(b'\1')  # shared
        width, height = struct.unpack('>HH', self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack('>I', self.read(4))[0]).decode()
        self.resize(width, height)
        # 32 bits a pixel: red, green and blue in bytes 2, 1 and 0 of a little-endian word.
        self.socket.sendall(struct.pack('>B3xBBBBHHHBBB3x', 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self.socket.sendall(struct.pack('>BxHii', 2, 2, RAW, DESKTOP_SIZE))
        self.request(False)

    def read(self, n):
        data = b''
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise Refused('hung up')
            data += piece
        return data

    def resize(self, width, height):
        self.width, self.height = width, height
        self.lines = [bytearray(width * 4) for _ in range(height)]

    def request(self, incremental):
        self.socket.sendall(struct.pack('>BBHHHH', 3, incremental, 0, 0, self.width, self.height))

    def update(self, limit):
        """Takes one message, and asks for the next picture. False: none has come in so many seconds."""
        if not select.select([self.socket], [], [], limit)[0]:
            return False
        kind = self.read(1)[0]
        if kind == 2:  # bell
            return True
        if kind == 3:  # text
            self.read(struct.unpack('>3xI', self.read(7))[0])
            return True
        if kind != 0:
            raise AssertionError(f'message {kind}')
        whole = True
        for _ in range(struct.unpack('>xH', self.read(3))[0]):
            x, y, width, height, encoding = struct.unpack('>HHHHi', self.read(12))
            if encoding == DESKTOP_SIZE:
                self.resize(width, height)
                whole = False
                continue
            if encoding != RAW or x + width > self.width or y + height > self.height:
                raise AssertionError(f'rectangle {x, y, width, height, encoding} of {self.width} x {self.height}')
            self.rectangles += 1
            self.bytes += width * height * 4
            for line in range(y, y + height):
                self.lines[line][x * 4 : (x + width) * 4] = self.read(width * 4)
        self.request(whole)
        return True

    def rows(self):
        return [[(line[x + 2], line[x + 1], line[x]) for x in range(0, self.width * 4, 4)] for line in self.lines]

    def wait_for(self, wanted, limit=20):
        """Takes pictures until wanted() says yes; returns whether it did."""
        until = time.monotonic() + limit
        while time.monotonic() < until:
            if wanted():
                return True
            self.update(0.2)
        return False

    def key(self, keysym, down):
        self.socket.sendall(struct.pack('>BBxxI', 4, down, keysym))

    def press(self, *keysyms):
        for keysym in keysyms:
            self.key(keysym, True)
            self.key(keysym, False)

    def pointer(self, x, y, buttons=0):
        self.socket.sendall(struct.pack('>BBHH', 5, buttons, x, y))

    def close(self):
        self.socket.close()
