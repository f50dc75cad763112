#!/usr/bin/env python3
"""Settings from outside: configuration files, presets, and what is guessed of an image.

  config.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD)
"""
import json
import os
import shutil
import socket
import struct
import subprocess
import sys

import cli
from cli import HALT, LIMIT, POWEROFF, cases, check, multiboot, out8, say


def ask(bench, *words, status=0):
    done = subprocess.run(
        [os.path.abspath(bench.program), *words],
        cwd=bench.dir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    check(done.returncode == status, f'{words}: status {done.returncode}, {done.stdout!r}, {done.stderr!r}')
    return done.stdout if status == 0 and not done.stderr else done.stdout + done.stderr


def file(bench, name, data):
    with open(os.path.join(bench.dir, name), 'wb') as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return name


def guest(bench, code):
    return file(bench, 'guest', multiboot(code))


# ---- configuration files ----


def a_file_describes_a_machine(b):
    image = guest(b, say(b'hello') + out8(0xF4, 3) + HALT)
    file(b, 'a.json', json.dumps({'kernel': image, 'memory': 16, 'timeout': 20.5, 'debug-exit': '0xf4',
                                  'engine': b.engine, 'no-reboot': True}))
    check(ask(b, 'run', '--config', 'a.json', status=7) == 'hello', 'its output')


def what_is_typed_counts_more_wherever_it_stands(b):
    file(b, 'a.json', json.dumps({'kernel': guest(b, out8(0xF4, 3) + HALT), 'memory': '16M', 'debug-exit': 0xF5,
                                  'engine': b.engine}))
    for words in (('--config', 'a.json', '--debug-exit', '0xf4'), ('--debug-exit=0xf4', '--config=a.json')):
        ask(b, 'run', *words, status=7)


def an_error_names_file_line_and_key(b):
    for text, answers in (
        ('{\n "memory": "16M",\n "kernle": "x" }', ('a.json:3: ', "'kernle'", 'did you mean kernel?')),
        ('{ "append": "\\"memory\\": {",\n\n"memory": 1 }', ('a.json:3: ', 'memory: 1 is not within 16M to 3584M')),
        ('{ "hda": "x" }', ('a.json:1: ', "'hda'", 'did you mean disk?')),
        ('{ "no-reboot": "yes" }', ('a.json:1: ', 'no-reboot: is true or false')),
        ('{ "memory": [16, 17] }', ('a.json:1: ', 'memory: takes one value')),
        ('{ "memory": { "size": 16 } }', ('a.json:1: ', 'memory: wants a text or a number: SIZE')),
        ('{ "memory": null }', ('a.json:1: ', 'memory: wants')),
        ('{ "cpu": "help" }', ('a.json:1: ', 'cpu: ')),
        ('{ "cpu": "n271" }', ('a.json:1: ', 'did you mean n270?')),
        ('{ "for": "win99" }', ('a.json:1: ', 'did you mean win')),
        ('{ "config": "b.json" }', ('a.json:1: ', "there is no setting 'config'")),
        ('{ "curses": true }', ('a.json:1: ', "there is no setting 'curses'")),
        ('{\n"memory": 16,\n"memory": 17 }', ('a.json:3: ',)),
        ('{\n "memory": 16\n', ('a.json:3: ',)),
        ('[ 1 ]', ('a.json:1: ', 'no JSON object')),
        ('{ "disk": ["x", 5, true] }', ('a.json:1: ', 'disk: wants')),
        ('{ "append": "a\\u0000b" }', ('a.json:1: ',)),
        ('', ('a.json:1: ',)),
    ):
        file(b, 'a.json', text)
        said = ask(b, 'run', '--config', 'a.json', status=2)
        check(all(a in said for a in answers) and said.count('\n') == 1, f'{text!r}: {said!r}')
    said = ask(b, 'run', '--config', 'gone.json', status=1)
    check('gone.json: No such file' in said and said.count('\n') == 1, said)
    file(b, 'a.json', b'{ "append": "' + b'x' * (1 << 20) + b'" }')
    check('larger than 1 MiB' in ask(b, 'run', '--config', 'a.json', status=2), 'a large one')


def a_printed_file_is_the_command_line(b):
    words = ['-m', '64', '--disk', 'a.img,bus=virtio', '-hdb', 'b,,c.img', '--cdrom', 'c.iso', '-no-reboot']
    words += ['-nographic',
             '--append', 'a="b"\\ \u00e9', '--type', '<ret>@login:', '--for', 'win98', '--net', 'user']
    printed = ask(b, 'run', 'vmlinuz', *words, '--print-config')
    want = {'kernel': 'vmlinuz', 'memory': '64', 'disk': ['a.img,bus=virtio', 'b,,c.img'], 'cdrom': 'c.iso',
            'no-reboot': True, 'append': 'a="b"\\ \u00e9', 'type': '<ret>@login:', 'for': 'win98', 'net': 'user'}
    check(json.loads(printed) == want, printed)
    file(b, 'a.json', printed)
    check(ask(b, 'run', '--config', 'a.json', '--print-config') == printed, 'once more')
    more = json.loads(ask(b, 'run', '--config', 'a.json', '-m', '96', '--cdrom', 'd.iso', '--print-config'))
    check(more == dict(want, memory='96', cdrom=['c.iso', 'd.iso']), f'{more}')
    check('--memory: 1 is' in ask(b, 'run', '--memory', '1', '--print-config', status=2), 'a wrong one')


# ---- presets ----


def free_screen():
    """A number of VNC's whose port nobody has."""
    while True:
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        if port > 5900:
            return port - 5900


def presets_are_listed_and_can_be_overridden(b):
    table = ask(b, 'run', '--for', 'help').splitlines()
    names = [line.split()[0] for line in table[1:]]
    check(names == ['dos', 'win31', 'win95', 'win98', 'winme', 'nt4', 'win2000', 'winxp', 'os2', 'linux24', 'linux',
                    'bsd', 'generic'], f'{names}')
    check(table[0].split()[:3] == ['--for', 'cpu', 'memory'] and max(map(len, table)) <= 120, f'{table[0]}')
    check("did you mean win98?" in ask(b, 'run', 'x', '--for', 'win89', status=2), 'a wrong name')
    # cpuid; mov edx,f4h; out dx,al: the processor's family tells whose preset it is
    image = guest(b, b'\xb8\x01\0\0\0\x0f\xa2\xc1\xe8\x08\x83\xe0\x0f\xba\xf4\0\0\0\xee' + HALT)
    for words, family in (
        (('--for', 'dos'), 5),
        (('--for', 'win98'), 6),
        (('--for', 'winxp'), 15),
        (('--for', 'winxp', '--cpu', 'pentium'), 5),
        (('--cpu', 'pentium', '--for', 'winxp'), 5),
    ):
        ask(b, 'run', image, '--engine', b.engine, '--debug-exit', '0xf4', '-m', '16', *words, status=family << 1 | 1)


def a_preset_chooses_card_and_bus_where_nobody_says(b):
    def vendor_of(slot):
        # mov eax,80000000h | slot << 11; mov edx,cf8h; out dx,eax; mov dl,fch; in al,dx; mov edx,f4h; out dx,al
        address = struct.pack('<I', 0x80000000 | slot << 11)
        return b'\xb8' + address + b'\xba\xf8\x0c\0\0\xef\xb2\xfc\xec\xba\xf4\0\0\0\xee' + HALT

    file(b, 'disk.img', bytes(1 << 20))
    for slot, words, vendor in (
        (3, ('--for', 'win98', '--net', 'socket:unix:wire'), 0x22),
        (3, ('--net', 'socket:unix:wire', '--for', 'winxp'), 0x86),
        (3, ('--for', 'win98', '--net', 'socket:unix:wire,model=e1000'), 0x86),
        (3, ('--for', 'win98', '--net', 'socket:unix:wire', '--net-model', 'virtio'), 0xF4),
        (4, ('--for', 'linux', '--disk', 'disk.img'), 0xF4),
        (4, ('--for', 'linux', '--disk', 'disk.img,bus=ide'), 0xFF),
        (4, ('--for', 'win98', '--disk', 'disk.img'), 0xFF),
        (4, ('--disk', 'disk.img', '--disk-bus', 'virtio', '--for', 'win98'), 0xF4),
        (4, ('--for', 'linux', '--cdrom', 'disk.img', '--disk', 'disk.img,media=cdrom'), 0xFF),
    ):
        image = guest(b, vendor_of(slot))
        ask(b, 'run', image, '--debug-exit', '0xf4', '-m', '16', *words, status=(vendor << 1 | 1) & 0xFF)


def a_preset_has_the_sound_card_that_its_guest_knows(b):
    # mov edx,226h; mov al,1; out dx,al; mov al,0; out dx,al; mov dl,2ah; in al,dx; mov edx,f4h; out dx,al: AAh
    dsp = b'\xba\x26\x02\0\0\xb0\x01\xee\xb0\0\xee\xb2\x2a\xec\xba\xf4\0\0\0\xee' + HALT
    # The device that is at 00:11.0: 2415h
    pci = b'\xb8\x02\x88\0\x80\xba\xf8\x0c\0\0\xef\xb2\xfe\xec\xba\xf4\0\0\0\xee' + HALT
    for code, words, answer in (
        (dsp, ('--for', 'dos'), 0xAA),
        (dsp, ('--for', 'winxp'), 0xFF),
        (dsp, ('--for', 'dos', '--sound', 'none'), 0xFF),
        (pci, ('--for', 'winxp'), 0x15),
        (pci, ('--for', 'win98'), 0xFF),
        (pci, ('--sound', 'ac97', '--for', 'win98'), 0x15),
    ):
        image = guest(b, code)
        ask(b, 'run', image, '--debug-exit', '0xf4', '-m', '16', *words, status=(answer << 1 | 1) & 0xFF)


def a_screen_with_a_pointer_has_a_tablet_where_its_guest_knows_usb(b):
    # The device that is at 00:01.2: 7020h
    image = guest(b, b'\xb8\x00\x0a\0\x80\xba\xf8\x0c\0\0\xef\xb2\xfe\xec\xba\xf4\0\0\0\xee' + HALT)
    for i in range(4):
        file(b, f'disk{i}.img', bytes(1 << 20))
    disks = [w for i in range(4) for w in ('--disk', f'disk{i}.img,bus=usb')]
    for words, screen, answer in (
        (('--for', 'winxp'), True, 0x20),
        (('--for', 'winxp'), False, 0xFF),
        (('--for', 'nt4'), True, 0xFF),
        (('--pointer', 'tablet', '--for', 'nt4'), True, 0x20),
        (('--for', 'winxp', '--pointer', 'mouse'), True, 0xFF),
        (('--for', 'winxp', '--usb', 'none'), True, 0xFF),
        (('--for', 'winxp', '--usb', 'tablet'), True, 0x20),
        (('--for', 'winxp', *disks), True, 0x20),
    ):
        show = ('--display', f'vnc=127.0.0.1:{free_screen()}') if screen else ()
        ask(b, 'run', image, '--debug-exit', '0xf4', '-m', '16', *words, *show, status=(answer << 1 | 1) & 0xFF)


def every_preset_is_a_machine_that_starts(b):
    image = guest(b, POWEROFF)
    file(b, 'disk.img', bytes(1 << 20))
    for line in ask(b, 'run', '--for', 'help').splitlines()[1:]:
        said = ask(b, 'run', image, '--disk', 'disk.img', '--engine', b.engine, '--for', line.split()[0])
        check(said == '', f'{line}: {said!r}')


def a_clock_shows_local_time_where_the_guest_expects_it(b):
    # mov al,4; out 70h,al; in al,71h; mov edx,f4h; out dx,al: the hour, in BCD
    image = guest(b, b'\xb0\x04\xe6\x70\xe4\x71\xba\xf4\0\0\0\xee' + HALT)
    os.environ['TZ'] = '<+07>-7'
    try:
        hours = []
        for preset in ('linux', 'dos'):
            words = ['run', image, '--for', preset, '--debug-exit', '0xf4', '-m', '16', '--timeout', str(LIMIT)]
            done = subprocess.run([os.path.abspath(b.program), *words], cwd=b.dir, stdin=subprocess.DEVNULL)
            status = done.returncode
            hours.append((status >> 5) * 10 + (status >> 1 & 15))
    finally:
        del os.environ['TZ']
    check((hours[1] - hours[0]) % 24 in (7, 8), f'{hours}')  # 8: an hour has just ended


def more_memory_than_a_guest_bears_is_told(b):
    image = guest(b, POWEROFF)
    said = ask(b, 'run', image, '--engine', b.engine, '--for', 'win98', '-m', '513')
    check('win98' in said and '512M' in said and said.count('\n') == 1, said)


# ---- guesses ----


def sector(oem=b'', text=b'', at=0x100):
    s = bytearray(512)
    s[0:3] = b'\xeb\x3c\x90'
    s[3 : 3 + len(oem)] = oem
    s[at : at + len(text)] = text
    s[510:] = b'\x55\xaa'
    return bytes(s)


def disk(kind, boot=b'', start=63, active=True):
    mbr = bytearray(sector())
    mbr[446:462] = bytes([0x80 if active else 0, 1, 1, 0, kind, 1, 1, 0]) + struct.pack('<II', start, 2000)
    return (bytes(mbr) + bytes(512 * (start - 1)) + boot).ljust(1 << 20, b'\0')


def iso(volume, publisher=b'', system=b''):
    v = bytearray(2048)
    v[0:7] = b'\1CD001\1'
    v[8:40], v[40:72] = system.ljust(32), volume.ljust(32)
    v[318:446] = publisher.ljust(128)
    return bytes(32768) + bytes(v) + bytes(2048 * 4)


def kernel(version):
    image = bytearray(cli.linux(HALT))
    image[0x20E:0x210] = struct.pack('<H', 0x300)
    image[0x500 : 0x500 + len(version)] = version
    return bytes(image)


def an_image_tells_what_it_is_for(b):
    for image, preset, why in (
        (iso(b'WIN98 SE'), 'win98', '"WIN98 SE"'),
        (iso(b'WXPVOL_EN'), 'winxp', 'WXPVOL_EN'),
        (iso(b'W2PFPP_EN'), 'win2000', 'W2PFPP_EN'),
        (iso(b'Debian 12.5.0 i386 1'), 'linux', 'Debian'),
        (iso(b'13_2_RELEASE_I386_CD', b'THE FREEBSD PROJECT'), 'bsd', 'published by "THE FREEBSD PROJECT"'),
        (iso(b'CDROM'), 'generic', 'nothing'),
        (iso(b'\xff\x1b[2J', b'LINUX\n\x07'), 'linux', 'LINUX??'),
        (disk(0x83), 'linux', '83h'),
        (disk(0xA6), 'bsd', 'OpenBSD'),
        (disk(0x0B, sector(b'MSWIN4.1')), 'win98', 'MSWIN4.1'),
        (disk(0x06, sector(b'MSDOS5.0', b'IO      SYSMSDOS   SYS', 0x1E6)), 'dos', 'IO      SYS'),
        (disk(0x06, sector(b'FRDOS7.1')), 'dos', 'FRDOS'),
        (disk(0x07, sector(b'NTFS    ', b'NTLDR is missing')), 'winxp', 'NTLDR'),
        (disk(0x07, sector(b'NTFS    ', b'A kernel file is missing from the disk.')), 'nt4', 'kernel file'),
        (disk(0x06, sector(b'IBM 20.0', b'OS2BOOT')), 'os2', 'OS2BOOT'),
        (disk(0x0B, active=False), 'win98', '0bh'),
        (disk(0xFE), 'generic', 'nothing'),
        (sector(b'', b'GRUB').ljust(1 << 20, b'\0'), 'linux', 'GRUB'),
        (kernel(b'2.4.37 (x@y) #1'), 'linux24', '2.4.37'),
        (kernel(b'6.1.0-18-686 (x@y) #1'), 'linux', '6.1.0-18-686'),
        (bytes(1 << 20), 'generic', 'nothing'),
    ):
        said = ask(b, 'run', file(b, 'image', image), '--for', '?')
        check(f'--for {preset}, ' in said and why in said and said.count('\n') == 1 and said.isprintable() is False
              and said[:-1].isprintable(), f'{preset}: {said!r}')
    # A partition that lies behind the end, and words of which nothing can be opened.
    file(b, 'image', disk(0x83, start=63)[:512 * 64])
    ask(b, 'run', 'image', '--for', '?')
    check('gone.img' in ask(b, 'run', '--disk', 'gone.img', '--for', '?', status=1), 'a file that is not there')
    check('say FILE' in ask(b, 'run', '--for', '?', status=2), 'no file')


def images_that_others_make_are_told(b):
    made = 0
    if shutil.which('mkfs.fat'):
        file(b, 'fat', bytes(1440 << 10))
        subprocess.run(['mkfs.fat', 'fat'], cwd=b.dir, check=True, capture_output=True)
        said = ask(b, 'run', '--floppy', 'fat', '--for', '?')
        check('--for generic' in said or '--for dos' in said, said)
        made += 1
    if shutil.which('xorriso'):
        file(b, 'hello', b'x')
        subprocess.run(['xorriso', '-as', 'mkisofs', '-V', 'OpenBSD/i386 7.4', '-o', 'made.iso', 'hello'], cwd=b.dir,
                       check=True, capture_output=True)
        said = ask(b, 'run', '--cdrom', 'made.iso', '--for', '?')
        check('--for bsd' in said and 'OpenBSD' in said, said)
        made += 1
    file(b, 'raw', disk(0xA9))
    ask(b, 'img', 'convert', '-O', 'qcow2', 'raw', 'a.qcow2')
    check('--for bsd' in ask(b, 'run', 'a.qcow2', '--for', '?'), 'a qcow2 image')


if __name__ == '__main__':
    sys.exit(cli.main(cases(globals(), __name__), ('bt',), 'config.py'))
