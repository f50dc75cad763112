#!/usr/bin/env python3
"""Programs that start without an operating system, as Debian packages them.

  packaged.py --transvisor FILE [--work DIRECTORY] NAME
  packaged.py --list --long yes|no

memtest: memtest86+ from its CD makes a pass over 16 MiB, and finds no error.
ipxe: iPXE's CD, by isolinux, to its prompt, where it is given an address by DHCP.
uboot: U-Boot's image for QEMU starts at the reset vector, reads a disk, and starts again after a reset.
Packages are fetched once, and kept where fetch.sh keeps kernels. Status 77: they are not to be had.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
FETCH = """set -eu
. "$HERE/apt.sh"
apt_setup i386 >&2
rm -rf "$cache/$package.new" && mkdir -p "$cache/$package.new/tree"
cd "$cache/$package.new"
apt-get -q download "$package" >&2
dpkg-deb -x ./*.deb tree
rm -rf "$cache/package-$package" && mv tree "$cache/package-$package"
cd / && rm -rf "$cache/$package.new"
"""


def packaged(package, path):
    """A file of a package's."""
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    cache = os.environ.get('TRANSVISOR_CACHE') or os.path.join(home, 'transvisor')
    file = os.path.join(cache, f'package-{package}', path)
    if not os.path.exists(file):
        os.makedirs(cache, exist_ok=True)
        variables = {**os.environ, 'HERE': HERE, 'cache': cache, 'package': package}
        subprocess.run(['sh', '-c', FETCH], env=variables, check=False)
    if not os.path.exists(file):
        print(f'skipped: {package} is not to be had, or has no {path}')
        sys.exit(SKIPPED)
    return file


def talk(command, steps, limit):
    """Runs a machine: once it has said a pattern of steps, in their order, it is sent the text beside it. Returns what
    it said, and the first pattern that did not come."""
    said, at = b'', 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
        killer = threading.Timer(limit, guest.kill)
        killer.start()
        while steps and (more := guest.stdout.read1(65536)):
            said += more
            while steps and (met := re.compile(steps[0][0]).search(said, at)):
                at = met.end()
                guest.stdin.write(steps.pop(0)[1])
                guest.stdin.flush()
        guest.terminate()
        killer.cancel()
    return said.decode('latin-1'), steps[0][0] if steps else None


def judge(said, missing):
    if missing is not None:
        print(f'{said}\nFAIL: {missing!r} did not appear')
    return 0 if missing is None else 1


def ipxe(program, _):
    iso = packaged('ipxe', 'usr/lib/ipxe/ipxe.iso')
    steps = [
        (rb'Press Ctrl-B', b'\x02'),
        (rb'iPXE> ', b'dhcp\r'),
        (rb'Configuring \(net0 [^\n]* ok', b''),
        (rb'iPXE> ', b'show net0/ip\r'),
        (rb'net0\.dhcp/ip:ipv4 = 10\.0\.2\.15', b''),
        (rb'iPXE> ', b''),
    ]
    return judge(*talk([program, 'run', iso, '--memory', '64M', '--net', 'user', '--serial', 'stdio'], steps, 170))


def uboot(program, work):
    rom = packaged('u-boot-qemu', 'usr/lib/u-boot/qemu-x86/u-boot.rom')
    disk = os.path.join(work, 'disk')
    with open(disk, 'wb') as f:
        f.write(b'transvisor'.ljust(512, b'\0') * 4096)
    steps = [
        (rb'U-Boot 20', b''),
        (rb'DRAM: +128 MiB', b''),
        (rb'stop autoboot', b' '),
        (rb'=> ', b'ide reset\r'),
        (rb'Capacity: 2\.0 MB', b''),
        (rb'=> ', b'ide read 1000000 7 1\r'),
        (rb'=> ', b'md.b 1000000 a\r'),
        (rb'transvisor', b''),
        (rb'=> ', b'reset\r'),
        (rb'U-Boot 20', b''),
        (rb'stop autoboot', b' '),
        (rb'=> ', b''),
    ]
    command = [program, 'run', '--firmware', rom, '--disk', disk + ',format=raw', '--cdrom', '', '--memory', '128M']
    return judge(*talk([*command, '--serial', 'stdio'], steps, 170))


def memtest(program, work):
    """Its screen is looked at now and then."""
    iso = packaged('memtest86+', 'usr/lib/memtest86+/memtest86+ia32.iso')
    shot = os.path.join(work, 'screen.txt')
    command = [program, 'run', iso, '--memory', '16M', '--serial', 'null', '--monitor', 'stdio']
    screen = ''
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as guest:
        killer = threading.Timer(600, guest.kill)
        killer.start()
        print('{"execute": "qmp_capabilities"}', file=guest.stdin, flush=True)
        while guest.poll() is None and not re.search(r'Pass: +[1-9]|Errors: +[1-9]', screen):
            time.sleep(2)
            request = '{"execute": "screendump", "arguments": {"filename": "%s"}, "id": 1}' % shot
            try:
                print(request, file=guest.stdin, flush=True)
            except BrokenPipeError:
                break
            while (line := guest.stdout.readline()) and '"id"' not in line:
                pass
            if os.path.exists(shot):
                with open(shot, encoding='utf-8', errors='replace') as f:
                    screen = f.read()
        guest.terminate()
        killer.cancel()
    good = re.search(r'Pass: +[1-9]', screen) and re.search(r'Errors: +0', screen)
    if not good:
        print(f'{screen}\nFAIL: no pass without an error')
    return 0 if good else 1


CASES = {'memtest': memtest, 'ipxe': ipxe, 'uboot': uboot}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work', default='.')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', choices=('yes', 'no'))
    parser.add_argument('test', nargs='?', choices=list(CASES))
    args = parser.parse_args()
    if args.list:
        if args.long == 'yes':
            print('\n'.join(CASES))
        return 0
    os.makedirs(args.work, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        return CASES[args.test](args.transvisor, work)


if __name__ == '__main__':
    sys.exit(main())
