#!/usr/bin/env python3
"""An installed Debian 12 i386 from a disk image: GRUB, systemd, login on the serial console, off with a clean disk.

  installed.py --transvisor PROGRAM [--work DIR] [--engine bt|interp] CASE
  installed.py --transvisor PROGRAM [--work DIR] --against QEMU [--rounds N]
  installed.py --list

--against takes the time from the start of the program to the login prompt, by turns with a QEMU, and prints medians and
their ratio. The image is made once (make.py) and kept in the cache; each run has a qcow2 image of its own above it.
"""
import argparse
import fcntl
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from run_guest import Console, Failure  # noqa: E402

SKIPPED = 77
CACHE = os.environ.get('TRANSVISOR_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'transvisor'
)
FIRST = 1 << 20  # where the partition begins
# bus, and which entry of GRUB's menu: the newest kernel, which is 686-pae, or one below "Advanced options".
CASES = {'virtio': ('virtio', None), 'ide': ('ide', None), 'ide-686': ('ide', '686')}
LOGIN = re.compile(rb'guest login: ')
PATIENCE = 240
# GRUB's second entry is a menu; in it each kernel has an entry and one for recovery. The menu goes away after a second:
# so keys are the program's to type, which is never late. Firmware may say where the cursor is in the midst of a word.
OTHER_KERNEL = ['--type', '<down><ret>@Adv', '--type', '<down><down><ret>@reco']
MENU = re.compile(rb'(?:\x1b\[[0-9;]*[A-Za-z])*'.join(bytes([letter]) for letter in b'Advanced'))


def image(program):
    """The image, which nothing changes. What is made by another recipe is another one."""
    recipe = hashlib.sha256()
    for name in ('make.py', 'packages.sh', 'stage2'):
        with open(os.path.join(HERE, name), 'rb') as file:
            recipe.update(file.read())
    path = os.path.join(CACHE, f'debian-i386-{recipe.hexdigest()[:12]}.img')
    os.makedirs(CACHE, exist_ok=True)
    with open(path + '.lock', 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            subprocess.run([os.path.join(HERE, 'make.py'), '--transvisor', program, path + '.new'], check=True)
            os.replace(path + '.new', path)
    return path


def layer(program, base, work, name):
    path = os.path.join(work, name + '.qcow2')
    if os.path.exists(path):
        os.remove(path)
    words = [program, 'img', 'create', '-f', 'qcow2', '-b', base, '-F', 'raw', path]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return path


def ours(options, disk, bus):
    words = [options.transvisor, 'run', '--disk', f'{disk},format=qcow2,bus={bus}', '--memory', '512M']
    return words + (['--engine', options.engine] if options.engine else [])


def qemu(options, disk, bus):
    words = [options.against, '-accel', 'tcg', '-m', '512', '-display', 'none', '-serial', 'stdio', '-monitor', 'none']
    return words + ['-nic', 'none', '-drive', f'file={disk},format=qcow2,if={bus}', '-no-reboot']


class Guest:
    def __init__(self, words, log):
        self.log = open(log, 'wb')
        self.begin = time.monotonic()
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.console = Console(self.process, self.log)

    def wait(self, pattern):
        self.console.wait(re.compile(pattern) if isinstance(pattern, bytes) else pattern, time.monotonic() + PATIENCE)
        return time.monotonic() - self.begin

    def type(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self):
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure('it did not switch itself off') from None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


def check_disk(options, disk, work):
    """What the guest has left is a clean file system."""
    e2fsck = shutil.which('e2fsck', path=os.environ.get('PATH', '') + ':/sbin:/usr/sbin')
    raw = os.path.join(work, 'after.img')
    checked = subprocess.run([options.transvisor, 'img', 'check', disk], stdout=subprocess.PIPE, text=True, check=False)
    if checked.returncode:
        raise Failure(f'img check: {checked.stdout}')
    words = [options.transvisor, 'img', 'convert', '-O', 'raw', disk, raw]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    try:
        words = [e2fsck, '-fn', f'{raw}?offset={FIRST}']
        found = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        # -f looks at everything; that the guest has unmounted it is a state of its own.
        if found.returncode or 'recover' in found.stdout:
            raise Failure(f'e2fsck (status {found.returncode}): {found.stdout}')
    finally:
        os.remove(raw)


def run(options, name):
    bus, kernel = CASES[name]
    disk = layer(options.transvisor, image(options.transvisor), options.work, name)
    words = ours(options, disk, bus) + (OTHER_KERNEL if kernel else [])
    guest = Guest(words, os.path.join(options.work, name + '.log'))
    try:
        guest.wait(MENU)
        guest.wait(LOGIN)
        guest.type(b'root\n')
        guest.wait(b'Password: ')
        guest.type(b'root\n')
        guest.wait(rb'root@guest:~# ')
        guest.type(b'uname -r; systemctl is-system-running --wait; systemctl --failed --no-legend; echo over\n')
        guest.wait(b'6[-.0-9]+-686(-pae)?\r\n' if not kernel else b'6[-.0-9]+-686\r\n')
        guest.wait(rb'running\r\n')
        guest.wait(rb'over\r\n')
        guest.type(b'mount | grep " / "; dmesg --level=emerg,alert,crit,err; echo done\n')
        guest.wait(rb'ext4 \(rw')
        guest.wait(rb'done\r\n')
        guest.type(b'poweroff\n')
        status = guest.end()
        if status:
            raise Failure(f'status {status}: {guest.process.stderr.read().decode(errors="replace")}')
    finally:
        guest.kill()
    check_disk(options, disk, options.work)
    os.remove(disk)


def against(options):
    base = image(options.transvisor)
    for bus in ('virtio', 'ide'):
        seconds = {'ours': [], 'qemu': []}
        for _ in range(options.rounds):
            for side, words in (('ours', ours), ('qemu', qemu)):
                disk = layer(options.transvisor, base, options.work, side)
                guest = Guest(words(options, disk, bus), os.path.join(options.work, side + '.log'))
                try:
                    seconds[side].append(guest.wait(LOGIN))
                finally:
                    guest.kill()
        a, b = statistics.median(seconds['ours']), statistics.median(seconds['qemu'])
        print(f'{bus}: login after {a:.1f} s, in QEMU after {b:.1f} s: {a / b:.2f}', flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work', default='.')
    parser.add_argument('--engine')
    parser.add_argument('--against')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--list', action='store_true')
    parser.add_argument('case', nargs='?')
    options = parser.parse_args()
    if options.list:
        print('\n'.join(CASES))
        return 0
    options.transvisor = os.path.abspath(options.transvisor)
    os.makedirs(options.work, exist_ok=True)
    for tool in ('mke2fs', 'e2fsck', 'dpkg-deb', 'apt-get', 'cpio'):
        if not shutil.which(tool, path=os.environ.get('PATH', '') + ':/sbin:/usr/sbin'):
            print(f'skipped: there is no {tool}')
            return SKIPPED
    try:
        if options.against:
            against(options)
        else:
            run(options, options.case)
    except Failure as why:
        print(f'{options.case}: {why}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
