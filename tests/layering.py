#!/usr/bin/env python3
"""Holds the include rules: who may include whom, and which file may use which library.

  layering.py [ROOT]     checks every .c, .h, .def and .S under ROOT; status 1 if a rule is broken
  layering.py --self     checks the checker on made-up violations
"""
import os
import re
import sys

# (files that the rule is about, what of ours they may include besides their own folder): the first match counts.
CORE = r'include/core/'
RULES = [
    (r'include/core/', [CORE]),
    (r'include/transvisor/', []),                                       # installed alone: nothing of ours
    (r'translator/', [r'translator/', CORE]),
    (r'runtime/', [r'runtime/', CORE, r'translator/translator\.h', r'translator/front/(insn|decode)\.(h|def)',
                   r'translator/front/insn_(op|class)\.def']),
    (r'src/dev/', [r'src/dev/', CORE]),                                 # a chip cannot reach the CPU
    (r'src/back/', [r'src/back/', r'src/error\.h', r'include/transvisor/', CORE]), # a back end never sees a chip
    (r'src/face/', [r'src/face/', r'src/error\.h', r'include/transvisor/', r'include/core/types\.h']),
    (r'src/vm\.c', [r'src/', CORE, r'include/transvisor/', r'runtime/runtime\.h', r'runtime/cpu/cpu_ops\.h',
                    r'translator/front/insn_class\.def']),              # names of models, classes
    (r'src/xlate\.c', [r'src/', CORE, r'include/transvisor/', r'runtime/cpu/cpu_ops\.h', r'translator/translator\.h',
                       r'translator/front/decode\.h']),                 # the translator without a machine
    (r'src/board/', [r'src/', CORE, r'include/transvisor/', r'runtime/runtime\.h']),
    (r'src/', [r'src/(?!dev/)', CORE, r'include/transvisor/', r'runtime/runtime\.h']), # chips are the board's alone
    (r'tests/|bench/', [r'']),
]
# The translator runs nothing and reads no guest memory; devices and the CPU meet in pc.c; a library has few users.
LIBRARIES = {
    'capstone/': r'translator/(front/decode|dump)\.c|runtime/(direct/scan_page|run/report)\.c|tests/',
    'xxhash.h': r'translator/|runtime/|tests/',
    'ffi.h': r'runtime/run/(callout|probe)\.c|tests/',
    'check.h': r'tests/',
}
SOURCE = re.compile(r'.*\.(c|h|def|S)$')
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
ROOTS = ['', 'include/']


def sources(root):
    for top in ('include', 'translator', 'runtime', 'src', 'tests', 'bench'):
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


def self_test():
    good = {'include/core/a.h': '#include <stdio.h>\n', 'translator/t.c': '#include "core/a.h"\n', 'translator/translator.h': '',
            'src/dev/isa/d.c': '#include "core/a.h"\n', 'runtime/runtime.h': '#include "core/a.h"\n',
            'runtime/run/r.c': '#include "translator/translator.h"\n', 'translator/xl.h': '',
            'src/board/pc.c': '#include "runtime/runtime.h"\n#include "src/dev/isa/d.h"\n', 'src/dev/isa/d.h': '', 'include/transvisor/vm.h': '',
            'src/face/main.c': '#include "transvisor/vm.h"\n', 'src/vm.h': ''}
    if list(violations(set(good), good.get)):
        print('layering.py: a lawful tree is refused:', list(violations(set(good), good.get)))
        return 1
    for path, line in (('include/core/a.h', '#include "runtime/runtime.h"'), ('include/transvisor/vm.h', '#include "core/a.h"'),
                       ('translator/t.c', '#include "runtime/runtime.h"'), ('runtime/run/r.c', '#include "src/board/pc.c"'),
                       ('runtime/run/r.c', '#include "translator/xl.h"'), ('src/dev/isa/d.c', '#include "runtime/runtime.h"'),
                       ('src/dev/isa/d.c', '#include "../../../runtime/runtime.h"'), ('src/face/main.c', '#include "runtime/runtime.h"'),
                       ('src/face/main.c', '#include "src/vm.h"'), ('src/vm.h', '#include "src/dev/isa/d.h"'),
                       ('src/board/pc.c', '#include <capstone/capstone.h>'), ('src/board/pc.c', '  #  include <ffi.h>'), ('src/board/pc.c', '#include "gone.h"')):
        bad = dict(good, **{path: line + '\n'})
        if len(list(violations(set(bad), bad.get))) != 1:
            print(f'layering.py: {path} with {line} passes')
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
    for line in broken:
        print(line)
    return 1 if broken else 0


if __name__ == '__main__':
    sys.exit(main())
