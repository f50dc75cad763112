#!/usr/bin/env python3
"""Network cards under drivers that nobody here wrote: Debian's kernel modules, and iPXE's boot ROMs.

  net.py --transvisor FILE [--work DIRECTORY] drivers|drivers-long|pair|pair-long|moved|pxe
  net.py --list --long yes|no

drivers: one boot of Debian's kernel with a card of each model on a user network of its own. Each driver asks for its
address, pings the host, fetches a file and sends it back; the host compares. drivers-long: more of it.
pair: two such guests with a wire between the cards of each model send datagrams of all sizes both ways, of which none
may be lost. pair-long: a million on each of three wires.
moved: a stream runs both ways on each wire while one guest is saved, goes on, is saved again and goes on in another
process; and so does a file from the host on a user network, whose connection does not outlive that: the first process
has all of it, the second fetches it again.
pxe: SeaBIOS and the ROM of each model (Debian: ipxe-qemu) boot a script by TFTP. The waits are iPXE's.
Status 77: what it needs is not here.
"""
import argparse
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import run_guest
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
SIZES = {'drivers': 1 << 20, 'drivers-long': 64 << 20, 'moved': 1 << 20}
PACKETS = {'pair': (2000, DRIVERS), 'pair-long': (500000, ('virtio', 'e1000', 'pcnet'))}  # each way; on which models
ISA = 'io=0x300,irq=3'
PATIENCE = {'pair': 170, 'pair-long': 1500, 'moved': 250}  # seconds


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
            f'console=ttyS0 panic=-1 loglevel=3 net.port={host.port} net.isa={ISA}',
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


class Guest:
    """One of two on the same wires; what it says is kept."""

    def __init__(self, args, work, name, words):
        with open(os.path.join(work, name + '.err'), 'wb') as errors:
            self.process = subprocess.Popen(
                [args.transvisor, 'run', *words, '--serial', 'stdio'],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.log = open(os.path.join(work, name + '.log'), 'wb')
        self.console = run_guest.Console(self.process, self.log)

    def lines(self):
        with self.console.changed:
            return self.console.text.decode('latin-1').replace('\r', '').split('\n')

    def wait(self, wanted, until):
        """For all of these lines."""
        while missing := [line for line in wanted if line not in self.lines()]:
            if self.console.ended or time.monotonic() > until:
                raise run_guest.Failure(f'not said: {missing}')
            time.sleep(0.05)

    def end(self, until):
        try:
            status = self.process.wait(max(1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise run_guest.Failure('it did not end in time') from None
        with self.console.changed:
            self.console.changed.wait_for(lambda: self.console.ended, 10)
        return status

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wires(work, models, side):
    """Options of a guest's cards: one on each wire, that of the model."""
    words = []
    for i, model in enumerate(models):
        words += ['--net', f'socket:unix:{work}/{i},model={model},mac=52:54:00:aa:{i + 1:02x}:{side:02x}']
    return words


def file_wait(path, guest, until):
    while not os.path.exists(path):
        if guest.console.ended or time.monotonic() > until:
            raise run_guest.Failure(f'{path} was not saved')
        time.sleep(0.01)


def pair_packets(args, work, boot, guests):
    count, models = PACKETS[args.test]
    until = time.monotonic() + PATIENCE[args.test]
    for side in (1, 2):
        words = boot(f'wire.packets={count} wire.isa={ISA}') + wires(work, models, side)
        guests.append(Guest(args, work, f'guest{side}', words))
    for guest in guests:
        status = guest.end(until)
        guest.wait([f'NET {DRIVERS[model]}: {count} packets' for model in models], until)
        errors = [line for line in guest.lines() if line.startswith('NET errors')]
        if status or errors != ['NET errors 0 0 0 0 '] * len(models):
            raise run_guest.Failure(f'status {status}, {errors}')
    return f'{2 * count} packets on each of {len(models)} wires'


def moved(args, work, boot, guests):
    host = Host(SIZES[args.test])
    until = time.monotonic() + PATIENCE[args.test]
    models, snap = list(DRIVERS), os.path.join(work, 'snap')
    streams = boot(f'wire.stream=1 wire.port={host.port} wire.isa={ISA}')
    guests.append(Guest(args, work, 'guest1', streams + wires(work, models, 1)))
    saves = ['--save', snap, '--save-at-exit', snap + '.last']
    user = ['--net', 'user,mac=52:54:00:00:00:01']
    guests.append(Guest(args, work, 'guest2', streams + wires(work, models, 2) + user + saves))
    both, second = guests[:2], guests[1]
    for guest in both:
        guest.wait([f'NET {driver}: begun' for driver in DRIVERS.values()], until)
    second.process.send_signal(signal.SIGUSR1)
    file_wait(snap, second, until)
    second.wait([f'NET user: got {host.sum}'], until)  # it goes on
    second.process.send_signal(signal.SIGTERM)
    if (status := second.end(until)) != 128 + signal.SIGTERM:
        raise run_guest.Failure(f'saved at its end: status {status}')
    guests.append(Guest(args, work, 'moved', ['--load', snap + '.last']))
    third = guests[2]
    third.process.stdin.write(b'enough\n')
    third.process.stdin.flush()
    whole = [f'NET {driver}: whole' for driver in DRIVERS.values()]
    third.wait(whole + [f'NET user: again {host.sum}'], until)
    guests[0].wait(whole, until)
    if statuses := [g.end(until) for g in (guests[0], third)] != [0, 0]:
        raise run_guest.Failure(f'statuses {statuses}')
    return f'{len(models)} streams'


def pair(args):
    kernel, modules = fetched_modules()
    os.makedirs(args.work, exist_ok=True)
    guests = []
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        initrd, program = os.path.join(work, 'wire.cpio'), os.path.join(work, 'wire')
        subprocess.run(['cc', '-m32', '-static', '-O1', '-o', program, os.path.join(HERE, 'wire.c')], check=True)
        subprocess.run(
            [os.path.join(HERE, 'mkinitramfs.sh'), '--tree', modules, '--add', program, 'wire', initrd], check=True
        )

        def boot(words):
            append = f'console=ttyS0 panic=-1 loglevel=3 {words}'
            return ['--kernel', kernel, '--initrd', initrd, '--memory', '128M', '--append', append]

        try:
            said = (moved if args.test == 'moved' else pair_packets)(args, work, boot, guests)
        except run_guest.Failure as why:
            for guest in guests:
                guest.kill()
                print(f'--- {guest.log.name}:', *guest.lines()[-25:], sep='\n')
                with open(guest.log.name.removesuffix('log') + 'err', encoding='utf-8', errors='replace') as errors:
                    print(errors.read())
            print(f'net.py: {args.test}: {why}')
            return 1
        finally:
            for guest in guests:
                guest.kill()
                guest.log.close()
    print(said)
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
    parser.add_argument('test', nargs='?', choices=[*SIZES, *PACKETS, 'pxe'])
    args = parser.parse_args()
    if args.list:
        print('drivers-long\npair-long' if args.long == 'yes' else 'drivers\npair\nmoved\npxe')
        return 0
    return {'pxe': pxe, 'moved': pair}.get(args.test, pair if args.test in PACKETS else drivers)(args)


if __name__ == '__main__':
    sys.exit(main())
