#!/usr/bin/env python3
"""From the start of the program to the firmware's first character on the serial port, and to GRUB's title: from a
floppy, a CD and a disk (Debian: grub-rescue-pc), under transvisor and QEMU's TCG, in turns.

    bench/firmware.py [--transvisor PROGRAM] [--qemu PROGRAM] [--runs 5] [MEDIUM..]

Prints medians, and how they compare. Both have SeaBIOS write to the serial port, and as much memory.
"""
import argparse
import os
import re
import select
import statistics
import subprocess
import sys
import time

IMAGES = {'floppy': 'floppy.img', 'cd': 'cdrom.iso', 'disk': 'usb.img'}
FOLDER = '/usr/lib/grub-rescue/grub-rescue-'
PATIENCE = 120
# The firmware may say where the cursor is in the midst of a word.
TITLE = re.compile(rb'(?:\x1b\[[0-9;]*[A-Za-z])*'.join(bytes([letter]) for letter in b'GNU GRUB'))
FIRST = re.compile(rb'[!-~]')


def ours(program, medium, image):
    option = {'floppy': ['--floppy', image], 'cd': ['--cdrom', image]}
    disk = ['--disk', image + ',format=raw,snapshot=on']
    return [program, 'run', '--memory', '128M', '--serial', 'stdio'] + option.get(medium, disk)


def qemu(program, medium, image):
    interface = {'floppy': 'floppy', 'cd': 'ide,media=cdrom'}.get(medium, 'ide')
    options = '-accel tcg -m 128M -nographic -serial stdio -monitor none -nic none'
    return [program, *options.split(), '-drive', f'file={image},format=raw,snapshot=on,if={interface}']


def seconds(command):
    """To the first character that can be seen, to the title."""
    begin, said, first = time.monotonic(), b'', None
    guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        while select.select([guest.stdout], [], [], max(0, begin + PATIENCE - time.monotonic()))[0]:
            more = os.read(guest.stdout.fileno(), 4096)
            now = time.monotonic() - begin
            if not more:
                break
            said += more
            if first is None and FIRST.search(re.sub(rb'\x1b\[[?0-9;=]*[A-Za-z]|\x1bc', b'', said)):
                first = now
            if TITLE.search(said):
                return first, now
    finally:
        guest.kill()
        guest.wait()
    sys.exit(f'{" ".join(command)}: no title of GRUB: {said[-500:]}')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor', default='build/transvisor')
    parser.add_argument('--qemu', default='qemu-system-i386')
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('media', nargs='*', metavar='MEDIUM', help='floppy, cd, disk [all]')
    options = parser.parse_args()
    for medium in options.media or IMAGES:
        if medium not in IMAGES:
            parser.error(f'there is no medium {medium}')
        image, found = FOLDER + IMAGES[medium], {'ours': [], 'qemu': []}
        if not os.path.exists(image):
            sys.exit(f'bench/firmware.py: there is no {image}: install grub-rescue-pc')
        for _ in range(options.runs):
            found['ours'].append(seconds(ours(options.transvisor, medium, image)))
            found['qemu'].append(seconds(qemu(options.qemu, medium, image)))
        for n, what in enumerate(('first character', "GRUB's title")):
            a, b = (statistics.median(run[n] for run in found[side]) for side in ('ours', 'qemu'))
            print(f'{medium}: {what} after {a:.2f} s, in QEMU after {b:.2f} s: {a / b:.2f}', flush=True)


if __name__ == '__main__':
    main()
