#!/usr/bin/env python3
"""Machines that start at the reset vector: firmware, and what it boots.

  firmware.py --transvisor PROGRAM --engine interp|bt NAME
  firmware.py --list

A case says how the machine is described, and what must appear on its serial port in this order. Skipped (77) where Debian's package is
not installed.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

SKIPPED = 77
SEABIOS = '/usr/share/seabios/bios-256k.bin'


class Skip(Exception):
    pass


def need(path, package):
    if not os.path.exists(path):
        raise Skip(f'{path} is missing: apt-get install {package}')
    return path


def rom_of_our_own(work):
    """64 KiB that say so on COM1 from the reset vector, and go by port F4h."""
    code = bytes([0xba, 0xfb, 0x03, 0xb0, 0x03, 0xee])    # mov dx, 3fbh; mov al, 3; out dx, al: 8 bits
    code += bytes([0xb2, 0xf8])                           # mov dl, f8h
    for letter in b'own firmware\n':
        code += bytes([0xb0, letter, 0xee])               # mov al, letter; out dx, al
    code += bytes([0xb0, 0x10, 0xe6, 0xf4, 0xf4])         # mov al, 10h; out f4h, al; hlt
    rom = bytearray(b'\xff' * 65536)
    rom[:len(code)] = code
    rom[0xfff0:0xfff5] = bytes([0xea, 0, 0, 0, 0xf0])     # jmp f000:0000
    path = os.path.join(work, 'own.rom')
    with open(path, 'wb') as file:
        file.write(rom)
    return path


def seabios(_):
    return ['--firmware', need(SEABIOS, 'seabios')], [r'SeaBIOS \(version', 'No bootable device'], 0


def own_rom(work):
    return ['--firmware', rom_of_our_own(work), '--debug-exit', '0xf4'], ['own firmware'], 0x21


CASES = {'seabios': seabios, 'own-rom': own_rom}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--engine', default='bt')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('name', nargs='?')
    options = parser.parse_args()
    if options.list:
        print('\n'.join(CASES))
        return 0
    with tempfile.TemporaryDirectory() as work:
        try:
            words, awaited, status = CASES[options.name](work)
        except Skip as why:
            print(why)
            return SKIPPED
        command = [options.transvisor, 'run', '--engine', options.engine, '--memory', '64M', '--timeout', '60'] + words
        if not status:
            command += ['--expect', awaited[-1]]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100)
    text, at = done.stdout.decode('latin-1'), 0
    for pattern in awaited:
        found = re.compile(pattern).search(text, at)
        if not found:
            print(f'{text}\nFAIL: {pattern!r} did not appear after byte {at}')
            return 1
        at = found.end()
    if done.returncode != status:
        print(f'{text}\nFAIL: status {done.returncode}, expected {status}')
        return 1
    print(f'PASS: {options.name} with {options.engine}')
    return 0


sys.exit(main())
