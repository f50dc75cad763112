#!/usr/bin/env python3
"""What `cmake --install` puts into a directory can be used from there, and by nothing else than pkg-config.

  install.py SOURCE BUILD             installs, and builds and runs programs against it
  install.py --package SOURCE BUILD   builds the Debian packages from a copy of the tree; lintian finds no errors
"""
import glob
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

SKIPPED = 77

# A machine whose guest writes 16 to port F4h, by the interface alone. Exits with what came of it: 33.
PROGRAM = r'''
#include <stdio.h>
#include <transvisor/vm.h>
int main(int argc, char **argv)
{
    struct vm_config cfg = { .size = sizeof cfg, .kernel = argc > 1 ? argv[1] : "", .memory = VM_MEMORY_MIN,
                             .has_debug_exit = true, .debug_exit = 0xf4 };
    struct vm_error err;
    struct vm *vm;
    if (vm_create(&vm, &cfg, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    int value = vm_run(vm, &err) == VM_EXIT_DEBUG ? (int)vm_debug_exit_value(vm) : 2;
    vm_free(vm);
    return value;
}
'''
GUEST = (
    struct.pack('<8I', 0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) & 0xFFFFFFFF, 0x100000, 0x100000, 0, 0, 0x100020)
    + b'\xb0\x10\xe6\xf4\xf4'
)
FILES = [
    'bin/transvisor',
    'include/transvisor/stream.h',
    'include/transvisor/vm.h',
    'lib/libtransvisor.a',
    'lib/libtransvisor.so',
    'lib/libtransvisor.so.0',
    'lib/pkgconfig/transvisor.pc',
    'share/man/man1/transvisor.1',
    'share/man/man3/libtransvisor.3',
    'share/bash-completion/completions/transvisor',
    'share/transvisor/bench/run.py',
    'share/transvisor/bench/guest/packages.sh',
    'share/transvisor/bench/kernel/toggle.c',
    'share/transvisor/tests/insn/link.ld',
    'share/transvisor/tests/guests/init/bench',
]


class Failure(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failure(text)


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    check(
        done.returncode == 0,
        f'{" ".join(command)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}',
    )
    return done.stdout


def functions(header):
    """What the header declares: the name before the parenthesis of each declaration."""
    with open(header, encoding='ascii') as file:
        text = file.read()
    text = re.sub(r'/\*.*?\*/|^#[^\n]*$|\{[^{}]*\}|\btypedef\b[^;]*;', '', text, flags=re.S | re.M)
    return sorted(set(re.findall(r'\b(vm_\w+)\(', text)))


class Tree:
    """An installed tree."""

    def __init__(self, source, build, folder):
        self.source, self.build, self.dir, self.prefix = source, build, folder, os.path.join(folder, 'usr')
        run('cmake', '--install', build, '--prefix', self.prefix)
        pc = glob.glob(f'{self.prefix}/lib/**/transvisor.pc', recursive=True)
        check(pc, 'no transvisor.pc was installed')
        self.lib = os.path.dirname(os.path.dirname(pc[0]))
        self.env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc[0]))

    def path(self, name):
        return os.path.join(self.lib, name[4:]) if name.startswith('lib/') else os.path.join(self.prefix, name)

    def flags(self, *words):
        return run('pkg-config', *words, 'transvisor', env=self.env).split()

    def compile(self, source, out, *words):
        """words: of pkg-config; a static program with --static."""
        static = ['-static'] if '--static' in words else [f'-Wl,-rpath,{self.lib}']
        run('cc', '-Wall', '-Wextra', '-Werror', '-o', out, source, *self.flags('--cflags', '--libs', *words), *static)
        return out


def everything_is_there(t):
    missing = [name for name in FILES if not os.path.exists(t.path(name))]
    check(not missing, f'not installed: {missing}')


def the_libraries_export_the_header_and_nothing_else(t):
    want = functions(t.path('include/transvisor/vm.h'))
    check(len(want) > 10, f'the header has {want}')
    for command in (
        ('nm', '-D', '--defined-only', t.path('lib/libtransvisor.so')),
        ('nm', '-g', '--defined-only', t.path('lib/libtransvisor.a')),
    ):
        names = re.findall(r' [A-Z] (\w+)(?:@+(\w+))?$', run(*command), re.M)
        got = sorted(name for name, _ in names if name != 'TRANSVISOR_0')
        check(got == want, f'{command[-1]}: {sorted(set(got) ^ set(want))} are in one of header and library')
        check(
            '.so' not in command[-1]
            or all(version == 'TRANSVISOR_0' for name, version in names if name != 'TRANSVISOR_0'),
            f'without a version: {names}',
        )
    check('[libtransvisor.so.0]' in run('readelf', '-d', t.path('lib/libtransvisor.so')), 'no soname')


def programs_are_built_by_pkg_config_alone(t):
    source, guest = os.path.join(t.dir, 'program.c'), os.path.join(t.dir, 'guest')
    with open(source, 'w', encoding='ascii') as f:
        f.write(PROGRAM)
    with open(guest, 'wb') as f:
        f.write(GUEST)
    for words in ((), ('--static',)):
        program = t.compile(source, os.path.join(t.dir, 'program'), *words)
        done = subprocess.run([program, guest], capture_output=True, text=True, timeout=60)
        check((done.returncode, done.stderr) == (33, ''), f'{words}: status {done.returncode}, {done.stderr!r}')


def guest_files(t):
    """Kernel and initial RAM disk of the test guests, or None if they have not been fetched (tests/guests/fetch.sh)."""
    cache = os.environ.get('TRANSVISOR_CACHE') or os.path.join(
        os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'transvisor'
    )
    try:
        with open(os.path.join(cache, 'paths.env'), encoding='utf-8') as f:
            kernel = re.search(r"^KERNEL_686='(.*)'$", f.read(), re.M)[1]
    except FileNotFoundError:
        return None
    initrd = os.path.join(t.dir, 'initrd')
    run(os.path.join(t.source, 'tests/guests/mkinitramfs.sh'), 'shell', initrd)
    return kernel, initrd


# What each prints at least; linux is given a kernel and an initial RAM disk.
EXAMPLES = {
    'registers': (r'^port 500: 55 in 4 bytes\neax 55 ecx 0 eip 1015 memory 55\n$', False),
    'linux': (r'# .*echo \$\(\(6 \* 7\)\) is the answer; poweroff\s+42 is the answer\b', True),
}


def the_examples_are_built_by_pkg_config_alone_and_work(t):
    sources = {
        os.path.splitext(os.path.basename(path))[0]: path for path in glob.glob(os.path.join(t.source, 'examples/*.c'))
    }
    check(set(sources) == set(EXAMPLES), f'{sorted(sources)} are there, {sorted(EXAMPLES)} are known')
    for name, (pattern, boots) in EXAMPLES.items():
        with open(sources[name], encoding='ascii') as f:
            lines = len(f.readlines())
        check(lines <= 60, f'{name}: {lines} lines are more than 60')
        files = guest_files(t) if boots else ()
        for words in ((), ('--static',)):
            program = t.compile(sources[name], os.path.join(t.dir, name), *words)
            if files is None:
                print(f'install.py: {name} is built and not run: no test guests')
                continue
            done = subprocess.run(
                [program, *files], capture_output=True, encoding='utf-8', errors='replace', timeout=300
            )
            check(
                done.returncode == 0 and not done.stderr,
                f'{name} {words}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}',
            )
            check(re.search(pattern, done.stdout), f'{name} {words} printed {done.stdout[-2000:]}')
            if boots:
                break  # the same program, linked otherwise


def the_example_in_python_works_with_the_shared_library(t):
    example = os.path.join(t.source, 'examples/probes.py')
    done = subprocess.run(
        [sys.executable, example, t.path('lib/libtransvisor.so.0')], capture_output=True, text=True, timeout=120
    )
    check(
        done.returncode == 0 and done.stdout.endswith('\neax 101 ebx 109, 5 additions\n') and not done.stderr,
        f'status {done.returncode}: {done.stdout}{done.stderr[-2000:]}',
    )


def the_program_tells_its_version(t):
    lines = run(t.path('bin/transvisor'), '--version').splitlines()
    check(re.fullmatch(r'transvisor \d+\.\d+\S*', lines[0]), f'{lines}')
    for part in ('revision', 'compiler', 'capstone', 'xxhash', 'libc'):
        check(any(re.match(rf'{part} \S+', line) for line in lines[1:]), f'{part} is not in {lines}')


def the_version_is_that_of_the_last_tag(t):
    repository, header = os.path.join(t.dir, 'repository'), os.path.join(t.dir, 'version.h')

    def version():
        run(
            'cmake',
            f'-DOUTPUT={header}',
            f'-DSOURCE={os.path.realpath(repository)}',
            '-DFALLBACK=0.1',
            '-DLIBRARIES=THIS=1.2;THAT=3',
            '-P',
            os.path.join(t.source, 'scripts/version.cmake'),
        )
        with open(header, encoding='ascii') as f:
            return dict(re.findall(r'#define (\w+) "(.*)"', f.read()))

    os.mkdir(repository)
    check(
        version() == {'VERSION': '0.1', 'REVISION': 'unknown', 'THIS_VERSION': '1.2', 'THAT_VERSION': '3'},
        f'outside of a repository: {version()}',
    )
    git = ['git', '-C', repository, '-c', 'user.name=n', '-c', 'user.email=e']
    run(*git, 'init', '-q')
    run(*git, 'commit', '-q', '--allow-empty', '-m', 'one')
    check(
        version()['VERSION'] == '0.1' and re.fullmatch('[0-9a-f]{12}', version()['REVISION']),
        f'without a tag: {version()}',
    )
    run(*git, 'tag', '-m', 't', 'v9.8')
    check(version()['VERSION'] == '9.8', f'at the tag: {version()}')
    run(*git, 'commit', '-q', '--allow-empty', '-m', 'two')
    check(version()['VERSION'].startswith('9.8-1-g'), f'after it: {version()}')


def one_version_is_in_all_places(t):
    want = run('pkg-config', '--modversion', 'transvisor', env=t.env).strip()
    for name, pattern in (('CHANGELOG.md', r'^## (\S+)'), ('debian/changelog', r'^transvisor \((\S+)\)')):
        with open(os.path.join(t.source, name), encoding='utf-8') as f:
            found = re.search(pattern, f.read(), re.M)
        check(found and found[1] == want, f'{name} says {found and found[1]}, transvisor.pc {want}')


def the_manual_pages_are_sound(t):
    for name, words in (
        ('man1/transvisor.1', ('--kernel', '--trace', 'EXIT STATUS')),
        ('man3/libtransvisor.3', ('vm_create', 'struct vm_config')),
    ):
        path = t.path('share/man/' + name)
        with open(path, encoding='utf-8') as f:
            text = f.read().replace('\\-', '-')
        check(all(word in text for word in words), f'{name} lacks one of {words}')
        if shutil.which('groff'):
            done = subprocess.run(['groff', '-man', '-Tutf8', '-ww', '-z', path], capture_output=True, text=True)
            check(done.returncode == 0 and not done.stderr, f'{name}: {done.stderr[:500]}')


def every_option_is_completed(t):
    script = t.path('share/bash-completion/completions/transvisor')

    def complete(*words):
        return run(
            'bash',
            '-c',
            f'. "{script}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _transvisor; printf "%s\\n" "${{COMPREPLY[@]}}"',
            'bash',
            'transvisor',
            *words,
        ).split()

    check('run' in complete('r'), complete('r'))
    check(complete('run', '--kern') == ['--kernel'], complete('run', '--kern'))
    check(complete('run', '--engine', 'i') == ['interp'], complete('run', '--engine', 'i'))
    check('n270' in complete('run', '--cpu', ''), complete('run', '--cpu', ''))
    told = re.findall(r'^  --([\w-]+)', run(t.path('bin/transvisor'), 'run', '--help-all'), re.M)
    got = complete('run', '--')
    check(len(told) > 10 and all('--' + name in got for name in told), f'{set(told)} {got}')


def package(source, folder):
    for tool in ('dpkg-buildpackage', 'dh', 'lintian'):
        if not shutil.which(tool):
            print(f'install.py: no {tool}')
            return SKIPPED
    copy = os.path.join(folder, 'transvisor')
    files = run('git', '-C', source, 'ls-files', '-z').split('\0')
    for name in filter(None, files):
        os.makedirs(os.path.dirname(os.path.join(copy, name)), exist_ok=True)
        shutil.copy2(os.path.join(source, name), os.path.join(copy, name))
    run('dpkg-buildpackage', '-b', '-us', '-uc', cwd=copy)
    changes = glob.glob(os.path.join(folder, '*.changes'))[0]
    print(run('lintian', '--allow-root', '--fail-on', 'error', changes))
    return 0


CASES = [
    everything_is_there,
    the_libraries_export_the_header_and_nothing_else,
    programs_are_built_by_pkg_config_alone,
    the_examples_are_built_by_pkg_config_alone_and_work,
    the_example_in_python_works_with_the_shared_library,
    the_program_tells_its_version,
    the_version_is_that_of_the_last_tag,
    one_version_is_in_all_places,
    the_manual_pages_are_sound,
    every_option_is_completed,
]


def main():
    words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if words[0] == '--package':
            return package(words[1], folder)
        tree = Tree(words[0], words[1], folder)
        failed = 0
        for case in CASES:
            try:
                case(tree)
            except Failure as why:
                failed += 1
                print(f'FAIL: {case.__name__}: {why}')
    print(f'install.py: {len(CASES)} cases, {failed} failures')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
