#!/usr/bin/env python3
"""Runs a command on another kind of host: Debian's amd64 kernel in QEMU (TCG), which has what this host's kernel may
lack: 32-bit compatibility mode, PTRACE_SYSEMU, modify_ldt, FSGSBASE.

  run.py [--add FILE[:DEST]]... [--cpu MODEL] [--smp N] [--memory SIZE] [--timeout SECONDS] [--icount] [--root]
         [--console] [--verbose] -- COMMAND [ARGUMENT]...

Prints the command's output (both streams) and exits with its status; 124 after a time-out, 125 when the nested host
itself failed, whose kernel's last words are then printed. Files are put into /test (or at DEST, an absolute path), and
with a dynamic program its shared libraries where it looks for them; /test is the command's directory and first in its
PATH, busybox's applets come second. The command runs as an ordinary user (uid 1000) unless --root is given.

Needs qemu-system-x86_64; the kernel and busybox come from tests/guests/fetch.sh.
"""
import argparse
import lzma
import os
import re
import secrets
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
FETCH = os.path.join(HERE, '..', 'guests', 'fetch.sh')
QEMU = 'qemu-system-x86_64'
USER, UID = 'user', 1000
TIMED_OUT, FAILED = 124, 125

# The clock is the HPET, whose rate is known: calibrating the TSC on a busy host has been seen wrong by a factor of
# twenty. Mitigations and address randomization only cost time.
# On one processor Linux turns LOCK prefixes into DS prefixes, and QEMU 7.2 adds a DS base in 64-bit code:
# noreplace-smp.
KERNEL_LINE = (
    'console=ttyS1 quiet panic=-1 mitigations=off nokaslr nopti tsc=unstable clocksource=hpet '
    'no_timer_check noreplace-smp random.trust_cpu=on audit=0 rdinit=/init'
)
# QEMU 7.2 does the stack accesses of a user's RETF and IRET as if the kernel did them, which SMAP then forbids.
CPU_LESS = ',-smap'


class Failure(Exception):
    """The nested host could not be made or did not do its part."""


class Archive:
    """A cpio archive (newc) of an initramfs, all of it owned by root."""

    def __init__(self):
        self.parts = []
        self.names = set()

    def _entry(self, name, mode, data):
        fields = [len(self.names) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b'070701' + b''.join(b'%08X' % value for value in fields) + name.encode() + b'\0'
        self.parts += [head, b'\0' * (-len(head) % 4), data, b'\0' * (-len(data) % 4)]
        self.names.add(name)

    def folder(self, name):
        if name and name not in self.names:
            self.folder(os.path.dirname(name))
            self._entry(name, stat.S_IFDIR | 0o755, b'')

    def file(self, path, data, mode=0o755):
        name = path.lstrip('/')
        if name not in self.names:
            self.folder(os.path.dirname(name))
            self._entry(name, stat.S_IFREG | mode, data)

    def bytes(self):
        self._entry('TRAILER!!!', 0, b'')
        return b''.join(self.parts)


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def fetched(*names):
    """fetch.sh's paths, with names fetched if they are not there yet."""
    done = subprocess.run(['sh', FETCH, *names], stdout=subprocess.PIPE, universal_newlines=True)
    if done.returncode:
        raise Failure(f'not all of {", ".join(names)} could be fetched')
    return dict(re.findall(r"^(\w+)='(.*)'$", done.stdout, re.M))


def unpacked_kernel(image):
    """The ELF file within an XZ-compressed bzImage, kept beside it: QEMU starts it by PVH, which saves the guest from
    unpacking itself (10 s). Another kind of image is used as it is."""
    unpacked = image.replace('/vmlinuz-', '/vmlinux-')
    if os.path.exists(unpacked):
        return unpacked
    data = read(image)
    start = data.find(b'\xfd7zXZ\0')
    if start < 0:
        return image
    elf = lzma.LZMADecompressor().decompress(data[start:])
    if not elf.startswith(b'\x7fELF'):
        return image
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(unpacked), delete=False) as file:
        file.write(elf)
    os.replace(file.name, unpacked)
    return unpacked


def libraries(path):
    """The shared libraries and the loader that a program needs, where it looks for them; none if it is static."""
    if read(path)[:5] != b'\x7fELF\x02':
        return []
    listed = subprocess.run(['ldd', path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
    missing = re.findall(r'(\S+) => not found', listed.stdout)
    if missing:
        raise Failure(f'{path} needs {missing[0]}, which is not here')
    return re.findall(r'(?:=> |^\s*)(/\S+) \(0x', listed.stdout, re.M)


def add(archive, path, dest):
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            add(archive, os.path.join(path, name), f'{dest}/{name}')
        return
    archive.file(dest, read(path), 0o755 if os.access(path, os.X_OK) else 0o644)
    for library in libraries(path):
        archive.file(library, read(library))


def initramfs(busybox, files, command, marker, root):
    """files is a list of (path, destination)."""
    archive = Archive()
    for folder in ('proc', 'sys', 'dev', 'tmp', 'root', 'etc', 'bin', 'test'):
        archive.folder(folder)
    archive.file('bin/busybox', read(busybox))
    archive.file('init', read(os.path.join(HERE, 'init')))
    archive.file('etc/passwd', f'root:x:0:0:root:/root:/bin/sh\n{USER}:x:{UID}:{UID}::/test:/bin/sh\n'.encode(), 0o644)
    archive.file('etc/group', f'root:x:0:\n{USER}:x:{UID}:\n'.encode(), 0o644)
    archive.file('test/.settings', f'MARKER={marker}\nRUN_AS={"root" if root else USER}\n'.encode(), 0o644)
    words = ' '.join(shlex.quote(word) for word in command)
    archive.file('test/.command', f'cd /test && export PATH=/test:/bin && exec {words}\n'.encode(), 0o644)
    for path, dest in files:
        add(archive, path, dest)
    return archive.bytes()


def qemu_command(kernel, archive, console, options):
    command = [
        QEMU,
        '-nodefaults',
        '-no-user-config',
        '-no-reboot',
        '-display',
        'none',
        '-machine',
        'pc',
        '-accel',
        'tcg',
        '-cpu',
        options.cpu + CPU_LESS,
        '-smp',
        str(options.smp),
        '-m',
        options.memory,
        '-kernel',
        kernel,
        '-initrd',
        archive,
        '-append',
        KERNEL_LINE + ' ' + options.append,
        '-serial',
        'stdio',
        '-serial',
        f'file:{console}',
    ]
    return command + (['-icount', 'shift=0,sleep=off'] if options.icount else [])


class Output:
    """Passes the command's output on as it comes, up to the line that gives its status."""

    def __init__(self, marker, out, verbose):
        self.marker = marker.encode()
        self.out = out
        self.verbose = verbose
        self.started = time.monotonic()
        self.up = None
        self.status = None
        self.held = b''  # the newline before the marker is init's, so the last one waits for what follows it

    def line(self, line):
        if line.startswith(self.marker + b' up '):
            self.up = time.monotonic() - self.started
            if self.verbose:
                print(
                    f'run.py: command starts after {self.up:.1f} s, {float(line.split()[2]):.1f} s by the nested clock',
                    file=sys.stderr,
                )
        elif line.startswith(self.marker + b' status '):
            self.status = int(line.split()[2])
            if self.held not in (b'', b'\n'):
                self.write(self.held[:-1])
            return False
        else:
            self.write(self.held)
            self.held = line
            if not line.endswith(b'\n') or line != b'\n':
                self.write(line[:-1])
                self.held = line[-1:]
        return True

    def write(self, data):
        self.out.write(data)
        self.out.flush()


def explain(status, console, timed_out, timeout):
    if timed_out:
        print(f'run.py: no end within {timeout} s', file=sys.stderr)
    else:
        print(
            f'run.py: the nested host ended before the command did (QEMU: status {status}); its kernel\'s last words:',
            file=sys.stderr,
        )
    try:
        tail = read(console).decode('utf-8', 'replace').replace('\r', '').splitlines()[-40:]
    except FileNotFoundError:
        tail = []
    print('\n'.join(tail), file=sys.stderr)


def run_qemu(command, output, timeout):
    """Runs QEMU until the marker, its own end or the time-out; tells which (its status or None, timed out or not)."""
    try:
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise Failure(f'needs {QEMU} (Debian: qemu-system-x86)') from None
    late = threading.Event()

    def stop():
        late.set()
        qemu.kill()

    timer = threading.Timer(timeout, stop)
    timer.start()
    try:
        for line in qemu.stdout:
            if not output.line(line):
                break
    finally:
        timer.cancel()
        if output.status is not None:
            qemu.kill()
        try:
            qemu.wait(10)
        except subprocess.TimeoutExpired:
            qemu.kill()
            qemu.wait()
    return qemu.returncode, late.is_set()


def run(options, files, command, out=None):
    """Boots, runs, returns the command's status. options as from the command line; files as for initramfs()."""
    paths = fetched('amd64', 'busybox-amd64')
    marker = 'nested-' + secrets.token_hex(8)
    output = Output(marker, out or sys.stdout.buffer, options.verbose)
    with tempfile.TemporaryDirectory() as folder:
        archive, console = os.path.join(folder, 'initramfs'), os.path.join(folder, 'console')
        with open(archive, 'wb') as file:
            file.write(initramfs(paths['BUSYBOX_AMD64'], files, command, marker, options.root))
        qemu = qemu_command(unpacked_kernel(paths['KERNEL_AMD64']), archive, console, options)
        output.started = time.monotonic()
        status, timed_out = run_qemu(qemu, output, options.timeout)
        if output.status is None:
            explain(status, console, timed_out, options.timeout)
            return TIMED_OUT if timed_out else FAILED
        if options.console:
            sys.stderr.write(read(console).decode('utf-8', 'replace').replace('\r', ''))
    return output.status


def parser():
    result = argparse.ArgumentParser(usage=__doc__.split('\n\n')[1].strip())
    result.add_argument('--add', action='append', default=[], metavar='FILE[:DEST]')
    result.add_argument('--cpu', default='max')
    result.add_argument('--smp', type=int, default=1)
    result.add_argument('--memory', default='2G')
    result.add_argument('--timeout', type=float, default=300)
    result.add_argument('--icount', action='store_true', help='QEMU counts instructions instead of time')
    result.add_argument('--root', action='store_true', help='run the command as root')
    result.add_argument('--append', default='', help='more for the kernel\'s command line')
    result.add_argument('--console', action='store_true', help='print the nested kernel\'s log at the end')
    result.add_argument('--verbose', action='store_true', help='say how long the boot took')
    return result


def placed(word):
    """FILE[:DEST] as (path, destination)."""
    path, _, dest = word.partition(':')
    return path, dest or '/test/' + os.path.basename(path.rstrip('/'))


def main():
    words = sys.argv[1:]
    cut = words.index('--') if '--' in words else len(words)
    options = parser().parse_args(words[:cut])
    command = words[cut + 1 :]
    if not command:
        parser().error('no command')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(options, [placed(word) for word in options.add], command)
    except (Failure, OSError) as why:
        print(f'run.py: {why}', file=sys.stderr)
        return FAILED


if __name__ == '__main__':
    sys.exit(main())
