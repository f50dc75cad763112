#!/usr/bin/env python3
"""Network cards under drivers that nobody here wrote: Debian's kernel modules, and iPXE's boot ROMs.

  net.py --transvisor FILE [--work DIRECTORY] drivers|drivers-long|pxe
  net.py --list --long yes|no

drivers: one boot of Debian's kernel with a card of each model on a user network of its own. Each driver asks for its
address, pings the host, fetches a file and sends it back; the host compares. drivers-long: more of it.
pxe: SeaBIOS and the ROM of each model (Debian: ipxe-qemu) boot a script by TFTP. The waits are iPXE's.
Status 77: what it needs is not here.
"""
import argparse
import hashlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading

from fetched import fetched_modules

HERE = os.path.dirname(os.path.abspath(__file__))
DRIVERS = {  # model: what sysfs calls its driver
    'virtio': 'virtio_net',
    'e1000': 'e1000',
    'pcnet': 'pcnet32',
    'rtl8139': '8139too',
    'ne2k': 'ne2k-pci',
    'ne2k-isa': 'ne',
}
ROMS = ('virtio', 'e1000', 'pcnet', 'rtl8139', 'ne2k_pci')
ROM_FILE = '/usr/lib/ipxe/qemu/pxe-%s.rom'
SIZES = {'drivers': 1 << 20, 'drivers-long': 64 << 20}


class Host:
    """Two ports of the loopback: one gives a file, the next takes it back."""

    def __init__(self, size):
        self.data = random.Random(size).randbytes(size)
        self.sum = hashlib.sha256(self.data).hexdigest()
        self.taken = []
        while True:  # two ports that follow each other
            self.give = socket.create_server(('127.0.0.1', 0))
            self.port = self.give.getsockname()[1]
            try:
                self.take = socket.create_server(('127.0.0.1', self.port + 1))
                break
            except OSError:
                self.give.close()
        for listener, serve in ((self.give, self.on_give), (self.take, self.on_take)):
            threading.Thread(target=self.accept, args=(listener, serve), daemon=True).start()

    def accept(self, listener, serve):
        while True:
            peer, _ = listener.accept()
            with peer:
                try:
                    serve(peer)
                except OSError as e:  # the guest's fault, which the comparison shows
                    print(f'net.py: {e}', file=sys.stderr)

    def on_give(self, peer):
        peer.sendall(self.data)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)

    def on_take(self, peer):
        got = hashlib.sha256()
        while part := peer.recv(65536):
            got.update(part)
        self.taken.append(got.hexdigest())


def drivers(args):
    kernel, modules = fetched_modules()
    host = Host(SIZES[args.test])
    os.makedirs(args.work, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        initrd = os.path.join(work, 'net.cpio')
        subprocess.run([os.path.join(HERE, 'mkinitramfs.sh'), '--tree', modules, 'net', initrd], check=True)
        command = [args.transvisor, 'run', '--kernel', kernel, '--initrd', initrd, '--memory', '256M', '--serial']
        command += [
            'stdio',
            '--append',
            f'console=ttyS0 panic=-1 loglevel=3 net.port={host.port} net.isa=io=0x300,irq=3',
        ]
        for model in DRIVERS:
            command += ['--net', f'user,model={model}']
        seconds = 170 if args.test == 'drivers' else 1500
        done = subprocess.run(
            command + ['--timeout', str(seconds)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
        )
    said = done.stdout.decode(errors='replace').replace('\r', '')
    lines = said.split('\n')
    missing = [
        f'{driver}: {what}'
        for driver in DRIVERS.values()
        for what in ('ping lost 0%', f'got {host.sum}', 'errors 0 0 ')
        if f'NET {driver}: {what}' not in lines
    ]
    if done.returncode or missing or host.taken != [host.sum] * len(DRIVERS):
        print(said)
        print(f'status {done.returncode}; not said: {missing}; came back whole: {host.taken.count(host.sum)}')
        return 1
    print(f'{len(DRIVERS)} cards, {len(host.data)} bytes each way')
    return 0


def pxe(args):
    missing = [ROM_FILE % rom for rom in ROMS if not os.path.exists(ROM_FILE % rom)]
    if missing:
        print(f'skipped: there is no {missing[0]} (Debian: ipxe-qemu)')
        return 77
    failed = 0
    with tempfile.TemporaryDirectory() as work:
        with open(os.path.join(work, 'boot.ipxe'), 'w', encoding='ascii') as f:
            f.write('#!ipxe\necho BOOTED ${net0/mac}\n')
        running = []  # at once: most of it is waiting
        for i, model in enumerate(ROMS):
            mac = f'52:54:00:00:00:{i:02x}'
            net = f'user,model={model.removesuffix("_pci")},tftp={work},bootfile=boot.ipxe,mac={mac}'
            command = [args.transvisor, 'run', '--boot', 'network', '--net', net, '--expect', f'BOOTED {mac}']
            command += ['--timeout', '170', '--display', 'none', '--serial', 'stdio']
            running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
        for model, machine in zip(ROMS, running):
            said = machine.communicate()[0]
            if machine.returncode:
                print(said.decode(errors='replace'))
                print(f'{model}: status {machine.returncode}')
                failed = 1
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work', default='.')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', choices=('yes', 'no'))
    parser.add_argument('test', nargs='?', choices=('drivers', 'drivers-long', 'pxe'))
    args = parser.parse_args()
    if args.list:
        print('drivers-long' if args.long == 'yes' else 'drivers\npxe')
        return 0
    return pxe(args) if args.test == 'pxe' else drivers(args)


if __name__ == '__main__':
    sys.exit(main())
