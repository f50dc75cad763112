#!/usr/bin/env python3
"""`transvisor img` from outside: what it makes, prints and refuses.

  img.py PROGRAM [-k WORD]
"""
import json
import os
import subprocess
import sys

from cli import LIMIT, cases, check, main

QEMU_IMG = '/usr/bin/qemu-img'


def img(bench, *words, status=0, says=''):
    done = subprocess.run(
        [os.path.abspath(bench.program), 'img', *words],
        cwd=bench.dir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    check(done.returncode == status, f'{words}: status {done.returncode}, {done.stdout!r}, {done.stderr!r}')
    check(says in (done.stderr if status else done.stdout + done.stderr), f'{words}: {done.stdout!r} {done.stderr!r}')
    check(done.stderr.count('\n') == (1 if done.stderr else 0), f'{words}: {done.stderr!r}')
    return done.stdout


def agrees(bench, *words):
    """What qemu-img says, where it is installed."""
    if not os.path.exists(QEMU_IMG):
        return
    done = subprocess.run([QEMU_IMG, *words], cwd=bench.dir, capture_output=True, text=True, timeout=LIMIT)
    check(done.returncode == 0, f'qemu-img {words}: {done}')


def file(b, name, data):
    with open(os.path.join(b.dir, name), 'wb') as f:
        f.write(data)


def data(b, name):
    with open(os.path.join(b.dir, name), 'rb') as f:
        return f.read()


DISK = b''.join(bytes([i % 251 + 1]) * 700 for i in range(2000)) + bytes(900000) + b'end' * 1000


def an_image_is_made_and_told_about(b):
    for options, version, cluster in (('compat=0.10', '0.10', 65536), ('cluster_size=4K', '1.1', 4096)):
        img(b, 'create', '-f', 'qcow2', '-o', options, 'disk', '3G')
        info = json.loads(img(b, 'info', '--json', 'disk'))
        check(
            (info['format'], info['virtual-size'], info['cluster-size']) == ('qcow2', 3 << 30, cluster)
            and info['format-specific']['data']['compat'] == version
            and info['actual-size'] < 2 << 20,
            f'{info}',
        )
        img(b, 'check', 'disk', says='No errors')
        agrees(b, 'check', 'disk')
    img(b, 'create', 'raw', '1M')
    check(os.stat(os.path.join(b.dir, 'raw')).st_size == 1 << 20, 'raw')
    img(b, 'info', 'raw', says='virtual size: 1 MiB (1048576 bytes)')


def a_copy_has_the_same_contents_whatever_its_format(b):
    file(b, 'a.raw', DISK)
    padded = DISK + bytes(-len(DISK) % 512)
    for options in ('compat=0.10', 'cluster_size=512', 'refcount_bits=1,cluster_size=2M', 'lazy_refcounts=on'):
        img(b, 'convert', '-O', 'qcow2', '-o', options, 'a.raw', 'b.qcow2')
        img(b, 'check', 'b.qcow2')
        agrees(b, 'check', 'b.qcow2')
        agrees(b, 'compare', 'a.raw', 'b.qcow2')
        img(b, 'convert', '-f', 'qcow2', 'b.qcow2', 'c.raw')
        check(data(b, 'c.raw') == padded, f'{options}: the copy differs')
    if os.path.exists(QEMU_IMG):
        agrees(b, 'convert', '-c', '-O', 'qcow2', 'a.raw', 'd.qcow2')
        img(b, 'convert', 'd.qcow2', 'c.raw')
        check(data(b, 'c.raw') == padded, 'compressed: the copy differs')


def an_overlay_is_committed_and_empty_then(b):
    file(b, 'a.raw', DISK + bytes(-len(DISK) % 512))
    img(b, 'convert', '-O', 'qcow2', 'a.raw', 'base')
    os.mkdir(os.path.join(b.dir, 'below'))
    img(b, 'create', '-f', 'qcow2', '-b', '../base', '-F', 'qcow2', 'below/top')
    check(json.loads(img(b, 'info', '--json', 'below/top'))['backing-filename'] == '../base', 'name')
    img(b, 'convert', 'below/top', 'c.raw')
    check(data(b, 'c.raw') == data(b, 'a.raw'), 'an empty overlay differs')
    if os.path.exists(QEMU_IMG):
        subprocess.run(
            ['qemu-io', '-c', 'write -P 9 70000 9000', '-c', 'write -z 65536 300', os.path.join(b.dir, 'below/top')],
            check=True,
            capture_output=True,
        )
    img(b, 'convert', 'below/top', 'want.raw')
    img(b, 'commit', 'below/top')
    for name in 'base', 'below/top':
        img(b, 'check', name)
        img(b, 'convert', name, 'c.raw')
        check(data(b, 'c.raw') == data(b, 'want.raw'), f'{name} differs')
    img(b, 'commit', 'base', status=2, says='based on nothing')


def a_check_finds_repairs_and_tells_by_its_status(b):
    file(b, 'a.raw', DISK)
    img(b, 'convert', '-O', 'qcow2', 'a.raw', 'disk')
    whole = bytearray(data(b, 'disk'))
    table = int.from_bytes(whole[48:56], 'big')
    block = int.from_bytes(whole[table : table + 8], 'big')
    last = block + -(-len(whole) // 65536) * 2  # a cluster that is appended
    for change, status in (({last + 1: 1}, 3), ({block: 0, block + 1: 0}, 2), ({block + 7: 9}, 3)):
        bad = bytearray(whole) + bytes(65536)
        for at, byte in change.items():
            bad[at] = byte
        file(b, 'bad', bytes(bad))
        img(b, 'check', 'bad', status=status)
        img(b, 'check', '--repair', 'bad')
        img(b, 'check', 'bad', says='No errors')
        agrees(b, 'check', 'bad')
        img(b, 'convert', 'bad', 'c.raw')
        check(data(b, 'c.raw')[: len(DISK)] == DISK, f'{change}: contents')
    img(b, 'check', 'a.raw', status=63, says='nothing to check')
    file(b, 'bad', bytes(whole[:24]) + b'\xff' + bytes(whole[25:]))
    img(b, 'check', 'bad', status=1, says='damaged')


def bad_words_and_files_are_one_line(b):
    file(b, 'a.raw', DISK)
    for words, status, says in (
        ((), 2, 'a verb is missing'),
        (('frobnicate',), 2, "there is no 'frobnicate'"),
        (('create', 'x'), 2, 'size is missing'),
        (('create', 'x', '1X'), 2, "'1X' is not a size"),
        (('create', 'x', '1M', 'more'), 2, 'unexpected argument'),
        (('create', '-f', 'vmdk', 'x', '1M'), 2, 'not one of raw|qcow2'),
        (('create', '-f', 'qcow2', '-o', 'cluster_size=3', 'x', '1M'), 2, 'power of two'),
        (('create', '-f', 'qcow2', '-o', 'colour=red', 'x', '1M'), 2, "'colour'"),
        (('create', '-f', 'qcow2', '-b', 'a.raw', 'x'), 2, 'say its format'),
        (('create', '-f', 'qcow2', '-b', 'none', '-F', 'raw', 'x'), 1, 'No such file'),
        (('create', '-b', 'a.raw', '-F', 'raw', 'x'), 2, 'only qcow2'),
        (('info', 'none'), 1, 'No such file'),
        (('info',), 2, 'missing'),
        (('convert', 'a.raw'), 2, 'missing'),
        (('convert', '-c', 'a.raw', 'x'), 2, 'qemu-img convert -c'),
        (('convert', 'none', 'x'), 1, 'No such file'),
        (('convert', 'a.raw', '.'), 1, 'directory'),
        (('convert', 'a.raw', 'a.raw'), 1, 'uses it'),
        (('commit', 'a.raw'), 1, 'no qcow2 image'),
    ):
        img(b, *words, status=status, says=says)
        check(not os.path.exists(os.path.join(b.dir, 'x')), f'{words}: x is there')
    check(data(b, 'a.raw') == DISK, 'a.raw has changed')


if __name__ == '__main__':
    sys.exit(main(cases(globals(), __name__), ('bt',), 'img.py'))
