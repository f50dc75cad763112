#!/usr/bin/env python3
"""Makes the disk image of an installed Debian 12 i386: systemd, ext4, GRUB, a serial console, root's password "root".

  make.py --transvisor PROGRAM [--qemu] [--refresh] OUTPUT

The packages are unpacked into a file system by mke2fs -d; a guest with Debian's kernel then lets dpkg install them and
writes GRUB to the disk. So neither root nor a host that runs 32-bit code is needed, and nothing of a package's runs on
the host. --qemu runs the guest in QEMU: it says whether the image or the machine is wrong.
"""
import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid as uuidlib

HERE = os.path.dirname(os.path.abspath(__file__))
SIZE, FIRST = 2 << 30, 1 << 20  # of the disk, of the partition: where every partitioner puts it
MODULES = ['virtio', 'virtio_ring', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev', 'virtio_pci', 'virtio_blk']
MODULES += ['crc16', 'crc32c_generic', 'mbcache', 'jbd2', 'ext4']


def packages(refresh):
    words = [os.path.join(HERE, 'packages.sh')] + (['--refresh'] if refresh else [])
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def debs(folder):
    archives = os.path.join(folder, 'archives')
    names = [name for name in sorted(os.listdir(archives)) if name.endswith('.deb')]
    return {name.split('_')[0]: os.path.join(archives, name) for name in names}


def unpack(deb, root):
    """Into a tree in which /bin, /lib and /sbin are those of /usr."""
    data = subprocess.Popen(['dpkg-deb', '--fsys-tarfile', deb], stdout=subprocess.PIPE)
    words = ['tar', '-x', '-C', root, '--no-same-owner', '--keep-directory-symlink', '--exclude=./usr/share/doc/*']
    subprocess.run(words, stdin=data.stdout, check=True)
    if data.wait():
        raise RuntimeError(f'{deb} cannot be unpacked')


def tree(folder, root):
    """What runs dpkg, and the packages beside it."""
    for name in ('usr/bin', 'usr/lib', 'usr/sbin', 'packages', 'proc', 'sys', 'run', 'dev'):
        os.makedirs(os.path.join(root, name))
    for name in ('bin', 'lib', 'sbin'):
        os.symlink('usr/' + name, os.path.join(root, name))
    found = debs(folder)
    with open(os.path.join(folder, 'required'), encoding='ascii') as file:
        required = set(file.read().split())
    closure, queue = set(), list(required) + ['busybox-static']
    while queue:  # what they depend on, each by its first alternative
        name = queue.pop()
        if name in closure or name not in found:
            continue
        closure.add(name)
        words = ['dpkg-deb', '-f', found[name], 'Pre-Depends', 'Depends']
        fields = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        for line in fields.stdout.splitlines():
            for group in line.split(':', 1)[1].split(','):
                queue += [re.split(r'[ :(]', word.strip())[0] for word in group.split('|')]
    for name in sorted(closure):
        unpack(found[name], root)
    for name, deb in found.items():
        shutil.copy(deb, os.path.join(root, 'packages'))
    shutil.copy(os.path.join(HERE, 'stage2'), os.path.join(root, 'stage2'))
    os.chmod(os.path.join(root, 'stage2'), 0o755)


def starter(folder, work):
    """The kernel, and an initial RAM disk that finds the disk and goes on there."""
    found = debs(folder)
    image = next(name for name in found if re.fullmatch(r'linux-image-6[-.0-9]*-686-pae', name))
    root, out = os.path.join(work, 'kernel'), os.path.join(work, 'start')
    os.makedirs(root)
    os.makedirs(os.path.join(out, 'modules'))
    unpack(found[image], root)
    unpack(found['busybox-static'], root)
    files = {name: os.path.join(where, name) for where, _, names in os.walk(root) for name in names}
    kept = []
    for module in MODULES:
        path = files.get(module + '.ko')
        if path:
            shutil.copy(path, os.path.join(out, 'modules'))
            kept.append(module)
    for name in ('bin', 'dev', 'new', 'proc'):
        os.makedirs(os.path.join(out, name))
    shutil.copy(files['busybox'], os.path.join(out, 'bin/busybox'))
    with open(os.path.join(out, 'init'), 'w', encoding='ascii') as file:
        file.write('#!/bin/busybox sh\n')
        for module in kept:
            file.write(f'/bin/busybox insmod /modules/{module}.ko\n')
        file.write('/bin/busybox mount -t devtmpfs dev /dev\n')
        file.write('/bin/busybox mount -t ext4 -o barrier=0 /dev/vda1 /new || exec /bin/busybox poweroff -f\n')
        file.write('/bin/busybox mount --move /dev /new/dev\n')
        file.write('exec /bin/busybox switch_root /new /bin/dash /stage2\n')
    os.chmod(os.path.join(out, 'init'), 0o755)
    initrd = os.path.join(work, 'initrd')
    subprocess.run(f'cd {out} && find . | cpio -o -H newc -R 0:0 --quiet > {initrd}', shell=True, check=True)
    kernel = next(path for name, path in files.items() if name.startswith('vmlinuz-'))
    return kernel, initrd


def disk(root, path, uuid):
    """One active Linux partition, and the tree in it."""
    with open(path, 'wb') as file:
        file.truncate(SIZE)
    words = ['mke2fs', '-q', '-t', 'ext4', '-E', f'offset={FIRST},root_owner=0:0', '-U', uuid, '-d', root, path]
    subprocess.run(words + [f'{(SIZE - FIRST) >> 10}k'], check=True)
    entry = struct.pack('<B3sB3sII', 0x80, b'\xfe\xff\xff', 0x83, b'\xfe\xff\xff', FIRST // 512, (SIZE - FIRST) // 512)
    with open(path, 'r+b') as file:
        file.seek(440)
        file.write(struct.pack('<IH', 0x7476, 0) + entry + bytes(48) + b'\x55\xaa')


def install(options, work, path, uuid):
    kernel, initrd = starter(packages(False), work)
    append = f'console=ttyS0 quiet panic=-1 DISK=/dev/vda UUID={uuid}'
    if options.qemu:
        words = ['qemu-system-i386', '-accel', 'tcg', '-m', '512', '-display', 'none', '-serial', 'stdio', '-no-reboot']
        words += ['-monitor', 'none', '-kernel', kernel, '-initrd', initrd, '-append', append]
        words += ['-drive', f'file={path},format=raw,if=virtio']
    else:
        words = [options.transvisor, 'run', '--kernel', kernel, '--initrd', initrd, '--append', append, '--no-reboot']
        words += ['--disk', f'{path},bus=virtio,format=raw', '--timeout', '3000']
    run = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    said = run.stdout.decode(errors='replace')
    if run.returncode or 'STAGE2 complete' not in said:
        sys.exit(f'make.py: the installation failed (status {run.returncode}):\n{said[-4000:]}')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor', required=True)
    parser.add_argument('--qemu', action='store_true')
    parser.add_argument('--refresh', action='store_true')
    parser.add_argument('output')
    options = parser.parse_args()
    folder = packages(options.refresh)
    with tempfile.TemporaryDirectory() as work:
        root, path = os.path.join(work, 'root'), os.path.join(work, 'disk.img')
        os.makedirs(root)
        tree(folder, root)
        uuid = str(uuidlib.uuid4())
        disk(root, path, uuid)
        install(options, work, path, uuid)
        shutil.move(path, options.output)


if __name__ == '__main__':
    main()
