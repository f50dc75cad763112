#!/usr/bin/env python3
"""The tests whose way depends on the host, on a host that runs 32-bit code: one boot of the nested host (run.py) runs a
suite.

  suite.py --build DIRECTORY SUITE...        SUITE: host, unit, diff, insn, direct, kvm, boot, ..

Each test of a suite gets a line with its verdict, and if it failed, its output. The exit status is 0 if all passed, 1
if one did not. Whatever this host is, they run: the other kind of host is without32.py's.
"""
import argparse
import os
import subprocess
import sys

import run

sys.path.insert(0, os.path.join(run.HERE, '..', 'insn'))
import run_insn

DIFF_CASES = 1000
DIRECT_CASES = 300  # each is some stops of a process, which are dear there
OPTIONS = {'evict': ' --cache-size 1M', 'strict': ' --tlb strict', 'speed': ' --speed 20'}  # of guests about these

WORDS = {'model': 'model=n270', 'speed': 'mhz=20'}  # which processor it is to find


class Test:
    """command is for the nested host's shell. Passed means: that status, and every line that starts with FAIL is one
    that QEMU accounts for, and says is in the output."""

    def __init__(self, name, command, files, status=0, says='', known='', timeout=200):
        self.name, self.command, self.files, self.status = name, command, files, status
        self.says, self.known, self.timeout = says, known, timeout


def host_tests(build):
    files = [f'{build}/tests/nested/probe']
    return [Test('probe', 'probe', files, says=', 0 not as expected'), Test('check', 'probe --check', files)]


def unit_tests(build):
    """Those that run translated code, or see what the host's kernel gives a process."""
    names = [
        'test_dispatch',
        'test_recover',
        'test_far',
        'test_seg',
        'test_mmu',
        'test_physmem',
        'test_chardev',
        'test_time',
        'test_dx_process',
    ]
    return [Test(name, f'CK_TIMEOUT_MULTIPLIER=10 {name}', [f'{build}/tests/{name}']) for name in names]


def diff_tests(build):
    """The native judge. What it is not asked, because it is QEMU's, is in tests/diff/gen.c."""
    folder = os.path.join(build, 'tests', 'diff')
    there = [f'{folder}/{name}' for name in ('native_child', 'native_probe')]
    runs = {
        'interp-user': '--engine interp',
        'bt-user': '--engine bt',
        'direct': '--engine direct',
        'bt-kernel': '--engine bt --kernel',
        'bt-kernel-soft': '--engine bt --kernel --no-windows',
    }

    def test(name, arguments):
        count = DIRECT_CASES if name == 'direct' else DIFF_CASES
        return Test(
            name,
            f'diff_test {arguments} --judge native --native /test --seed 1 --count {count}',
            [f'{folder}/diff_test'] + there,
            says=f'seed 1: {count} cases, 0 failed',
        )

    return [test(name, arguments) for name, arguments in runs.items()]


def insn_tests(build):
    """Under the translator, which uses windows there. Guests whose sequel of events is a matter of time run in
    QEMU's."""
    folder = os.path.join(build, 'tests', 'insn')
    tests = []
    for name in sorted(name[:-4] for name in os.listdir(folder) if name.endswith('.elf')):
        if name == 'ferr':
            continue  # QEMU's processor reports a pending x87 exception at FWAIT alone
        words = 'tcg ' + WORDS.get(name, '')
        command = (
            f'transvisor run --kernel {name}.elf --append "{words}" --memory 64M --engine bt'
            + ' --serial stdio --debug-exit 0xf4'
            + OPTIONS.get(name, '')
        )
        test = Test(name, command, [f'{build}/transvisor', f'{folder}/{name}.elf'], status=33, says=f'{name}: PASS, ')
        if name == 'exceptions':
            test.status, test.says, test.known = 35, 'exceptions: FAILED, 3 of ', 'floating-point errors'  # no #XM
        tests.append(test)
    return tests


def boot_tests(build):
    """A whole guest: Debian's kernel up to init and down again."""
    guests = os.path.join(run.HERE, '..', 'guests')
    archive = os.path.join(build, 'tests', 'nested', 'boot.cpio')
    kernel = run.fetched('686', 'busybox', 'busybox-host')['KERNEL_686']
    subprocess.run(['sh', os.path.join(guests, 'mkinitramfs.sh'), 'boot', archive], check=True)
    command = (
        'transvisor run --kernel vmlinuz --initrd boot.cpio --append "console=ttyS0 panic=-1 quiet"'
        ' --memory 256M --engine bt'
    )
    return [
        Test(
            '686-boot-bt',
            command,
            [f'{build}/transvisor', f'{kernel}:/test/vmlinuz', archive],
            says='GUEST-INIT-REACHED',
            timeout=800,
        )
    ]


def host_test(build, names, user=None):
    """tests/direct's program, with what it needs."""
    command = f'host_test --transvisor /test/transvisor --guests /test --guest-words tcg --late-us 20000 {names}'
    if user:
        command = f'su -s /bin/sh {user} -c "PATH=/test:/bin {command}"'
    files = [f'{build}/tests/direct/host_test', f'{build}/transvisor']
    files += [os.path.join(build, 'tests', 'insn', f'{name}.elf') for name in ('restless', 'hostile')]
    return Test(f'{names}, as {user or "root"}', command, files, timeout=600)


def direct_guest(build, name):
    """User code of a guest on the processor itself (QEMU's, which the guest is told)."""
    counted = ' && '.join(
        f"[ $(sed -n 's/.*\"direct_{key}\": //p' stats | tr -d ,) -ge {n} ]" for key, n in run_insn.DIRECT[name].items()
    )
    command = (
        f'cd /tmp; transvisor run --kernel /test/{name}.elf --append tcg --memory 64M --direct always'
        f'{OPTIONS.get(name, "")} --debug-exit 0xf4 --stats stats; '
        f'status=$?; {counted} || {{ grep direct stats; status=99; }}; exit $status'
    )
    files = [f'{build}/transvisor', f'{build}/tests/insn/{name}.elf']
    return Test(name, command, files, status=33, says=f'{name}: PASS, ', timeout=600)


def direct_tests(build):
    # "hostile" is what "trace" runs; "strict" takes minutes.
    names = [name for name in run_insn.DIRECT if name not in ('hostile', 'strict')]
    return (
        [direct_guest(build, name) for name in names]
        + [host_test(build, 'trace'), host_test(build, 'proc')]
        + [host_test(build, name, run.USER) for name in ('proc', 'ends', 'signals')]
    )


def direct_host_tests(build):
    """What else the host sees of direct execution: the same as root, whom nothing keeps from much of what a user may
    not; and what takes time."""
    as_root = [host_test(build, name) for name in ('ends', 'signals', 'lateness')]
    return as_root + [host_test(build, 'lateness', run.USER), direct_guest(build, 'strict')]


KVM_MODULES = ['irqbypass', 'kvm', 'rng-core', 'ccp', 'kvm-amd']  # rng-core: where ccp needs it
# What QEMU 7.2's emulated SVM carries: it checks no segment limits, and sets bit 5 of PAE's page-directory-pointer
# entries, which KVM then refuses; task switches, and x87 pointers, are KVM's and the host's own.
# irqwin is told so ("svm"): VMRUN does not load the interrupt shadow that an exit has stored.
KVM_GUESTS = ['basic', 'adbits', 'smc', 'nmi', 'irqwin']


def kvm_module_test():
    """KVM's modules, for the tests after it."""
    folder = os.path.join(run.fetched('amd64', 'modules-amd64')['MODULES_AMD64'], 'lib', 'm')
    there = [name for name in KVM_MODULES if os.path.exists(f'{folder}/{name}.ko')]
    return Test(
        'modules',
        ' && '.join(f'insmod {name}.ko' for name in there) + ' && ls /dev/kvm',
        [f'{folder}/{name}.ko' for name in there],
        says='/dev/kvm',
    )


def kvm_tests(build):
    """--engine kvm, on a processor with SVM: by itself, against the interpreter, and whole guests."""
    program = f'{build}/transvisor'

    def guest(name):
        how = '--memory 64M --engine kvm --serial stdio --debug-exit 0xf4'
        command = f'transvisor run --kernel {name}.elf --append "tcg svm" {how}'
        return Test(name, command, [program, f'{build}/tests/insn/{name}.elf'], status=33, says=f'{name}: PASS, ')

    unit = Test('test_kvm', 'CK_TIMEOUT_MULTIPLIER=10 test_kvm', [f'{build}/tests/test_kvm'], says='100%: Checks: 9,')
    check = Test('check', 'transvisor check', [program], says='--engine kvm can be had')
    return [kvm_module_test(), check, unit] + [guest(name) for name in KVM_GUESTS]


def kvm_boot_tests(build):
    """Debian's kernel to a shell under KVM, and under load; saved so, it goes on under the translator, and from there
    under KVM again. Whatever was computed meanwhile is right: each sum of the load is the same."""
    guests = os.path.join(run.HERE, '..', 'guests')
    archive = os.path.join(build, 'tests', 'nested', 'shell.cpio')
    kernel = run.fetched('686', 'busybox', 'busybox-host')['KERNEL_686']
    subprocess.run(['sh', os.path.join(guests, 'mkinitramfs.sh'), 'shell', archive], check=True)
    boot = '--kernel /test/vmlinuz --initrd /test/shell.cpio --append "console=ttyS0 panic=-1 quiet" --memory 128M'
    load = '[ -e /tmp/sums ] || while :; do sha256sum /bin/busybox; done > /tmp/sums &'
    # leg NUMBER OPTIONS: starts the load if there is none, asks for a sum and how many kinds of sums the load has made,
    # and saves once both have been said. What is typed before there is a shell is lost, so it is typed again.
    command = f"""cd /tmp
        leg() {{
            n=$1; shift; mkfifo in$n; : > out$n
            transvisor run "$@" --serial stdio --save-at-exit saved$n < in$n > out$n & vm=$!
            exec 3> in$n
            for i in $(seq 1000); do
                grep -q "SUM $((n + 40)) KINDS 1" out$n && break
                [ -d /proc/$vm ] || break
                [ $((i % 20)) = 1 ] &&
                    echo '{load}' "echo SUM \\$(($n + 40)) KINDS \\$(sort -u /tmp/sums | wc -l)" >&3
                sleep 1
            done
            kill $vm; wait $vm; exec 3>&-
            echo "leg $n: at $(cut -d ' ' -f 1 /proc/uptime) s"; tail -n 3 out$n
            grep -q "SUM $((n + 40)) KINDS 1" out$n
        }}
        leg 1 {boot} --engine kvm && leg 2 --load saved1 --engine bt && leg 3 --load saved2 --engine kvm &&
            echo all three"""
    files = [f'{build}/transvisor', f'{kernel}:/test/vmlinuz', archive]
    return [kvm_module_test(), Test('686-shell', command, files, says='all three', timeout=1700)]


AS_ROOT = {'direct', 'direct-host', 'kvm', 'kvm-boot'}
SUITES = {
    'host': host_tests,
    'unit': unit_tests,
    'diff': diff_tests,
    'insn': insn_tests,
    'direct': direct_tests,
    'direct-host': direct_host_tests,
    'boot': boot_tests,
    'kvm': kvm_tests,
    'kvm-boot': kvm_boot_tests,
}

SCRIPT_HEAD = '''
failed=0
now() { cut -d ' ' -f 1 /proc/uptime; }
# judge NAME STATUS TEXT KNOWN TIMEOUT COMMAND
judge() {
    begin=$(now)
    timeout -s KILL "$5" sh -c "$6" >/tmp/output 2>&1
    status=$?
    took="$(now) $begin"
    if [ $status -eq "$2" ] && { [ -z "$3" ] || grep -qF -e "$3" /tmp/output; } &&
        ! grep '^FAIL' /tmp/output | grep -qvF -e "${4:-FAIL-none}"; then
        echo "$took" | awk -v name="$1" '{ printf "ok      %-20s %.1f s\\n", name, $1 - $2 }'
    else
        failed=$((failed + 1))
        echo "FAILED  $1: status $status, expected $2 and \\"$3\\""
        cat /tmp/output
    fi
}
'''


def script(tests):
    quoted = run.shlex.quote
    lines = [
        ' '.join(
            ['judge', quoted(t.name), str(t.status), quoted(t.says), quoted(t.known), str(t.timeout), quoted(t.command)]
        )
        for t in tests
    ]
    return SCRIPT_HEAD + '\n'.join(lines) + f'\necho "{len(tests)} tests, $failed failed"\n[ $failed -eq 0 ]\n'


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('\n\n')[1].strip())
    parser.add_argument('--build', required=True)
    parser.add_argument('--verbose', action='store_true')
    parser.add_argument('suite', nargs='+', choices=SUITES)
    options = parser.parse_args()
    build = os.path.abspath(options.build)
    nested = run.parser().parse_args(
        ['--timeout', '1800']
        + (['--icount'] if 'insn' in options.suite else [])
        + (['--root'] if AS_ROOT & set(options.suite) else [])
        + (['--verbose'] if options.verbose else [])
    )
    try:
        tests = [test for suite in options.suite for test in SUITES[suite](build)]
        files = sorted({word for test in tests for word in test.files})
        return run.run(nested, [run.placed(word) for word in files], ['sh', '-c', script(tests)])
    except (run.Failure, OSError, subprocess.CalledProcessError) as why:
        print(f'suite.py: {why}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
