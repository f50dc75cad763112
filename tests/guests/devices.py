#!/usr/bin/env python3
"""Shared folders and USB devices under drivers that nobody here wrote: Debian's kernel modules.

  devices.py --transvisor FILE [--work DIRECTORY] devices
  devices.py --list --long yes|no

devices: one boot of Debian's kernel. With shared folders (v9fs) the guest reads, writes, renames, links and removes,
and the host finds what that comes to, and nothing outside of the folder touched. Of the small virtio devices hw_random
gets numbers, hvc0 carries bytes both ways, and the balloon takes memory and gives it back, as the monitor wants it.
With a USB tablet and keyboard (uhci-hcd, usbhid, evdev) the guest is told what somebody does, by way of the monitor; a
USB disk (usb-storage, sd) is read and written.
Status 77: what it needs is not here.
"""
import argparse
import hashlib
import json
import os
import random
import socket
import stat
import subprocess
import sys
import tempfile
import time

from fetched import fetched_modules

HERE = os.path.dirname(os.path.abspath(__file__))


class Folders:
    """What the host shares, and what there is beside it."""

    def __init__(self, work):
        self.secret = os.path.join(work, 'secret')
        self.shared = os.path.join(work, 'shared')
        self.readonly = os.path.join(work, 'read,only')  # a comma is typed twice
        for name in (self.shared, self.readonly):
            os.mkdir(name)
        with open(self.secret, 'w', encoding='ascii') as f:
            f.write('secret of the host\n')
        self.data = random.Random(9).randbytes(1_500_001)
        with open(os.path.join(self.shared, 'given'), 'wb') as f:
            f.write(self.data)
        os.symlink(self.secret, os.path.join(self.shared, 'outside'))
        with open(os.path.join(self.readonly, 'hello'), 'w', encoding='ascii') as f:
            f.write('hello\n')

    def options(self):
        return ['--share', f'{self.shared},tag=files', '--share', self.readonly.replace(',', ',,') + ',readonly=on']

    def expected(self):
        """What the guest is to say."""
        data = hashlib.sha256(self.data).hexdigest()
        denied = 'Read-only file system'
        return {
            'read': data,
            'copied': data,
            'renamed': 'one more',
            'linked': 'one more',
            'many': '300',
            'mode': '640 2 981173106 regular file',
            'truncated': '0123',
            'unlinked': 'ls: gone: No such file or directory still',
            'removed': 'ls: many: No such file or directory',
            'escape': "cat: can't open 'outside': No such file or directory",
            'device': 'mknod: dev: Operation not permitted',
            'statfs': 'files',
            'pwd': 'one',
            'ro_read': 'hello',
            'ro_write': f"sh: can't create hello: {denied}",
            'ro_make': f"mkdir: can't create directory 'x': {denied}",
            'ro_remove': f"rm: can't remove 'hello': {denied}",
        }

    def wrong(self):
        """What the host does not find as it should be."""

        def look(name, want):
            path = os.path.join(self.shared, name)
            if not os.path.lexists(path) or os.path.islink(path) and want != 'link':
                return [f'{name}: is not there']
            st = os.lstat(path)
            have = {
                'data': lambda: open(path, 'rb').read() == self.data,
                'one': lambda: open(path, 'rb').read() == b'one\nmore\n' and st.st_nlink == 2,
                'link': lambda: os.readlink(path) == 'c/b/one',
                'fifo': lambda: stat.S_ISFIFO(st.st_mode),
            }[want]()
            return [] if have else [f'{name}: is no {want}']

        wrong = look('copy', 'data') + look('tree/d/b/one', 'one') + look('tree/two', 'one')
        wrong += look('tree/link', 'link') + look('tree/fifo', 'fifo')
        if sorted(os.listdir(self.readonly)) != ['hello']:
            wrong.append(f'the folder to be read has {os.listdir(self.readonly)}')
        with open(self.secret, encoding='ascii') as f:
            if f.read() != 'secret of the host\n':
                wrong.append('a file outside of the folder has changed')
        return wrong


INPUT = [
    {'type': 'abs', 'data': {'axis': 'x', 'value': 1000}},
    {'type': 'abs', 'data': {'axis': 'y', 'value': 30000}},
    {'type': 'btn', 'data': {'down': True, 'button': 'left'}},
    {'type': 'key', 'data': {'down': True, 'key': {'type': 'qcode', 'data': 'a'}}},
    {'type': 'key', 'data': {'down': False, 'key': {'type': 'qcode', 'data': 'a'}}},
]
# What Linux makes of it: type, code and value of each event.
SEEN = {
    'tablet': '4-4-589825,1-272-1,3-0-1000,3-1-30000,0-0-0,',
    'keyboard': '4-4-458756,1-30-1,0-0-0,4-4-458756,1-30-0,0-0-0,',
}


def ask(monitor, command, **arguments):
    """What QMP answers to a command."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(monitor)
        with s.makefile('rw', encoding='utf-8') as f:
            f.readline()
            for execute, words in (('qmp_capabilities', {}), (command, arguments)):
                f.write(json.dumps({'execute': execute, 'arguments': words}) + '\n')
                f.flush()
                while 'return' not in (answer := json.loads(f.readline())):
                    assert 'event' in answer, answer
            return answer['return']


class Console:
    """The other end of hvc0: everything that comes is kept; what is typed is of all values."""

    def __init__(self, work, modules):
        self.path = os.path.join(work, 'hvc')
        self.data = random.Random(2).randbytes(2000)
        with open(os.path.join(modules, 'lib', 'm', 'virtio-rng.ko'), 'rb') as f:
            self.sent = f.read()

    def options(self):
        return ['--virtio-console', f'unix:{self.path}']

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self.path)
        self.socket.settimeout(60)

    def expected(self):
        return {'hvc': hashlib.sha256(self.data).hexdigest()}

    def type(self):
        self.socket.sendall(self.data)

    def wrong(self):
        got = b''
        while len(got) < len(self.sent) and (more := self.socket.recv(65536)):
            got += more
        self.socket.close()
        return [] if got == self.sent else [f'hvc0: {len(got)} bytes, not the {len(self.sent)} that were sent']


class Balloon:
    """64 MiB less, and then all of it again."""

    ALL = 256 << 20

    def __init__(self):
        self.had = []
        self.totals, self.sane = [], False

    def total(self, monitor, wanted=None):
        """The memory that the guest's driver says there is, once it has said so; or once it is `wanted`."""
        for _ in range(400):
            said = ask(monitor, 'query-balloon').get('guest-stats', {}).get('stats', {})
            total = said.get('stat-total-memory', 0)
            if total and wanted in (None, total):
                self.sane = 0 < said['stat-free-memory'] < total and said['stat-minor-faults'] > 0
                return total
            time.sleep(0.05)
        return 0

    def blow(self, monitor, less):
        self.had.append(self.ALL - ask(monitor, 'query-balloon')['actual'])
        ask(monitor, 'balloon', value=self.ALL - less)

    def expected(self):
        return {'balloon': '65536', 'balloon_gone': '0'}

    def wrong(self):
        wrong = [] if self.had == [0, 64 << 20] else [f'query-balloon has {self.had} bytes less']
        if not self.sane or self.totals[0] - self.totals[1] != 64 << 20:
            wrong.append(f'guest-stats: {self.totals} bytes in all, {self.sane}')
        return wrong


class Stick:
    """A USB disk of 3 MiB, a part of which the guest copies to its start."""

    def __init__(self, work):
        self.file = os.path.join(work, 'stick')
        self.data = random.Random(1).randbytes(3 << 20)
        with open(self.file, 'wb') as f:
            f.write(self.data)
        part = 256 << 10
        self.after = self.data[2 * part : 3 * part] + self.data[part:]

    def expected(self):
        return {'stick': hashlib.sha256(self.data).hexdigest(), 'stick_again': hashlib.sha256(self.after).hexdigest()}

    def wrong(self):
        with open(self.file, 'rb') as f:
            return [] if f.read() == self.after else ['stick: is not what the guest has written']


def devices(args):
    kernel, modules = fetched_modules()
    os.makedirs(args.work, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        folders, stick, console, balloon = Folders(work), Stick(work), Console(work, modules), Balloon()
        initrd, monitor = (os.path.join(work, name) for name in ('devices.cpio', 'qmp'))
        subprocess.run([os.path.join(HERE, 'mkinitramfs.sh'), '--tree', modules, 'devices', initrd], check=True)
        command = [args.transvisor, 'run', '--kernel', kernel, '--initrd', initrd, '--memory', '256M']
        command += ['--serial', 'stdio', '--append', 'console=ttyS0 panic=-1 loglevel=3', *folders.options()]
        command += ['--usb', 'tablet,keyboard', '--usb', f'storage:{stick.file}', '--monitor', f'unix:{monitor}']
        command += ['--rng', 'on', '--balloon', 'on', *console.options(), '--timeout', '170', *args.option]
        said = ''
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as guest:
            for line in guest.stdout:
                said += line.decode(errors='replace').replace('\r', '')
                if line.startswith(b'DEVICE read'):  # the first thing that is said: the doors are there
                    console.connect()
                if line.startswith(b'CONSOLE ready'):
                    console.type()
                if line.startswith(b'BALLOON ready'):
                    balloon.totals.append(balloon.total(monitor))
                    balloon.blow(monitor, 64 << 20)
                if line.startswith(b'BALLOON is large'):
                    balloon.totals.append(balloon.total(monitor, balloon.totals[0] - (64 << 20)))
                    balloon.blow(monitor, 0)
                if line.startswith(b'DEVICES ready'):
                    ask(monitor, 'input-send-event', events=INPUT)
        lines = dict(
            line[7:].rstrip().split(': ', 1) for line in said.split('\n') if line.startswith('DEVICE ') and ': ' in line
        )
        expected = {**folders.expected(), **stick.expected(), **console.expected(), **balloon.expected(), **SEEN}
        expected['rng_name'] = 'virtio_rng.0'
        wrong = [f'{k}: {lines.get(k)!r}, not {v!r}' for k, v in expected.items() if lines.get(k) != v]
        wrong += folders.wrong() + stick.wrong() + balloon.wrong() + console.wrong()
        if int(lines.get('rng', 0)) < 20000:
            wrong.append(f"rng: 20000 random bytes can be packed into {lines.get('rng')}")
    if guest.returncode or wrong:
        print(said)
        print(f'status {guest.returncode}')
        print('\n'.join(wrong))
        return 1
    print(f'{len(lines)} things done')
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work', default='.')
    parser.add_argument('--option', action='append', default=[], help='a further word for the program')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', choices=('yes', 'no'))
    parser.add_argument('test', nargs='?', choices=('devices',))
    args = parser.parse_args()
    if args.list:
        if args.long != 'yes':
            print('devices')
        return 0
    return devices(args)


if __name__ == '__main__':
    sys.exit(main())
