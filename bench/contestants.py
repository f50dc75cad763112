"""The contestants: the host itself, QEMU, and transvisor under each engine, or with whatever options. Each runs what it
is given and returns a Run; `missing` says why one cannot take part here."""
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from typing import NamedTuple

# A guest that loses ticks on a busy host concludes that its TSC is at fault, and measures with jiffies from then on.
APPEND = 'console=ttyS0 quiet tsc=reliable'


class Run:
    """One execution of a plan: what it printed, when, and what the process weighed at the end of its work. on_line(run,
    line, process) is told of each line."""

    def __init__(self, command, last_marker, timeout, environment=None, good_status=0, on_line=None):
        self.values = {}  # name -> (value, unit), as the contestant itself saw it
        self.within = {}  # name -> least, quartile, median, quartile, most, of those that have a distribution
        self.wall = {}  # name -> ms, as the host saw it
        self.share = {}  # name -> how much of a processor it had meanwhile
        self.failed = []
        self.boot_ms = None
        self.first_ms = None  # of output
        self.total_ms = None  # to the end of the process
        self.system_s = None  # that the host's kernel has worked for it
        self.rss_anon_mib = None
        self.output = []
        self.error = None
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        began = time.monotonic()
        started = {'boot': (began, 0)}
        killer = threading.Timer(timeout, kill_session, [process])
        killer.start()
        finished = False
        try:
            for raw in process.stdout:
                now = time.monotonic()
                line = raw.decode('latin-1').strip()
                self.output.append(line)
                if self.first_ms is None:
                    self.first_ms = (now - began) * 1e3
                if on_line:
                    on_line(self, line, process)
                if 'GUEST-INIT-REACHED' in line and self.boot_ms is None:
                    self.boot_ms = (now - began) * 1e3
                    self.ended('boot', started, process.pid)
                elif line.startswith('BENCH-START '):
                    started[line.split()[1]] = now, processor_seconds(process.pid)
                elif line.startswith('BENCH-FAILED'):
                    self.failed.append(line)
                elif match := re.match(r'BENCH (\S+) ([0-9.]+) (\S+)((?: [0-9.]+){5})?$', line):
                    name, value, unit, five = match.groups()
                    self.values[name] = (float(value), unit)
                    if five:
                        self.within[name] = [float(n) for n in five.split()]
                    self.ended(name, started, process.pid)
                if last_marker in line:
                    finished = True
                    self.rss_anon_mib = rss_anon_mib(process.pid)
                    killer.cancel()
                    killer = threading.Timer(20, kill_session, [process])  # from here on only a power-off is awaited
                    killer.start()
            _, status, usage = os.wait4(process.pid, 0)
            status = process.returncode = os.waitstatus_to_exitcode(status)
            self.system_s = usage.ru_stime
            self.total_ms = (time.monotonic() - began) * 1e3
        finally:
            killer.cancel()
            if process.poll() is None:
                kill_session(process)
                process.wait()
        if not finished:
            self.error = f'ended with status {status} or timed out before "{last_marker}"; last lines: ' + ' | '.join(
                self.output[-4:]
            )
        elif status != good_status:
            self.error = f'power-off ended with status {status}'

    def ended(self, name, started, session):
        if name in started:
            begin, had = started[name]
            wall = time.monotonic() - begin
            self.wall[name] = wall * 1e3
            self.share[name] = (processor_seconds(session) - had) / wall


def kill_session(process):
    """With what it has started: a program that a shell waits for would go on, and hold the pipe open."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def processor_seconds(session):
    """What the processes of a session have used so far, with those that have ended and been waited for. One that is
    waited for between the looks at its parent and at itself is missed, so the greater of two tries counts."""
    return max(one_count(session), one_count(session))


def one_count(session):
    ticks = 0
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/stat') as stat:
                fields = stat.read().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))  # utime, stime, and the children's
    return ticks / os.sysconf('SC_CLK_TCK')


def rss_anon_mib(pid):
    """Anonymous memory: guest RAM and code cache are shared mappings and not in it."""
    try:
        with open(f'/proc/{pid}/status') as status:
            return int(re.search(r'RssAnon:\s+(\d+)', status.read()).group(1)) / 1024
    except (OSError, AttributeError):
        return None


def flat_stats(path):
    """A --stats file's counters by name, whatever they are nested in; empty where there is none."""
    try:
        with open(path) as stats:
            tree = json.load(stats)
    except (OSError, ValueError):
        return {}
    flat = {}

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else ():
            flat.setdefault(key, value)
            walk(value)

    walk(tree)
    return flat


# What the translator leaves to the interpreter ("callouts"), by instruction; all others are there for their memory: a
# device's, or one that needs a page walk.
CALLOUTS = {
    'ports': {'IN', 'OUT', 'INS', 'OUTS'},
    'system registers': {
        'MOV_TO_CR', 'MOV_FROM_CR', 'MOV_TO_DR', 'MOV_FROM_DR', 'LMSW', 'CLTS', 'INVLPG', 'LGDT', 'LIDT', 'LLDT', 'LTR',
        'WRMSR', 'RDMSR', 'RDTSC', 'CPUID', 'CLI', 'STI', 'PUSHF', 'POPF', 'HLT',
    },
    'far transfers': {
        'JMPF', 'CALLF', 'RETF', 'IRET', 'INT', 'INT3', 'INTO', 'SYSENTER', 'SYSEXIT', 'MOV_TO_SREG', 'POP_SREG', 'LDS',
        'LES', 'LFS', 'LGS', 'LSS',
    },
}
MEMORY = 'memory'


def callouts(stats):
    """Cycles by kind."""
    out = {kind: 0 for kind in (*CALLOUTS, MEMORY)}
    for name, cycles in stats.get('emulated_cycles_by_mnemonic', {}).items():
        out[next((kind for kind, names in CALLOUTS.items() if name in names), MEMORY)] += cycles
    return out


def components(stats, seconds, system_s):
    """Where the time of a run of so many seconds went, by its --stats: {kind: seconds}. What is kernel's or user's is
    found by sampling, and all that is not guest code has its share in both."""
    run = stats.get('run_cycles')
    if not run:
        return {}
    unit = seconds / run
    parts = {f'callouts, {kind}': cycles * unit for kind, cycles in callouts(stats).items()}
    parts['translator'] = sum(stats.get(f'{what}_cycles', 0) for what in ('xl', 'template', 'clone')) * unit
    parts['devices'] = stats.get('dev_cycles', 0) * unit
    parts['host kernel'] = system_s or 0
    kernel, user = (stats.get(f'{who}_cycles', 0) * unit for who in ('kernel', 'user'))
    direct = stats.get('direct_cycles', 0) * unit
    guest = max(1e-9, kernel + user - direct)
    left = max(0, 1 - sum(parts.values()) / guest)
    return {
        'kernel code': kernel * left,
        'user code': max(0, user - direct) * left,
        'user code, direct': direct,
        **parts,
        'idle': stats.get('idle_cycles', 0) * unit,
    }


# A Multiboot guest of bench/kernel leaves through the debug-exit port: 10h, all is well, becomes this status.
DEBUG_EXIT, KERNEL_DONE, KERNEL_MARKER = '0xf4', 0x10 << 1 | 1, ': PASS'

# A Multiboot kernel that writes 10h to that port, and halts.
SMALLEST = (
    struct.pack('<8I', 0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) & 0xFFFFFFFF, 0x100000, 0x100000, 0, 0, 0x100020)
    + b'\xb0\x10\xe6\xf4\xf4'
)


class Extras(NamedTuple):
    """What a machine has beside processor and memory."""

    disks: dict = {}  # by bus (virtio, ide): the image
    port: int = None  # of the host's loopback, which is the guest's port 80


class Host:
    """The host's own processor and kernel. A plan for Debian's programs runs in their root, with a tmpfs on /tmp as in
    a guest:
    that takes a mount namespace, which an ordinary user gets with a user namespace where the host allows one."""

    ENTER = '''set -e; root=$1; files=$2; PATH=$PATH:/usr/sbin:/sbin
        mount -t tmpfs tmpfs "$root/tmp"; mount --rbind /proc "$root/proc"; mount --rbind /dev "$root/dev"
        mkdir "$root/tmp/bin"; cp "$files"/* "$root/tmp/bin/"
        exec chroot "$root" /bin/busybox env PATH=/tmp/bin:/usr/bin:/bin sh -c ". /tmp/bin/plan; echo BENCH-DONE"'''

    slow = False

    def __init__(self, name, timeout):
        self.name, self.timeout, self.missing = name, timeout, None
        self.bits = 64 if name == 'native64' else 32

    def conditions(self):
        return {'programs': f'{self.bits} bits'}

    def run(self, directory, root, on_line=None):
        if root:
            command = ['unshare', '-m' if os.geteuid() == 0 else '-rm', 'sh', '-c', self.ENTER, 'sh', root, directory]
            return Run(command, 'BENCH-DONE', self.timeout)
        environment = {**os.environ, 'PATH': f'{directory}:{os.environ["PATH"]}'}
        command = ['sh', '-c', '. "$0/plan"; echo BENCH-DONE', directory]
        return Run(command, 'BENCH-DONE', self.timeout, environment, on_line=on_line)


class Qemu:
    """qemu-system-i386 with one accelerator."""

    slow = False

    def __init__(self, name, kernel, cpu, timeout):
        self.name, self.kernel, self.cpu, self.timeout = name, kernel, cpu, timeout
        self.accel = name.partition('-')[2]
        there = shutil.which('qemu-system-i386')
        self.missing = None if there else 'there is no qemu-system-i386 (Debian: qemu-system-x86)'

    def conditions(self):
        return {'processor': self.cpu, 'accelerator': self.accel}

    def command(self, memory):
        return ['qemu-system-i386', '-accel', self.accel, '-m', memory, '-nographic', '-no-reboot', '-cpu', self.cpu]

    def run(self, image, memory, marker, *, extras=Extras(), on_line=None):
        linux = ['-kernel', self.kernel, '-initrd', image, '-append', APPEND]
        for bus, path in extras.disks.items():
            linux += ['-drive', f'file={path},format=raw,if={bus}']
        if extras.port:
            linux += ['-netdev', f'user,id=net,hostfwd=tcp:127.0.0.1:{extras.port}-:80']
            linux += ['-device', 'virtio-net-pci,netdev=net']
        return Run(self.command(memory) + linux, marker, self.timeout, on_line=on_line)

    def run_kernel(self, kernel, memory):
        leave = ['-device', f'isa-debug-exit,iobase={DEBUG_EXIT},iosize=4']
        return Run(
            [*self.command(memory), '-kernel', kernel, *leave], KERNEL_MARKER, self.timeout, good_status=KERNEL_DONE
        )


class Transvisor:
    """The program with these arguments of `run`. `stats` are of the last run."""

    def __init__(self, name, arguments, program, kernel, stats_file, timeout):
        self.name, self.arguments, self.program = name, shlex.split(arguments), program
        self.kernel, self.stats_file, self.timeout = kernel, stats_file, timeout
        self.stats, self.slow = {}, 'interp' in self.arguments
        self.missing = self.why_not()

    def why_not(self):
        """The program's own line about why these arguments cannot be had here: a guest that ends at once is tried."""
        with tempfile.NamedTemporaryFile() as guest:
            guest.write(SMALLEST)
            guest.flush()
            command = [self.program, 'run', '--kernel', guest.name, '--memory', '16M', '--debug-exit', DEBUG_EXIT]
            try:
                done = subprocess.run([*command, *self.arguments], capture_output=True, timeout=20, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
        if done.returncode == KERNEL_DONE:
            return None
        lines = done.stderr.decode('utf-8', 'replace').strip().splitlines()
        return lines[0].removeprefix('transvisor: ') if lines else f'ends with status {done.returncode}'

    def conditions(self):
        return {'arguments': ' '.join(self.arguments)}

    def run(self, image, memory, marker, *more, extras=Extras(), on_line=None):
        linux = ['--kernel', self.kernel, '--initrd', image, '--append', APPEND]
        command = [self.program, 'run', *linux, '--memory', memory, '--serial', 'stdio', '--stats', self.stats_file]
        for bus, path in extras.disks.items():
            command += ['--disk', f'{path},format=raw' + (',bus=virtio' if bus == 'virtio' else '')]
        if extras.port:
            command += ['--net', f'user,hostfwd=tcp:127.0.0.1:{extras.port}-:80']
        return self.finish([*command, *more], marker, on_line)

    def go_on(self, saved, marker):
        """From where a machine was saved."""
        return self.finish(
            [self.program, 'run', '--load', saved, '--serial', 'stdio', '--stats', self.stats_file], marker, None
        )

    def finish(self, command, marker, on_line):
        run = Run([*command, *self.arguments], marker, self.timeout, on_line=on_line)
        self.stats = flat_stats(self.stats_file)
        return run

    def run_kernel(self, kernel, memory):
        return Run(
            [self.program, 'run', '--kernel', kernel, '--memory', memory, '--serial', 'stdio']
            + ['--debug-exit', DEBUG_EXIT, '--stats', self.stats_file, *self.arguments],
            KERNEL_MARKER,
            self.timeout,
            good_status=KERNEL_DONE,
        )

    def has_option(self, option):
        command = [self.program, 'run', '--help-all']
        text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
        return re.search(rf'^\s+{option}\s', text, re.M) is not None


# Of the names that --against takes, those that are transvisor: the arguments that make them.
TRANSVISORS = {
    'bt': '--engine bt',
    'bt-nodirect': '--engine bt --direct off',
    'kvm': '--engine kvm',
    'interp': '--engine interp',
}
NAMES = ['native', 'kvm', 'qemu-tcg', 'qemu-kvm', 'interp', 'bt-nodirect', 'v86']
# Of these, who cannot take part anywhere yet, and why.
NEVER = {'v86': 'nothing here drives it: it is a library for browsers and Node'}
