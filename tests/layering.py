#!/usr/bin/env python3
"""Holds the include rules: who may include whom, which file may use which library, and that no includes go in a circle.

  layering.py [ROOT]     checks every .c, .h, .def and .S under ROOT; status 1 if a rule is broken
  layering.py --self     checks the checker on made-up violations
"""
import os
import re
import sys

# (files that the rule is about, what of ours they may include besides their own folder): the first match counts.
CORE = r'include/core/'
OUTER_CORE = r'include/core/(?!cpu\.h)'  # struct cpu is the runtime's and the translator's: others see cpu_arch
DECODER = r'translator/front/(insn|decode|x87)\.h|translator/front/insn(_op|_class)?\.def'
RULES = [
    (r'include/core/|core/', [CORE]),
    (r'src/snap/', [r'src/snap/', CORE]),  # knows no chip
    (r'include/transvisor/', []),  # installed alone: nothing of ours
    (r'translator/front/', [r'translator/front/', CORE]),
    (
        r'runtime/run/(stream|probes)\.c',
        [r'runtime/', CORE, r'include/transvisor/stream\.h', DECODER, r'translator/translator\.h'],
    ),  # its format
    (r'translator/lower/', [r'translator/(front|lower)/', r'translator/translator\.h', CORE]),
    (r'translator/store/', [r'translator/(front|lower|store)/', r'translator/translator\.h', CORE]),
    (r'translator/translator\.h', [r'translator/front/', CORE]),  # what embedders include
    (r'translator/', [r'translator/', CORE]),
    (r'runtime/(cpu|mem)/', [r'runtime/(cpu|mem)/', r'runtime/run/rt\.h', CORE, DECODER]),  # rt.h: to trace
    (
        r'runtime/interp/',
        [r'runtime/(cpu|mem|interp)/', r'translator/store/hostmem\.h', CORE, DECODER],
    ),  # memory to run
    (
        r'runtime/direct/',
        [
            r'runtime/(cpu|mem|interp|direct)/',
            r'runtime/run/(rt|hostsig)\.h',
            CORE,
            DECODER,
            r'translator/translator\.h',
        ],
    ),
    (r'runtime/kvm/', [r'runtime/(cpu|mem|kvm)/', r'runtime/runtime\.h', CORE]),  # probe.c is a part of runtime.h
    (r'runtime/', [r'runtime/', CORE, r'translator/translator\.h', DECODER]),
    (r'src/dev/', [r'src/dev/', OUTER_CORE]),  # a chip cannot reach the CPU
    (
        r'src/back/',
        [r'src/back/', r'src/(error|parse|wait|listen)\.h', r'include/transvisor/', OUTER_CORE],
    ),  # a back end never sees a chip
    (
        r'src/face/',
        [
            r'src/face/',
            r'src/(error|parse|wait|listen)\.h',
            r'include/transvisor/',
            r'include/core/(types|hostfd|thread)\.h',
        ],
    ),
    (r'src/(vm|xlate)\.c', [r'src/', OUTER_CORE, r'include/transvisor/', r'runtime/runtime\.h']),
    (r'src/board/', [r'src/', OUTER_CORE, r'include/transvisor/', r'runtime/runtime\.h']),
    (
        r'src/',
        [r'src/(?!dev/)', OUTER_CORE, r'include/transvisor/', r'runtime/runtime\.h'],
    ),  # chips are the board's alone
    (r'tests/|bench/', [r'']),
]
# The translator runs nothing and reads no guest memory; devices and the CPU meet in pc.c; a library has few users.
LIBRARIES = {
    'seccomp.h': r'src/jail_filter\.c',
    'capstone/': r'translator/(front/decode|dump)\.c|runtime/(direct/scan_page|run/report)\.c|tests/',
    'xxhash.h': r'translator/|runtime/|src/snap/file\.c|tests/',
    'slirp/': r'src/back/netdev_user\.c',
    'rfb/': r'src/back/screen_vnc\.c',
    'jansson.h': r'src/face/(qmp\.c|top\.c|config\.c|json\.h)|tests/',
    'ffi.h': r'src/face/probe_call\.c',
    'lz4.h': r'src/snap/ram\.c|tests/',
    'samplerate.h': r'src/back/audio_mix\.c',
    'pulse/': r'src/back/audio_pulse\.c',
    'alsa/': r'src/back/audio_alsa\.c',
    'SDL2/': r'src/back/audio_sdl\.c',
    'png.h': r'src/back/picture\.c',
    'zlib.h': r'src/(back/qcow2|dev/net/ether)\.c|tests/',
    'libnbd.h': r'src/back/image_nbd\.c',
    'check.h': r'tests/',
}
# Files in one circle of includes, NAME.c and NAME.h being one thing: whoever uses the one needs them all.
CIRCLE_MAX = 4
SOURCE = re.compile(r'.*\.(c|h|def|S)$')
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
ROOTS = ['', 'include/']


def sources(root):
    for top in ('include', 'core', 'translator', 'runtime', 'src', 'tests', 'bench'):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if SOURCE.match(name):
                    yield os.path.relpath(os.path.join(folder, name), root)


def resolve(files, path, kind, name):
    """The file of ours that an #include names, or None if it is a system header."""
    near = os.path.normpath(os.path.join(os.path.dirname(path), name))
    if kind == '"' and near in files:
        return near
    for prefix in ROOTS:
        if prefix + name in files:
            return prefix + name
    return None


def violations(files, read):
    for path in sorted(files):
        allowed = next((targets for pattern, targets in RULES if re.match(pattern, path)), None)
        if allowed is None:
            yield f'{path}: in no folder that a rule covers'
            continue
        for kind, name in INCLUDE.findall(read(path)):
            target = resolve(files, path, kind, name)
            if target is None:
                if kind == '"':
                    yield f'{path}: includes "{name}", which is nowhere'
                for library, users in LIBRARIES.items():
                    if name.startswith(library) and not re.match(users, path):
                        yield f'{path}: includes <{name}>: only {users} may'
            elif not any(re.match(pattern, target) for pattern in allowed):
                yield f'{path}: includes {target}: it may include {" ".join(allowed) or "nothing of ours"}'


def unit(path):
    """NAME.c and NAME.h of one folder are one thing: what the one includes the other depends on."""
    return re.sub(r'\.[ch]$', '', path)


def circles(files, read):
    """Sets of files of ours each of which needs all others: strongly connected components (Tarjan, without
    recursion)."""
    needs = {}
    for path in sorted(files):
        if not re.match(r'tests/|bench/', path):
            targets = (resolve(files, path, kind, name) for kind, name in INCLUDE.findall(read(path)))
            needs.setdefault(unit(path), set()).update(unit(t) for t in targets if t)
    order, low, stack, found = {}, {}, [], []
    for root in sorted(needs):
        work = [(root, iter(sorted(needs[root])))] if root not in order else []
        while work:
            at, rest = work[-1]
            if at not in order:
                order[at] = low[at] = len(order)
                stack.append(at)
            for target in rest:
                if target not in order:
                    work.append((target, iter(sorted(needs.get(target, ())))))
                    break
                if target in stack:
                    low[at] = min(low[at], order[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == order[at]:
                    members = stack[stack.index(at) :]
                    del stack[stack.index(at) :]
                    found.append(sorted(f for f in files if unit(f) in members))
    return [c for c in found if len(set(map(unit, c))) > 1]


def self_test():
    good = {
        'include/core/a.h': '#include <stdio.h>\n',
        'include/core/cpu.h': '',
        'src/vm.c': '',
        'translator/t.c': '#include "core/a.h"\n',
        'translator/translator.h': '',
        'src/dev/isa/d.c': '#include "core/a.h"\n',
        'runtime/runtime.h': '#include "core/a.h"\n',
        'runtime/run/r.c': '#include "translator/translator.h"\n',
        'translator/xl.h': '',
        'runtime/run/r.h': '',
        'runtime/mem/m.c': '',
        'runtime/interp/i.c': '#include "runtime/mem/m.h"\n',
        'runtime/mem/m.h': '',
        'src/board/pc.c': '#include "runtime/runtime.h"\n#include "src/dev/isa/d.h"\n',
        'src/dev/isa/d.h': '',
        'include/transvisor/vm.h': '',
        'src/face/main.c': '#include "transvisor/vm.h"\n',
        'src/vm.h': '',
        'translator/front/f.c': '#include "core/a.h"\n',
        'translator/lower/l.c': '#include "translator/front/f.h"\n',
        'translator/front/f.h': '',
        'translator/lower/l.h': '',
        'translator/store/s.h': '#include "translator/lower/l.h"\n',
        'translator/store/s.c': '#include "s.h"\n',
    }
    if list(violations(set(good), good.get)):
        print('layering.py: a lawful tree is refused:', list(violations(set(good), good.get)))
        return 1
    for path, line in (
        ('include/core/a.h', '#include "runtime/runtime.h"'),
        ('include/transvisor/vm.h', '#include "core/a.h"'),
        ('translator/t.c', '#include "runtime/runtime.h"'),
        ('runtime/run/r.c', '#include "src/board/pc.c"'),
        ('runtime/run/r.c', '#include "translator/xl.h"'),
        ('runtime/mem/m.c', '#include "runtime/run/r.h"'),
        ('runtime/interp/i.c', '#include "runtime/run/r.h"'),
        ('src/dev/isa/d.c', '#include "runtime/runtime.h"'),
        ('src/dev/isa/d.c', '#include "../../../runtime/runtime.h"'),
        ('src/face/main.c', '#include "runtime/runtime.h"'),
        ('src/face/main.c', '#include "src/vm.h"'),
        ('src/vm.h', '#include "src/dev/isa/d.h"'),
        ('translator/front/f.c', '#include "translator/lower/l.h"'),
        ('translator/lower/l.c', '#include "../store/s.h"'),
        ('translator/translator.h', '#include "translator/store/s.h"'),
        ('src/vm.c', '#include "core/cpu.h"'),
        ('src/board/pc.c', '#include <capstone/capstone.h>'),
        ('src/board/pc.c', '  #  include <xxhash.h>'),
        ('src/board/pc.c', '#include "gone.h"'),
    ):
        bad = dict(good, **{path: line + '\n'})
        if len(list(violations(set(bad), bad.get))) != 1:
            print(f'layering.py: {path} with {line} passes')
            return 1
    return self_test_circles()


def self_test_circles():
    def ring(n):
        """a0.c > a1.h, a1.c > a2.h, ... and round again: 2 * n files that need each other, by way of NAME.c and
        NAME.h."""
        return dict(
            {f'runtime/mem/a{i}.h': '' for i in range(n)},
            **{f'runtime/mem/a{i}.c': f'#include "a{(i + 1) % n}.h"\n' for i in range(n)},
        )

    for what, tree, sizes in (
        ('a chain', dict(ring(4), **{'runtime/mem/a3.c': ''}), []),
        ('a file and its header', ring(1), []),
        ('two', ring(2), [4]),
        ('three', ring(3), [6]),
        (
            'two rings',
            dict(
                ring(3),
                **{
                    'src/b.h': '#include "src/c.h"\n',
                    'src/c.h': '#include "src/b.h"\n',
                    'src/d.c': '#include "src/b.h"\n#include "runtime/mem/a0.h"\n',
                },
            ),
            [2, 6],
        ),
        (
            'one that touches itself twice',
            {
                'src/a.h': '#include "src/b.h"\n#include "src/c.h"\n',
                'src/b.h': '#include "src/d.h"\n',
                'src/c.h': '#include "src/d.h"\n',
                'src/d.h': '#include "src/a.h"\n',
                'src/e.h': '#include "src/a.h"\n',
            },
            [4],
        ),
    ):
        got = sorted(len(c) for c in circles(set(tree), tree.get))
        if got != sizes:
            print(f'layering.py: {what}: circles of {got} files, not {sizes}')
            return 1
    return 0


def main():
    if sys.argv[1:] == ['--self']:
        return self_test()
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
    files = set(sources(root))
    if len(files) < 10:
        print(f'layering.py: no sources under {root}')
        return 1

    def read(path):
        with open(os.path.join(root, path), encoding='utf-8') as f:
            return f.read()

    broken = list(violations(files, read))
    broken += [
        f'a circle of {len(c)} files, more than {CIRCLE_MAX}: {" ".join(c)}'
        for c in circles(files, read)
        if len(c) > CIRCLE_MAX
    ]
    for line in broken:
        print(line)
    return 1 if broken else 0


if __name__ == '__main__':
    sys.exit(main())
