#!/usr/bin/env python3
"""Linux's own tests of x86 (tools/testing/selftests/x86) in a Debian guest: 32-bit programs that know what a processor
does with system calls, LDT segments, signal frames, single steps, I/O permissions and x87 code.

  selftests.py --transvisor FILE [--work DIRECTORY] bt|direct|interp
  selftests.py --list --long yes|no

They are built from Debian's linux-source-6.1, which is fetched. Each has to end as it does on a processor: status 0,
and nothing skipped but what the guest's kernel or its one processor lacks. Status 77: what it needs is not here.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

from fetched import fetched

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINES = {'bt': ['--direct', 'off'], 'direct': ['--direct', 'always'], 'interp': ['--engine', 'interp']}
PROGRAMS = {  # name: what it is built from beside its own file, and how it is linked
    name: ()
    for name in (
        'entry_from_vm86 fsgsbase_restore ioperm iopl ldt_gdt mov_ss_trap sigaltstack sigreturn sigtrap_loop '
        'single_step_syscall syscall_arg_fault syscall_nt sysret_ss_attrs test_FCMOV test_FCOMI test_FISTTP '
        'test_mremap_vdso test_vsyscall unwind_vdso vdso_restorer'
    ).split()
}
PROGRAMS['check_initial_reg_state'] = ('-Wl,-ereal_start', '-static')
PROGRAMS['ptrace_syscall'] = ('raw_syscall_helper_32.S',)
PROGRAMS['test_syscall_vdso'] = ('thunks_32.S',)
SKIPPED = {  # program: what it may skip, and does on a processor under this kernel
    'entry_from_vm86': 'vm86 not supported',  # Debian's kernels have no vm86()
    'ldt_gdt': 'Cannot set affinity to CPU 1',
    'sigreturn': 'Code segment unavailable for 64-bit CS',
    'syscall_arg_fault': 'Illegal instruction',  # SYSCALL, which the n270 has not
    'test_vsyscall': 'failed to force CPU 1',
}


def build(sources, tree):
    """The programs into TREE/selftests, and into TREE/lib the libraries that they are linked with here."""
    folder = os.path.join(sources, 'tools', 'testing', 'selftests', 'x86')
    os.makedirs(os.path.join(tree, 'selftests'))
    os.makedirs(os.path.join(tree, 'lib'))
    libraries = set()
    for name, more in PROGRAMS.items():
        program = os.path.join(tree, 'selftests', name)
        words = [word if word.startswith('-') else os.path.join(folder, word) for word in more]
        command = ['gcc', '-m32', '-O2', '-std=gnu99', '-pthread', '-no-pie', '-w', '-DCAN_BUILD_32', '-o', program]
        subprocess.run(command + [os.path.join(folder, f'{name}.c')] + words + ['-lrt', '-ldl', '-lm'], check=True)
        headers = subprocess.run(['readelf', '-ld', program], stdout=subprocess.PIPE, text=True, check=True).stdout
        libraries.update(re.findall(r'\[(lib[^]]*\.so[^]]*)\]', headers))
        for loader in re.findall(r'interpreter: (\S+)\]', headers):
            shutil.copy(loader, os.path.join(tree, 'lib'))
    for library in libraries:
        command = ['gcc', '-m32', f'-print-file-name={library}']
        path = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        shutil.copy(path, os.path.join(tree, 'lib'))


def judge(said):
    """What is wrong in a guest's output, a line each."""
    ends = dict(re.findall(r'^SELFTEST (\S+) (\d+)$', said, re.M))
    wrong = [f'{name}: never ended' for name in PROGRAMS if name not in ends]
    wrong += [f'{name}: status {status}' for name, status in ends.items() if status != '0']
    for name, line in re.findall(r'^(\w+)\| (.*\[(?:FAIL|SKIP)\].*)$', said, re.M):
        if '[FAIL]' in line or SKIPPED.get(name, line + '.') not in line:
            wrong.append(f'{name}: {line}')
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work', default='.')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', choices=('yes', 'no'))
    parser.add_argument('test', nargs='?', choices=ENGINES)
    args = parser.parse_args()
    if args.list:
        print('\n'.join(ENGINES if args.long == 'yes' else ()))
        return 0
    paths = fetched('linux-source-6.1 is not to be had', '686', 'busybox', 'selftests')
    kernel, sources = paths['KERNEL_686'], paths['SELFTESTS']
    os.makedirs(args.work, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        tree, initrd = os.path.join(work, 'tree'), os.path.join(work, 'selftests.cpio')
        build(sources, tree)
        subprocess.run([os.path.join(HERE, 'mkinitramfs.sh'), '--tree', tree, 'selftests', initrd], check=True)
        command = [args.transvisor, 'run', '--kernel', kernel, '--initrd', initrd, '--memory', '256M', '--no-reboot']
        command += ['--serial', 'stdio', '--append', 'console=ttyS0 panic=-1 loglevel=3', '--timeout', '900']
        done = subprocess.run(
            command + ENGINES[args.test], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
        )
    said = done.stdout.decode(errors='replace').replace('\r', '')
    wrong = judge(said)
    if done.returncode or wrong:
        print(said)
        print(f'status {done.returncode}', *wrong, sep='\n')
        return 1
    print(f'{len(PROGRAMS)} programs')
    return 0


if __name__ == '__main__':
    sys.exit(main())
