#!/usr/bin/env python3
"""The benchmark: the same static i386 program on the host, in QEMU (TCG) and in transvisor, interleaved.

One line per number:
  name engine=E transvisor=V qemu=V native=V ratio_qemu=R ratio_native=R target=T met|missed
V is the median over the rounds in the unit the name ends with (_ms, _ns, ...); `-` is not measured. Ratios are of medians of
one run; figures of different runs do not compare. A guest measures itself by its own clock; where that disagrees with
the host's about a measurement of a known beginning and end, a line says `clock-warning`.

  bench/run.py                               native, QEMU and transvisor's bt engine, 3 rounds, everything
  bench/run.py --only sha256,fork,boot       some of it       (--list prints the names)
  bench/run.py --no-transvisor               the peer's baseline
"""
import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
GUESTS = os.path.join(HERE, '..', 'tests', 'guests')
CACHE = os.environ.get('TRANSVISOR_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'transvisor')

COMPUTE = ['sha256', 'matmul', 'qsort', 'fib', 'tree', 'indirect', 'memcpy', 'bytecode']
SYSTEM = ['getppid_sysenter', 'getppid_int80', 'pagefault', 'mprotect', 'fork', 'exec', 'pipe', 'signal', 'ctxsw']
OTHER = ['boot']

# The first end's aims, without direct execution: (what is compared, the most it may be).
TARGETS = {
    'boot': ('ratio_qemu', 0.4),
    'getppid_sysenter': ('ns', 150), 'getppid_int80': ('ns', 150), 'pagefault': ('ns', 3000), 'fork': ('ns', 400000),
    'exec': ('ns', 700000), 'pipe': ('ns', 12000),
    'compute_geomean': ('ratio_native', 2.0),
    'xl_cycles_per_insn': ('value', 2300), 'vmm_overhead': ('value', 32),
    **{name: ('ratio_qemu', 1.0) for name in COMPUTE},
}
INTERP_TARGETS = {'boot': ('ratio_qemu', 12)}


def die(text):
    print(f'run.py: {text}', file=sys.stderr)
    sys.exit(1)


class Guest:
    """One run of a guest: what it printed, when, and what the process weighed at the end of its work."""

    def __init__(self, command, last_marker, timeout):
        self.values = {}          # name -> (value, unit), as the guest saw it
        self.wall = {}            # name -> ms, as the host saw it
        self.failed = []
        self.boot_ms = None
        self.rss_anon_mib = None
        self.output = []
        self.error = None
        started, began = {}, time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        killer = threading.Timer(timeout, process.kill)
        killer.start()
        finished = False
        try:
            for raw in process.stdout:
                now = time.monotonic()
                line = raw.decode('latin-1').strip()
                self.output.append(line)
                if 'GUEST-INIT-REACHED' in line and self.boot_ms is None:
                    self.boot_ms = (now - began) * 1e3
                elif line.startswith('BENCH-START '):
                    started[line.split()[1]] = now
                elif line.startswith('BENCH-FAILED'):
                    self.failed.append(line)
                elif match := re.match(r'BENCH (\S+) ([0-9.]+) (\S+)$', line):
                    name, value, unit = match.groups()
                    self.values[name] = (float(value), unit)
                    self.wall[name] = (now - started.get(name, now)) * 1e3
                if last_marker in line:
                    finished = True
                    self.rss_anon_mib = rss_anon_mib(process.pid)
                    killer.cancel()
                    killer = threading.Timer(20, process.kill)       # from here on only a power-off is awaited
                    killer.start()
            status = process.wait()
        finally:
            killer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        if not finished:
            self.error = f'ended with status {status} or timed out before "{last_marker}"; last lines: ' + \
                ' | '.join(self.output[-4:])
        elif status != 0:
            self.error = f'power-off ended with status {status}'


def rss_anon_mib(pid):
    """Anonymous memory: guest RAM and code cache are shared mappings and not in it."""
    try:
        with open(f'/proc/{pid}/status') as status:
            return int(re.search(r'RssAnon:\s+(\d+)', status.read()).group(1)) / 1024
    except (OSError, AttributeError):
        return None


def build_program():
    """Compiles bench/guest once into the cache; -O2 for i686, static, as a guest's own programs are."""
    sources = sorted(os.path.join(HERE, 'guest', f) for f in os.listdir(os.path.join(HERE, 'guest')))
    directory = os.path.join(CACHE, 'bench')
    os.makedirs(directory, exist_ok=True)
    program = os.path.join(directory, 'bench')
    if not os.path.exists(program) or any(os.path.getmtime(f) > os.path.getmtime(program) for f in sources):
        c_files = [f for f in sources if f.endswith('.c')]
        subprocess.run(['gcc', '-m32', '-O2', '-static', '-Wall', '-Wextra', '-o', program + '.new'] + c_files, check=True)
        os.rename(program + '.new', program)
    return program


def kernel_paths():
    text = subprocess.run([os.path.join(GUESTS, 'fetch.sh')], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(re.findall(r"^(\w+)='(.*)'$", text, re.M))


def pack(variant, output, *more):
    subprocess.run([os.path.join(GUESTS, 'mkinitramfs.sh'), *more, variant, output], check=True)


def stats_figures(path):
    """xl cycles per guest instruction, from a --stats file; None where it does not say."""
    try:
        with open(path) as stats:
            tree = json.load(stats)
    except (OSError, ValueError):
        return None
    flat = {}

    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                flat.setdefault(key, value)
                walk(value)
    walk(tree)
    insns, cycles = flat.get('guest_insns'), flat.get('xl_cycles')
    return cycles / insns if insns and isinstance(cycles, (int, float)) else None


class Report:
    def __init__(self):
        self.samples = {}         # (system, name) -> list of values

    def add(self, system, name, value):
        if value is not None:
            self.samples.setdefault((system, name), []).append(value)

    def median(self, system, name):
        values = self.samples.get((system, name))
        return statistics.median(values) if values else None

    def line(self, engine, name, unit, results):
        ours, qemu, native = (self.median(system, name) for system in (engine, 'qemu', 'native'))
        ratio_qemu = ours / qemu if ours and qemu else None
        ratio_native = ours / native if ours and native else None
        print_line(engine, name, unit, ours, qemu, native, ratio_qemu, ratio_native)
        results.append({'name': name, 'unit': unit, 'engine': engine, 'transvisor': ours, 'qemu': qemu, 'native': native,
                        'ratio_qemu': ratio_qemu, 'ratio_native': ratio_native})
        return ratio_qemu, ratio_native


def show(value):
    if value is None:
        return '-'
    return f'{value:.0f}' if value >= 1000 else f'{value:.3g}'


def print_line(engine, name, unit, ours, qemu, native, ratio_qemu, ratio_native):
    targets = INTERP_TARGETS if engine == 'interp' else TARGETS
    kind, most = targets.get(name, (None, None))
    measured = {'ratio_qemu': ratio_qemu, 'ratio_native': ratio_native, 'ns': ours, 'value': ours}.get(kind)
    if kind is None:
        verdict = 'target=none'
    else:
        text = f'{kind}<={most}' if kind.startswith('ratio') else f'<={most}'
        verdict = f'target={text} ' + ('unmeasured' if measured is None else 'met' if measured <= most else 'missed')
    print(f'{name}_{unit} engine={engine} transvisor={show(ours)} qemu={show(qemu)} native={show(native)} '
          f'ratio_qemu={show(ratio_qemu)} ratio_native={show(ratio_native)} {verdict}', flush=True)


def geomean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--transvisor', help='the program (default: the newest build*/transvisor beside the sources)')
    parser.add_argument('--engine', default='bt', help='engines of transvisor, comma separated (bt, interp)')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', help='comma separated names; compute, system stand for those groups')
    parser.add_argument('--scale', type=int, default=100, help='percent of the full user-compute work')
    parser.add_argument('--kernel', default='686', choices=['686', '686-pae', 'rt-686-pae'])
    parser.add_argument('--memory', default='512M')
    parser.add_argument('--timeout', type=int, default=900, help='seconds for one guest run')
    parser.add_argument('--no-qemu', action='store_true')
    parser.add_argument('--no-native', action='store_true')
    parser.add_argument('--no-transvisor', action='store_true')
    parser.add_argument('--qemu-cpu', default='n270')
    parser.add_argument('--extra', default='', help='further arguments for transvisor run')
    parser.add_argument('--json', help='write the results there as well')
    parser.add_argument('--log', help='directory to keep the guests\' console output in')
    parser.add_argument('--list', action='store_true')
    options = parser.parse_args()

    names = COMPUTE + SYSTEM + OTHER
    if options.list:
        print('\n'.join(names))
        return 0
    if options.only:
        names = []
        for name in options.only.split(','):
            group = {'compute': COMPUTE, 'system': SYSTEM}.get(name, [name])
            for member in group:
                if member not in COMPUTE + SYSTEM + OTHER:
                    die(f"no measurement is called '{member}' (--list prints them)")
                names.append(member)
    if options.rounds < 1 or not 1 <= options.scale <= 10000:
        die('--rounds must be at least 1, --scale 1 to 10000')

    engines = [] if options.no_transvisor else options.engine.split(',')
    transvisor = options.transvisor
    if engines and not transvisor:
        root = os.path.join(HERE, '..')
        found = [os.path.join(root, d, 'transvisor') for d in os.listdir(root) if d.startswith('build')]
        found = [f for f in found if os.path.exists(f)]
        if not found:
            die('no build*/transvisor found; build it, or name it with --transvisor, or use --no-transvisor')
        transvisor = max(found, key=os.path.getmtime)

    program = build_program()
    kernel = kernel_paths()['KERNEL_' + options.kernel.upper().replace('-', '_')]
    inside = [n for n in names if n not in OTHER]
    report, results, problems = Report(), [], []

    with tempfile.TemporaryDirectory() as scratch:
        boot_image, bench_image = os.path.join(scratch, 'boot.cpio'), os.path.join(scratch, 'bench.cpio')
        stats_file = os.path.join(scratch, 'stats.json')
        pack('boot', boot_image)
        pack('bench', bench_image, '--add', program)

        def command(system, image, more):
            append = f'console=ttyS0 quiet {more}'.strip()
            if system == 'qemu':
                return ['qemu-system-i386', '-accel', 'tcg', '-m', options.memory, '-nographic', '-no-reboot', '-kernel', kernel,
                        '-initrd', image, '-append', append, '-cpu', options.qemu_cpu]
            return [transvisor, 'run', '--kernel', kernel, '--initrd', image, '--append', append, '--memory', options.memory,
                    '--engine', system, '--serial', 'stdio', '--stats', stats_file, *options.extra.split()]

        def run(system, image, more, marker, label):
            guest = Guest(command(system, image, more), marker, options.timeout)
            if options.log:
                os.makedirs(options.log, exist_ok=True)
                with open(os.path.join(options.log, f'{system}-{label}.log'), 'w') as log:
                    log.write('\n'.join(guest.output) + '\n')
            for problem in guest.failed + ([guest.error] if guest.error else []):
                problems.append(f'{system}: {problem}')
                print(f'run.py: {system}: {problem}', file=sys.stderr, flush=True)
            return guest

        systems = ([] if options.no_qemu else ['qemu']) + engines
        for round_number in range(options.rounds):
            if inside and not options.no_native:
                for name in inside:
                    output = subprocess.run([program, '--scale', str(options.scale), name], stdout=subprocess.PIPE, text=True).stdout
                    for found, value, _ in re.findall(r'^BENCH (\S+) ([0-9.]+) (\S+)$', output, re.M):
                        report.add('native', found, float(value))
                    if 'BENCH-FAILED' in output:
                        problems.append('native: ' + output.strip())
            # The order turns with each round, so that nothing is always first.
            for system in systems[round_number % max(1, len(systems)):] + systems[:round_number % max(1, len(systems))]:
                if 'boot' in names:
                    guest = run(system, boot_image, '', 'GUEST-INIT-REACHED', f'boot-{round_number}')
                    report.add(system, 'boot', guest.boot_ms)
                    if system not in ('qemu', 'interp'):
                        report.add(system, 'xl_cycles_per_insn', stats_figures(stats_file))
                    if system != 'qemu':
                        report.add(system, 'vmm_overhead', guest.rss_anon_mib)
                if inside:
                    guest = run(system, bench_image, f'bench.scale={options.scale} bench.only={",".join(inside)}', 'BENCH-DONE',
                                f'bench-{round_number}')
                    for name, (value, _) in guest.values.items():
                        report.add(system, name, value)
                        wall = guest.wall[name]          # holds what a kernel prepares and checks outside its own time, too
                        if name in COMPUTE and not 0.75 * wall - 100 <= value <= 1.05 * wall + 20:
                            print(f'clock-warning {name} {system}: guest says {value:.0f} ms, host {wall:.0f} ms',
                                  flush=True)

    for engine in engines or ['none']:
        ratios = []
        for name in names:
            unit = 'ms' if name in COMPUTE + OTHER else 'ns'
            ratio = report.line(engine, name, unit, results)
            if name in COMPUTE and ratio[1]:
                ratios.append(ratio)
        if len(ratios) > 1 and engine != 'none':
            both = [r for r in ratios if r[0]]
            print_line(engine, 'compute_geomean', 'x', None, None, None, geomean([r[0] for r in both]), geomean([r[1] for r in ratios]))
        if 'boot' in names and engine not in ('none', 'interp'):
            report.line(engine, 'xl_cycles_per_insn', 'cycles', results)
        if 'boot' in names and engine != 'none':
            report.line(engine, 'vmm_overhead', 'MiB', results)
    if options.json:
        with open(options.json, 'w') as out:
            json.dump(results, out, indent=1)
    for problem in problems:
        print(f'problem {problem}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
