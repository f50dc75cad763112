#!/usr/bin/env python3
"""Runs one whole guest of guests.ini and judges it.

  run_guest.py --transvisor PROGRAM [--work DIR] NAME
  run_guest.py --qemu [--work DIR] NAME      the same guest in QEMU: says whether the test or the machine is wrong
  run_guest.py --list [--long yes|no]

What the guest printed is kept in DIR/NAME.log. Images come from fetch.sh and mkinitramfs.sh.
"""
import argparse
import configparser
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class Failure(Exception):
    pass


def declared():
    guests = configparser.ConfigParser(interpolation=None, delimiters=('=',), comment_prefixes=('#',))
    guests.read(os.path.join(HERE, 'guests.ini'))
    return guests


def images(guest, work):
    """The kernel's path, the initramfs's, and that of a busybox that runs here, if the check needs one.

    Several tests may come here at once, so one lock is held."""
    flavour = guest['kernel'][len('KERNEL_') :].lower().replace('_', '-')
    with open(os.path.join(work, 'images.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busybox = 'busybox-host' if guest['check'] == 'selftest' else 'busybox'
        fetched = subprocess.run([os.path.join(HERE, 'fetch.sh'), flavour, busybox], stdout=subprocess.PIPE, text=True)
        if fetched.returncode:
            raise Failure('fetch.sh failed')
        paths = dict(re.findall(r"(?m)^(\w+)='(.*)'$", fetched.stdout))
        initramfs = os.path.join(work, guest['init'] + '.cpio')
        subprocess.run([os.path.join(HERE, 'mkinitramfs.sh'), guest['init'], initramfs + '.new'], check=True)
        os.replace(initramfs + '.new', initramfs)
    return paths[guest['kernel']], initramfs, paths.get('BUSYBOX_HOST')


def command(options, guest, kernel, initramfs):
    if options.qemu:
        return [
            'qemu-system-i386',
            '-accel',
            'tcg',
            '-cpu',
            'n270',
            '-m',
            guest['memory'],
            '-display',
            'none',
            '-serial',
            'stdio',
            '-monitor',
            'none',
            '-kernel',
            kernel,
            '-initrd',
            initramfs,
            '-append',
            guest['append'],
        ] + (['-no-reboot'] if '--no-reboot' in guest.get('extra', '') else [])
    cpu = ['--cpu', guest['cpu']] if guest['cpu'] else []
    return (
        [
            options.transvisor,
            'run',
            '--kernel',
            kernel,
            '--initrd',
            initramfs,
            '--append',
            guest['append'],
            '--memory',
            guest['memory'],
            '--engine',
            guest['engine'],
        ]
        + cpu
        + guest.get('extra', '').split()
    )


def conversation(guest):
    for line in guest['talk'].split('\n'):
        if line.strip():
            awaited, arrow, typed = line.partition(' => ')
            yield re.compile(awaited.strip().encode()), (typed.strip() + '\n').encode() if arrow else None


class Console:
    """The guest's output, collected by a thread, so that a silent guest is noticed."""

    def __init__(self, process, log):
        self.text = b''
        self.seen = 0
        self.changed = threading.Condition()
        self.ended = False
        threading.Thread(target=self.collect, args=(process.stdout, log), daemon=True).start()

    def collect(self, stream, log):
        while True:
            data = os.read(stream.fileno(), 65536)
            log.write(data)
            log.flush()
            with self.changed:
                self.text += data
                self.ended = not data
                self.changed.notify()
            if not data:
                return

    def wait(self, pattern, deadline):
        with self.changed:
            while True:
                found = pattern.search(self.text, self.seen)
                if found:
                    self.seen = found.end()
                    return
                if self.ended:
                    raise Failure(f'it ended before it said "{pattern.pattern.decode()}"')
                if not self.changed.wait(max(0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise Failure(f'it did not say "{pattern.pattern.decode()}" in time')


def sums(text):
    return re.findall(r'(?m)^SUM (\S+) ([0-9a-f]{64})\r?$', text)


def check_selftest(text, busybox):
    """Every checksum must equal the one that the same programs give on this host; the kernel must have had nothing to
    say."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as bin_dir:
        subprocess.run([busybox, '--install', '-s', bin_dir], check=True)
        host = subprocess.run(
            [busybox, 'sh', os.path.join(HERE, 'init', 'selftest.sh'), scratch],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={'PATH': bin_dir},
        )
    if host.returncode:
        raise Failure(f'the self-test failed on the host itself:\n{host.stdout}')
    want, got = sums(host.stdout), sums(text)
    if not want:
        raise Failure('the self-test printed nothing on the host')
    wrong = [
        f'{name}: {dict(got).get(name, "missing")}, on the host {value}'
        for name, value in want
        if dict(got).get(name) != value
    ]
    if wrong or len(got) != len(want):
        raise Failure('checksums differ from the host\'s:\n' + '\n'.join(wrong))
    for line in ('GUEST tmpfs mounted', 'GUEST selftest status 0', 'GUEST tmpfs unmounted'):
        if not re.search(rf'(?m)^{line}\r?$', text):
            raise Failure(f'it did not say "{line}"')
    report = re.search(r'(?s)GUEST dmesg begin\r?\n(.*)GUEST dmesg end', text)
    if not report:
        raise Failure('it did not report its dmesg')
    with open(os.path.join(HERE, 'dmesg.known')) as f:
        known = [re.compile(line.rstrip('\n')) for line in f if line.strip() and not line.startswith('#')]
    new = [
        line
        for line in report.group(1).replace('\r', '').splitlines()
        if line and not any(k.search(line) for k in known)
    ]
    if new:
        raise Failure('the kernel complained of what QEMU does not make it complain of:\n' + '\n'.join(new))


def run(options, name, guest):
    kernel, initramfs, busybox = images(guest, options.work)
    deadline = time.monotonic() + guest.getfloat('timeout')
    words = command(options, guest, kernel, initramfs)
    with open(os.path.join(options.work, name + '.log'), 'wb') as log, open(
        os.path.join(options.work, name + '.err'), 'wb'
    ) as errors:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        console = Console(process, log)
        try:
            for awaited, typed in conversation(guest):
                console.wait(awaited, deadline)
                if typed:
                    process.stdin.write(typed)
                    process.stdin.flush()
            try:
                status = process.wait(max(1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Failure('it did not end in time') from None
            with console.changed:
                console.changed.wait_for(lambda: console.ended, 10)
        except BrokenPipeError:
            raise Failure('it ended while it was typed to') from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if status != guest.getint('status'):
        raise Failure(f'exit status {status}, not {guest["status"]}')
    if guest['check'] == 'selftest':
        check_selftest(console.text.decode('latin-1'), busybox)


def tail(path, lines):
    with open(path, 'rb') as f:
        return '\n'.join(f.read().decode('latin-1').replace('\r', '').splitlines()[-lines:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--qemu', action='store_true')
    parser.add_argument('--work', default='.')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', choices=('yes', 'no'))
    parser.add_argument('name', nargs='?')
    options = parser.parse_args()
    guests = declared()
    if options.list:
        for name in guests.sections():
            if not options.long or guests[name].getboolean('long') == (options.long == 'yes'):
                print(name)
        return 0
    if options.name not in guests or not (options.qemu or options.transvisor):
        parser.error('a guest of guests.ini and --transvisor or --qemu are needed')
    os.makedirs(options.work, exist_ok=True)
    start = time.monotonic()
    try:
        run(options, options.name, guests[options.name])
    except Failure as why:
        for kind, lines in (('log', 40), ('err', 60)):
            path = os.path.join(options.work, f'{options.name}.{kind}')
            if os.path.exists(path):
                print(f'--- {path}, its end:\n{tail(path, lines)}')
        print(f'run_guest.py: {options.name}: {why}')
        return 1
    print(f'{options.name}: passed in {time.monotonic() - start:.1f} s')
    return 0


if __name__ == '__main__':
    sys.exit(main())
