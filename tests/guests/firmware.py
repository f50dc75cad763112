#!/usr/bin/env python3
"""Machines that start at the reset vector: firmware, and what it boots.

  firmware.py --transvisor PROGRAM --engine interp|bt NAME
  firmware.py --list

A case says how the machine is described, and what must appear on its serial port in this order. Skipped (77) where
Debian's package is
not installed.
"""
import argparse
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
SEABIOS = '/usr/share/seabios/bios-256k.bin'
VGABIOS = '/usr/share/seabios/vgabios-stdvga.bin'
BANNER = [r'SeaBIOS \(version', 'No bootable device']


class Skip(Exception):
    pass


def need(path, package):
    if not os.path.exists(path):
        raise Skip(f'{path} is missing: apt-get install {package}')
    return path


def rom_of_our_own(work):
    """64 KiB that say so on COM1 from the reset vector, and go by port F4h."""
    code = bytes([0xBA, 0xFB, 0x03, 0xB0, 0x03, 0xEE])  # mov dx, 3fbh; mov al, 3; out dx, al: 8 bits
    code += bytes([0xB2, 0xF8])  # mov dl, f8h
    for letter in b'own firmware\n':
        code += bytes([0xB0, letter, 0xEE])  # mov al, letter; out dx, al
    code += bytes([0xB0, 0x10, 0xE6, 0xF4, 0xF4])  # mov al, 10h; out f4h, al; hlt
    rom = bytearray(b'\xff' * 65536)
    rom[: len(code)] = code
    rom[0xFFF0:0xFFF5] = bytes([0xEA, 0, 0, 0, 0xF0])  # jmp f000:0000
    path = os.path.join(work, 'own.rom')
    with open(path, 'wb') as file:
        file.write(rom)
    return path



def option_rom(work):
    """A ROM that says so on COM1 when firmware starts it."""
    code = b'\x55\xaa\x01' + bytes([0x60, 0xBA, 0xF8, 0x03])  # 512 bytes; pusha; mov dx, 3f8h
    for letter in b'an option ROM\n':
        code += bytes([0xB0, letter, 0xEE])  # mov al, letter; out dx, al
    code += bytes([0x61, 0xCB])  # popa; retf
    rom = bytearray(code.ljust(511, b'\0'))
    rom.append(-sum(rom) & 0xFF)
    path = os.path.join(work, 'option.rom')
    with open(path, 'wb') as file:
        file.write(rom)
    return path


def modes_rom(work):
    """modes.S as 64 KiB that end at the reset vector."""
    path = os.path.join(work, 'modes.rom')
    source = os.path.join(HERE, 'modes.S')
    link = '-Wl,-Ttext=0,--oformat=binary,--build-id=none'
    subprocess.run(['gcc', '-m32', '-nostdlib', '-static', link, '-o', path, source], check=True)
    return path


class Case:
    """words: how the machine is described. awaited: patterns, in this order. typed: what is typed once a pattern has
    appeared ('': at once)."""

    def __init__(self, words, awaited, typed=None, status=0, check=None):
        self.words, self.awaited, self.typed, self.status, self.check = words, awaited, typed or {}, status, check


def seabios(_):
    return Case(['--firmware', need(SEABIOS, 'seabios')], BANNER)


def rom_of_a_users(work):
    """SeaBIOS starts a ROM that the user names."""
    return Case(['--firmware', need(SEABIOS, 'seabios'), '--option-rom', option_rom(work)],
                [BANNER[0], 'an option ROM', BANNER[1]])


def screen(work):
    """What SeaBIOS has written on the VGA by the VGA's own BIOS; the picture is taken when the machine ends."""
    need(SEABIOS, 'seabios')
    need(VGABIOS, 'seabios')
    path = os.path.join(work, 'screen.txt')

    def shows_banner():
        with open(path, encoding='utf-8') as file:
            text = file.read()
        return all(re.search(f'(?m)^{line}', text) for line in BANNER) or f'the screen shows:\n{text}'

    return Case(['--firmware', SEABIOS, '--screenshot', path], BANNER, check=shows_banner)


def png(path):
    """Rows of pixels, each (red, green, blue), of a file with 8 bits a colour that is not interlaced."""
    with open(path, 'rb') as file:
        data = file.read()
    at, packed, head = 8, b'', b''
    while at < len(data):
        size, kind = struct.unpack('>I4s', data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        at += 12 + size
        head = body if kind == b'IHDR' else head
        packed += body if kind == b'IDAT' else b''
    width, height, *form = struct.unpack('>IIBBBBB', head)
    if form != [8, 2, 0, 0, 0]:
        raise AssertionError(f'a PNG of another form: {form}')
    raw, stride, rows, above = zlib.decompress(packed), width * 3 + 1, [], bytes(width * 3)
    for y in range(height):
        line = bytearray(raw[y * stride + 1 : (y + 1) * stride])
        for i, b in enumerate(above):
            a, c = (line[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            line[i] = (line[i] + (0, a, b, (a + b) // 2, paeth)[raw[y * stride]]) & 255
        rows.append([tuple(line[x : x + 3]) for x in range(0, width * 3, 3)])
        above = bytes(line)
    return rows


def screen_13h(work):
    """A boot sector sets mode 13h and writes byte n at offset n; its first 16 colours are those of text."""
    need(SEABIOS, 'seabios')
    need(VGABIOS, 'seabios')
    path = os.path.join(work, 'screen.png')

    def shows_colours():
        rows = png(path)
        if (len(rows[0]), len(rows)) != (320, 200):
            return f'the picture has {len(rows[0])} x {len(rows)} pixels'
        text = []
        for n in range(16):
            low = 0x55 if n & 8 else 0
            text.append(tuple(low + (0xAA if n & bit else 0) for bit in (4, 2, 1)))
        text[6] = (0xAA, 0x55, 0)  # brown
        palette = text + rows[0][16:256]
        if len(set(palette)) < 100:
            return f'there are {len(set(palette))} colours'
        for y, row in enumerate(rows):
            for x, pixel in enumerate(row):
                if pixel != palette[(320 * y + x) % 256]:
                    return f'({x}, {y}) is {pixel}, not {palette[(320 * y + x) % 256]}'
        return True

    words = [boot_disk(work, 'screen13h.S'), '--screenshot', path, '--debug-exit', '0xf4']
    return Case(words, ['Booting from Hard Disk'], status=0x23, check=shows_colours)


def keyboard(work):
    """What is typed on the keyboard arrives as INT 16h gives it, with Shift, and keys without characters."""
    need(SEABIOS, 'seabios')
    typed = 'Hello, <shift-1>{W0rld}|~<<<up><f1><delete><ctrl-c><tab>.<ret><ret>'
    return Case(
        [boot_disk(work, 'keys.S'), '--debug-exit', '0xf4', '--type', typed + '@type:'],
        ['type: ', re.escape('Hello, !{W0rld}|~<<48><3b><53>')],
        status=0x21,
    )


def boot_menu(work):
    """SeaBIOS's menu of boot devices comes with Esc, and a digit chooses."""
    need(SEABIOS, 'seabios')
    disk_of_keys = boot_disk(work, 'keys.S')
    return Case(
        ['--cdrom', iso_without_boot(work), '--disk', disk_of_keys, '--debug-exit', '0xf4']
        + ['--boot', 'cdrom,disk,menu=on']
        + ['--type', '<esc>@Press ESC', '--type', '2@2. ', '--type', '<ret><ret>@type:'],
        ['Press ESC for boot menu', r'1\. DVD/CD', r'2\. ', 'Booting from Hard Disk', 'type:'],
        status=0x21,
    )


def iso_without_boot(work):
    path = os.path.join(work, 'empty.iso')
    with open(path, 'wb') as file:
        file.truncate(1 << 20)
    return path


def keyboard_grub(_):
    need(SEABIOS, 'seabios')
    iso = need('/usr/lib/grub-rescue/grub-rescue-cdrom.iso', 'grub-rescue-pc')
    return Case(
        [iso, '--type', 'c@Press enter', '--type', "echo from the key''board<ret>@grub>"],
        ['Press enter', 'grub>', 'from the keyboard'],
    )


def modes(work):
    """From the reset vector through every mode and back, a hundred times. What it finds wrong it prints."""
    return Case(['--firmware', modes_rom(work), '--debug-exit', '0xf4'], [], status=0x21)


def modes_386(work):
    case = modes(work)
    case.words += ['--cpu', '386']
    return case


def own_rom(work):
    return Case(['--firmware', rom_of_our_own(work), '--debug-exit', '0xf4'], ['own firmware'], status=0x21)


def boot_disk(work, source='bootdisk.S', size=4 << 20):
    """A program that boots, as a disk image."""
    path = os.path.join(work, 'boot.img')
    subprocess.run(
        [
            'gcc',
            '-m32',
            '-nostdlib',
            '-static',
            '-Wl,-Ttext=0x7c00,--oformat=binary,--build-id=none',
            f'-Wa,-I,{HERE}',
            '-o',
            path,
            os.path.join(HERE, source),
        ],
        check=True,
    )
    os.truncate(path, size)
    return path


CHECKS = 'BIOS: GXRWEMALCZT\r'
KEY = {'press a key': b'k'}


def written(path, what):
    """Whether W's word has arrived in the image."""
    with open(path, 'rb') as file:
        file.seek(9 * 512)
        return (file.read(2) == b'\xef\xbe') == what or f'sector 9 of the image was {"not " if what else ""}written'


def disk(work):
    need(SEABIOS, 'seabios')
    path = boot_disk(work)
    return Case(
        [path, '--debug-exit', '0xf4'],
        ['Booting from Hard Disk', CHECKS, 'press a key', 'key: k'],
        KEY,
        0x21,
        lambda: written(path, True),
    )


def usb_disk(work):
    need(SEABIOS, 'seabios')
    path = boot_disk(work)
    return Case(
        ['--disk', f'{path},bus=usb', '--boot', 'disk', '--debug-exit', '0xf4'],
        ['Booting from Hard Disk', CHECKS, 'press a key', 'key: k'],
        KEY,
        0x21,
        lambda: written(path, True),
    )


class NbdServer(threading.Thread):
    """An NBD server of one disk, for one client; dies after so many reads."""

    def __init__(self, work, disk, reads):
        super().__init__(daemon=True)
        self.path, self.reads = os.path.join(work, 'nbd.sock'), reads
        with open(disk, 'rb') as file:
            self.disk = file.read()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.start()

    def run(self):
        connection = self.listener.accept()[0]
        stream = connection.makefile('rwb')

        def send(data):
            stream.write(data)
            stream.flush()

        send(b'NBDMAGICIHAVEOPT' + struct.pack('>H', 1))
        stream.read(4)
        option = 0
        while option != 7:  # NBD_OPT_GO
            option, length = struct.unpack('>8xII', stream.read(16))
            stream.read(length)
            reply = struct.pack('>QI', 0x3E889045565A9, option)
            if option == 7:
                send(reply + struct.pack('>IIHQH', 3, 12, 0, len(self.disk), 1))
                send(reply + struct.pack('>II', 1, 0))
            else:
                send(reply + struct.pack('>II', 0x80000001, 0))
        while True:
            _, _, kind, handle, at, length = struct.unpack('>IHHQQI', stream.read(28))
            if kind != 0 or not self.reads:
                connection.shutdown(socket.SHUT_RDWR)
                return
            self.reads -= 1
            send(struct.pack('>IIQ', 0x67446698, 0, handle) + self.disk[at : at + length])


def nbd(work):
    """A disk that qemu-nbd serves, in a format of its own: read, and written."""
    need(SEABIOS, 'seabios')
    for tool in ('qemu-nbd', 'qemu-img'):
        if not shutil.which(tool):
            raise Skip(f'{tool} is missing: apt-get install qemu-utils')
    raw, vdi, path = boot_disk(work), os.path.join(work, 'boot.vdi'), os.path.join(work, 'nbd.sock')
    subprocess.run(['qemu-img', 'convert', '-O', 'vdi', raw, vdi], check=True)
    server = subprocess.Popen(['qemu-nbd', '-f', 'vdi', '-k', path, vdi])
    deadline = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.05)

    def has_been_written():
        server.wait(20)  # it ends with its client
        subprocess.run(['qemu-img', 'convert', '-O', 'raw', vdi, raw], check=True)
        return written(raw, True)

    words = ['--disk', 'nbd:unix:' + path, '--debug-exit', '0xf4']
    return Case(words, ['Booting from Hard Disk', CHECKS, 'press a key', 'key: k'], KEY, 0x21, has_been_written)


def nbd_dies(work):
    """The server dies while firmware reads: that gets an error, and goes on."""
    need(SEABIOS, 'seabios')
    server = NbdServer(work, boot_disk(work), 0)
    words = ['--disk', f'nbd+unix:///?socket={server.path}']
    return Case(words, ['Booting from Hard Disk', 'Boot failed', 'No bootable'])


def floppy(work):
    """Named alone: known by its size, and booted. It has been written, and a second one that is protected has not."""
    need(SEABIOS, 'seabios')
    path, other = boot_disk(work, 'bootfloppy.S', 1440 << 10), os.path.join(work, 'other.img')
    with open(other, 'wb') as file:
        file.truncate(720 << 10)
    return Case(
        [path, '--floppy', other + ',readonly=on', '--debug-exit', '0xf4'],
        ['Booting from Floppy', 'floppy: LGRWFSP'],
        status=0x21,
        check=lambda: written(path, True),
    )


def disk_virtio(work):
    """By SeaBIOS's own driver; an IDE disk that does not boot stands behind it."""
    need(SEABIOS, 'seabios')
    path, other = boot_disk(work), os.path.join(work, 'other.img')
    with open(other, 'wb') as file:
        file.truncate(1 << 20)
    return Case(
        ['--disk', path + ',bus=virtio', '--disk', other, '--debug-exit', '0xf4'],
        ['Booting from Hard Disk', CHECKS.replace('G', 'g'), 'press a key', 'key: k'],  # g: it is not the only disk
        KEY,
        0x21,
        lambda: written(path, True),
    )


def reset_doors(work):
    need(SEABIOS, 'seabios')
    return Case(
        ['--disk', boot_disk(work, 'resetdoors.S'), '--debug-exit', '0xf4'],
        [f'booted: {n}' for n in range(5)],
        status=0x21,
    )


def saved(work):
    """Saved while the boot disk waits for a key, by the other engine; its disk is found by the name in the file."""
    need(SEABIOS, 'seabios')
    state = os.path.join(work, 'state')
    first = [
        OPTIONS.transvisor,
        'run',
        '--engine',
        'bt',
        '--disk',
        boot_disk(work),
        '--debug-exit',
        '0xf4',
        '--save-at-exit',
        state,
        '--timeout',
        '60',
    ]
    process = subprocess.Popen(first, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    text = b''
    while b'press a key' not in text:
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            break
        text += piece
    process.terminate()
    process.communicate()
    info = subprocess.run([OPTIONS.transvisor, 'info', state, '--chip', 'ide0.0'], stdout=subprocess.PIPE, text=True)
    if 'heads' not in info.stdout:
        raise AssertionError(f'info: {info}')
    return Case(['--load', state], ['key: k'], {'': b'k'}, 0x21)


def disk_snapshot(work):
    need(SEABIOS, 'seabios')
    path = boot_disk(work)
    os.chmod(path, 0o400)
    return Case(
        ['--disk', path + ',snapshot=on', '--debug-exit', '0xf4'],
        [CHECKS, 'key: k'],
        KEY,
        0x21,
        lambda: written(path, False),
    )


def disk_qcow2(work):
    """Based on a raw image, which stays as it is."""
    need(SEABIOS, 'seabios')
    base, overlay, copy = boot_disk(work), os.path.join(work, 'overlay.qcow2'), os.path.join(work, 'copy.img')
    img = [OPTIONS.transvisor, 'img']
    subprocess.run(img + ['create', '-f', 'qcow2', '-b', 'boot.img', '-F', 'raw', overlay], check=True)

    def only_the_overlay_has_it():
        subprocess.run(img + ['check', '--quiet', overlay], check=True)
        subprocess.run(img + ['convert', overlay, copy], check=True)
        stays = written(base, False)
        return written(copy, True) if stays is True else stays

    return Case([overlay, '--debug-exit', '0xf4'], [CHECKS, 'key: k'], KEY, 0x21, only_the_overlay_has_it)


def cdrom_grub(_):
    need(SEABIOS, 'seabios')
    iso = need('/usr/lib/grub-rescue/grub-rescue-cdrom.iso', 'grub-rescue-pc')
    return Case([iso], ['Booting from DVD/CD', 'GRU', 'Press enter', 'grub>'], {'Press enter': b'c'})


def guest_files(work):
    """Debian's 686 kernel and an initramfs with a shell."""
    fetched = subprocess.run([os.path.join(HERE, 'fetch.sh'), '686', 'busybox'], stdout=subprocess.PIPE, text=True)
    if fetched.returncode:
        raise Skip('fetch.sh failed')
    initramfs = os.path.join(work, 'initramfs')
    subprocess.run([os.path.join(HERE, 'mkinitramfs.sh'), 'shell', initramfs], check=True)
    return re.search(r"(?m)^KERNEL_686='(.*)'$", fetched.stdout).group(1), initramfs


CONFIG = 'SERIAL 0 115200\nDEFAULT linux\nLABEL linux\n KERNEL vmlinuz\n APPEND initrd=initrd console=ttyS0 quiet\n'
SHELL = ['root shell', '/ # ']


def cdrom_linux(work):
    """An ISO whose isolinux loads Debian's kernel."""
    need(SEABIOS, 'seabios')
    tree = os.path.join(work, 'iso')
    os.mkdir(tree)
    need('/usr/bin/xorriso', 'xorriso')
    for path, package in ('/usr/lib/ISOLINUX/isolinux.bin', 'isolinux'), (
        '/usr/lib/syslinux/modules/bios/ldlinux.c32',
        'syslinux-common',
    ):
        shutil.copy(need(path, package), tree)
    for path, name in zip(guest_files(work), ('vmlinuz', 'initrd')):
        shutil.copy(path, os.path.join(tree, name))
    with open(os.path.join(tree, 'isolinux.cfg'), 'w', encoding='ascii') as file:
        file.write(CONFIG)
    iso = os.path.join(work, 'linux.iso')
    subprocess.run(
        [
            'xorriso',
            '-as',
            'mkisofs',
            '-quiet',
            '-o',
            iso,
            '-b',
            'isolinux.bin',
            '-c',
            'boot.cat',
            '-no-emul-boot',
            '-boot-load-size',
            '4',
            '-boot-info-table',
            tree,
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return Case(
        ['--cdrom', iso, '--memory', '128M'], ['Booting from DVD/CD', 'ISOLINUX'] + SHELL, {'/ # ': b'poweroff -f\n'}
    )


def disk_linux(work):
    """A disk with a FAT file system, made without root, whose syslinux loads Debian's kernel."""
    need(SEABIOS, 'seabios')
    need('/usr/bin/syslinux', 'syslinux')
    need('/usr/bin/mformat', 'mtools')
    image = os.path.join(work, 'fat.img')
    with open(image, 'wb') as file:
        file.truncate(32 << 20)
    environment = dict(os.environ, MTOOLS_SKIP_CHECK='1')
    subprocess.run(
        ['mformat', '-i', image, '-h', '16', '-s', '63', '-T', str((32 << 20) // 512), '::'],
        check=True,
        env=environment,
    )
    config = os.path.join(work, 'syslinux.cfg')
    with open(config, 'w', encoding='ascii') as file:
        file.write(CONFIG)
    for path, name in zip(guest_files(work) + (config,), ('vmlinuz', 'initrd', 'syslinux.cfg')):
        subprocess.run(['mcopy', '-i', image, path, '::' + name], check=True, env=environment)
    subprocess.run(['syslinux', image], check=True, env=environment)
    return Case([image, '--memory', '128M'], ['Booting from Hard Disk', 'SYSLINUX'] + SHELL, {'/ # ': b'poweroff -f\n'})


CASES = {
    'seabios': seabios,
    'screen': screen,
    'screen-13h': screen_13h,
    'keyboard': keyboard,
    'keyboard-grub': keyboard_grub,
    'boot-menu': boot_menu,
    'own-rom': own_rom,
    'option-rom': rom_of_a_users,
    'modes': modes,
    'modes-386': modes_386,
    'disk': disk,
    'usb-disk': usb_disk,
    'disk-virtio': disk_virtio,
    'nbd': nbd,
    'nbd-dies': nbd_dies,
    'floppy': floppy,
    'reset-doors': reset_doors,
    'saved': saved,
    'disk-snapshot': disk_snapshot,
    'disk-qcow2': disk_qcow2,
    'cdrom-grub': cdrom_grub,
    'cdrom-linux': cdrom_linux,
    'disk-linux': disk_linux,
}
OPTIONS = argparse.Namespace()
# The rest takes its time.
INTERPRETED = {'seabios', 'keyboard', 'own-rom', 'modes', 'modes-386', 'disk', 'reset-doors', 'saved'}


def run(command, case, limit=100):
    """Starts it, types what is to be typed, and returns what appeared, and the status."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text, typed, killer = b'', dict(case.typed), threading.Timer(limit, process.kill)
    killer.start()
    process.stdin.write(typed.pop('', b''))
    process.stdin.flush()
    while True:
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            break
        text += piece
        for pattern in [p for p in typed if re.search(p.encode(), text)]:
            process.stdin.write(typed.pop(pattern))
            process.stdin.flush()
        if case.status == 0 and not typed and not case.ends and re.search(case.awaited[-1].encode(), text):
            process.terminate()  # it would go on
            case.stopped = True
    killer.cancel()
    return text.decode('latin-1'), process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--engine', default='bt')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('name', nargs='?')
    options = parser.parse_args(namespace=OPTIONS)
    if options.list:
        print(
            '\n'.join(
                f'{name}/{engine}'
                for name in CASES
                for engine in ('interp', 'bt')
                if engine == 'bt' or name in INTERPRETED
            )
        )
        return 0
    with tempfile.TemporaryDirectory() as work:
        try:
            case = CASES[options.name](work)
        except Skip as why:
            print(why)
            return SKIPPED
        command = (
            [options.transvisor, 'run', '--engine', options.engine, '--timeout', '90']
            + case.words
            + ([] if '--load' in case.words or '--memory' in case.words else ['--memory', '64M'])
        )
        case.ends, case.stopped = case.status != 0 or 'poweroff' in str(case.typed), False
        text, status = run(command, case)
        at = 0
        for pattern in case.awaited:
            found = re.compile(pattern).search(text, at)
            if not found:
                print(f'{text}\nFAIL: {pattern!r} did not appear after byte {at}')
                return 1
            at = found.end()
        if status != case.status and not case.stopped:
            print(f'{text}\nFAIL: status {status}, expected {case.status}')
            return 1
        wrong = case.check() if case.check else True
        if wrong is not True:
            print(f'{text}\nFAIL: {wrong}')
            return 1
    print(f'PASS: {options.name} with {options.engine}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
