#!/usr/bin/env python3
"""The benchmark: what the same i386 code costs on the host itself, under transvisor's engines, and under QEMU.

`transvisor bench` starts this. Contestants take turns, piece by piece, so that a machine that drifts favours nobody. At
the end: medians with half the distance between the quartiles, ratios, who was missing and why. A guest measures itself
by its own clock; where that disagrees with the host's about a measurement of a known beginning and end, a line says so.

  transvisor bench --quick                                  under three minutes
  transvisor bench --only boot,system --against qemu-tcg    some of it, against one
  transvisor bench --quick --json new.json --compare old.json
  bench/run.py --only sha256,boot --variant now= --variant 'before@../old/build/transvisor='     two builds
  bench/run.py --list                                       workloads and their groups

An interrupted run (Ctrl-C) ends with what has been measured until then. Exit status: 0 all was measured that was to be,
1 something failed, 2 usage, 3 --compare found something slower, 130 or 143 interrupted.
"""
import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import json
import time

import compare
import contestants
import load
import machine
import material
import page
import rows
import table
import whole
from progress import Progress, duration
from workloads import ALONGSIDE, BY_NAME, DISKS, QUICK_SCALE, TABLE, WEB, chosen, plan

MEMORY = {'bare': '512M', 'packages': '1G', 'boot': '512M', 'kernel': '64M', 'disk': '256M', 'web': '256M'}
# Seconds that no further round may begin after, if it would end later than that.
BUDGET = {True: 170, False: 39 * 60}
# What a piece takes, as a guess for the first round: for the translator, and how much longer or shorter others take.
GUESS = {
    'nano_user': 1, 'bare': 12, 'packages': 40, 'boot': 2.5, 'boot_cold': 3, 'cached_boot': 5, 'kernel': 2, 'disk': 8,
    'web': 10, 'restored': 16, 'compile': 25,
}
PACE = {'native': 0.6, 'native64': 0.6, 'qemu-tcg': 3, 'interp': 20, 'bt-nodirect': 1.1}
ONCE = ('compile',)  # in the first round alone


def die(text, status=1):
    print(f'transvisor: bench: {text}', file=sys.stderr)
    sys.exit(status)


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog='bench', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--quick', action='store_true', help='a part of it, in less than 3 minutes')
    size.add_argument('--full', action='store_true', help='all but the long ones, within 40 minutes (the default)')
    parser.add_argument('--only', metavar='NAME,..', help='these workloads, or groups of them (--list)')
    parser.add_argument('--against', metavar='NAME,..', help=f'beside bt: {", ".join(contestants.NAMES)} [all]')
    parser.add_argument('--runs', type=int, default=3, metavar='N', help='of each measurement [3]')
    parser.add_argument('--json', metavar='FILE', help='write the results there')
    parser.add_argument('--compare', metavar='OLD.json', help='say what became slower since')
    parser.add_argument('--html', metavar='FILE', help='write a page with plots there')
    more = parser.add_argument_group('for development')
    more.add_argument('--svg', metavar='FILE', help='write one plot there, against native or QEMU')
    more.add_argument('--from', dest='earlier', metavar='FILE', help='measure nothing: pages and tables of that result')
    more.add_argument('--transvisor', metavar='FILE', help='the program (default: the newest build*/transvisor)')
    more.add_argument(
        '--variant',
        action='append',
        metavar='NAME[@PROGRAM]=ARGUMENTS',
        help='in place of bt: transvisor, or another build of it, with these arguments of `run`; may be repeated',
    )
    more.add_argument('--scale', type=int, help='percent of the full user-compute work')
    more.add_argument('--kernel', default='686', choices=['686', '686-pae', 'rt-686-pae'])
    more.add_argument('--timeout', type=int, default=1800, help='seconds for one piece')
    more.add_argument('--budget', type=int, metavar='S', help='seconds for everything but the first round')
    more.add_argument(
        '--processor-time',
        action='store_true',
        help='count only the time in which a contestant had a processor: for a host that has other work to do',
    )
    more.add_argument('--qemu-cpu', default='n270')
    more.add_argument('--aims', action='store_true', help='say of each aim whether it is met')
    more.add_argument('--log', metavar='DIR', help='keep the contestants\' output and statistics there')
    more.add_argument('--list', action='store_true', help='print workloads and groups')
    options = parser.parse_args()
    if options.runs < 1:
        die('--runs must be at least 1', 2)
    if options.scale is None:
        options.scale = QUICK_SCALE if options.quick else 100
    if not 1 <= options.scale <= 10000:
        die('--scale must be 1 to 10000', 2)
    for variant in options.variant or ():
        if not re.match(r'[\w-]+(@[^=]+)?=', variant):
            die(f"--variant needs NAME=ARGUMENTS or NAME@PROGRAM=ARGUMENTS, not '{variant}'", 2)
    options.against = options.against.split(',') if options.against else list(contestants.NAMES)
    for name in options.against:
        if name not in (*contestants.NAMES, 'native64', 'none'):
            die(f"--against: '{name}' is none of {', '.join(contestants.NAMES)}, native64, none", 2)
    return options


class Interrupted(Exception):
    """By a signal that somebody has sent."""

    def __init__(self, signo):
        super().__init__(signal.Signals(signo).name)
        self.signo = signo


def interrupt(signo, _frame):
    """A second one ends it at once."""
    signal.signal(signo, signal.SIG_DFL)
    raise Interrupted(signo)


def must_be_writable(path):
    """Rather said now than after it all."""
    try:
        with open(path, 'a', encoding='utf-8'):
            pass
    except OSError as error:
        die(str(error))


def newest_build():
    root = os.path.join(material.HERE, '..')
    found = [os.path.join(root, d, 'transvisor') for d in os.listdir(root) if d.startswith('build')]
    found = [f for f in found if os.path.exists(f)]
    if not found:
        die('no build*/transvisor found; build it, or name it with --transvisor')
    return max(found, key=os.path.getmtime)


class Bench:
    """One run of the benchmark: who takes part, what they are given, and what they said."""

    def __init__(self, options, workloads, scratch):
        self.options, self.workloads, self.scratch = options, workloads, scratch
        self.rows, self.problems, self.missing = rows.Rows(), [], {}
        self.program = os.path.abspath(options.transvisor or newest_build())
        self.images, self.directories, self.roots, self.kernels = {}, {}, {}, {}
        self.i386_runs = None
        self.programs, self.scale = {}, None
        self.clock_warnings = []
        self.boots = {}  # by contestant: moments of each boot, in ms
        self.components = {}  # by (contestant, what): where its time went, at last
        self.memory = MEMORY
        self.disks, self.ab, self.port = {}, None, None  # what disk and web are measured with
        self.interrupted = 0  # by that signal
        self.contestants = []
        self.machine = machine.describe(self.program)
        self.gather()
        self.prepare()

    # ---- who takes part ----

    def enter(self, contestant):
        if contestant.missing:
            self.missing[contestant.name] = contestant.missing
        else:
            self.contestants.append(contestant)

    def gather(self):
        options = self.options
        stats = os.path.join(self.scratch, 'stats.json')
        self.kernel = self.attempt('a Debian kernel', lambda: material.kernel_path(options.kernel))
        for variant in options.variant or [f'bt={contestants.TRANSVISORS["bt"]}']:
            label, _, arguments = variant.partition('=')
            name, _, program = label.partition('@')
            self.enter(
                contestants.Transvisor(
                    name, arguments, program or self.program, self.kernel, stats, options.timeout
                )
            )
        self.variants = [c.name for c in self.contestants]
        for name in options.against:
            if name in contestants.TRANSVISORS:
                arguments = contestants.TRANSVISORS[name]
                self.enter(
                    contestants.Transvisor(name, arguments, self.program, self.kernel, stats, options.timeout)
                )
            elif name in contestants.NEVER:
                self.missing[name] = contestants.NEVER[name]
            elif name.startswith('qemu'):
                self.enter(self.qemu(name))
            elif name.startswith('native'):
                self.enter_host(name)

    def qemu(self, name):
        qemu = contestants.Qemu(name, self.kernel, self.options.qemu_cpu, self.options.timeout)
        kvm = self.machine['check'].get('/dev/kvm', {})
        if name == 'qemu-kvm' and not qemu.missing and kvm.get('state') != 'ok':
            qemu.missing = '/dev/kvm: ' + kvm.get('text', 'could not be tried')
        return qemu

    def enter_host(self, name):
        """The host runs the very i386 programs, or, where it cannot, the same sources compiled for x86-64 and Debian's
        amd64 packages: other programs therefore, which go by another name."""
        bits = 64 if name == 'native64' else 32
        if not self.attempt(f'the benchmark program for {bits} bits', lambda: self.program_for(bits)):
            self.missing[name] = 'there is no program for it: see above'
            return
        if bits == 32 and not material.runs_here(self.programs[32]):
            self.missing['native'] = 'this host runs no 32-bit programs; native64 runs the same sources for x86-64'
            if 'native64' not in self.options.against:
                self.enter_host('native64')
            return
        self.enter(contestants.Host(name, self.options.timeout))

    # ---- what they are given ----

    def attempt(self, what, make):
        """What make() gives; or None, and the reason is noted."""
        try:
            return make()
        except (OSError, subprocess.CalledProcessError) as error:
            self.missing.setdefault(what, str(error))
            return None

    def program_for(self, bits):
        if bits not in self.programs:
            self.programs[bits] = material.build_program(bits)
        return self.programs[bits]

    def prepare(self):
        """The files of the plans, by (host or guest, image), and the guests' images."""
        wanted = {w.image for w in self.workloads}
        for w in self.workloads:
            if w.image == 'kernel' and w.command not in self.kernels:
                self.kernels[w.command] = self.attempt(w.command, lambda: material.build_kernel(w.command))
        if not self.kernel:
            return
        if 'machine' in wanted:
            image = os.path.join(self.scratch, 'boot.cpio')
            self.attempt('boot', lambda: material.pack('boot', image))
            self.images['boot'] = image if os.path.exists(image) else None
        for image in ('bare', 'packages'):
            if image in wanted:
                self.attempt(image, lambda: self.prepare_image(image))
        if 'disk' in wanted:
            self.attempt('disk', self.prepare_disk)
        if 'web' in wanted:
            self.attempt('web', self.prepare_web)
        self.prepare_wholes()
        hosts = [c for c in self.contestants if isinstance(c, contestants.Host) and c.bits == 32]
        for host in hosts if any(w.group == 'nano' for w in self.workloads) else ():
            self.roots[host.name, 'nano_user'] = None
            self.directories[host.name, 'nano_user'] = material.plan_directory(
                os.path.join(self.scratch, f'{host.name}-nano'), self.program_for(32), 'bench nano_user\n'
            )

    def prepare_image(self, image):
        runs32 = material.runs_here(self.program_for(32))
        if not self.scale:
            self.scale = material.calibrate(self.program_for(32 if runs32 else 64), self.options.scale)
        hosts = [c for c in self.contestants if isinstance(c, contestants.Host)]
        for system, bits in [('guest', 32)] + [(h.name, h.bits) for h in hosts]:
            meant = [w for w in self.workloads if bits == 32 or w.group not in ('system', 'cliffs', 'lmbench')]
            self.directories[system, image] = material.plan_directory(
                os.path.join(self.scratch, f'{system}-{image}'), self.program_for(bits), plan(meant, image, self.scale)
            )
            self.roots[system, image] = (
                None if image == 'bare' else material.packages_root('amd64' if bits == 64 else 'i386')
            )
        path = os.path.join(self.scratch, image + '.cpio')
        material.pack('bench', path, self.directories['guest', image], self.roots['guest', image])
        self.images[image] = path

    def pack(self, image, script, tree=None):
        """A guest's image with a plan and the program."""
        directory = os.path.join(self.scratch, f'guest-{image}')
        material.plan_directory(directory, self.program_for(32), script)
        path = os.path.join(self.scratch, image + '.cpio')
        material.pack('bench', path, directory, tree)
        self.images[image] = path

    def host_plan(self, host, image, script, *more):
        directory = os.path.join(self.scratch, f'{host.name}-{image}')
        material.plan_directory(directory, self.program_for(host.bits), script, *more)
        self.directories[host.name, image], self.roots[host.name, image] = directory, None

    def prepare_disk(self):
        """A file for each bus, and the guest's names of them. A host has the same files."""
        for bus in DISKS:
            self.disks[bus] = material.make_disk(os.path.join(self.scratch, f'disk-{bus}'))
        for host in [c for c in self.contestants if isinstance(c, contestants.Host)]:
            self.host_plan(host, 'disk', plan(self.workloads, 'disk', {'disk': self.disks}))
        tree = material.drivers_tree(os.path.join(self.scratch, 'disk-drivers'), 'disk')
        devices = {bus: f'/dev/{name}' for bus, name in DISKS.items()}
        self.pack('disk', plan(self.workloads, 'disk', {'disk': devices}), tree)

    def prepare_web(self):
        self.ab, self.port = load.find_ab(), load.free_port()
        files = ' '.join(f'{name}={size}' for name, size in WEB.items())
        for host in [c for c in self.contestants if isinstance(c, contestants.Host)]:
            busybox = os.path.join(self.scratch, f'{host.name}-busybox', 'busybox')
            os.makedirs(os.path.dirname(busybox))
            shutil.copy(material.busybox_here(), busybox)
            web = f'host 127.0.0.1:{self.port} {files}'
            self.host_plan(host, 'web', plan(self.workloads, 'web', {'web': web}), busybox)
        tree = material.drivers_tree(os.path.join(self.scratch, 'web-drivers'), 'web')
        lease = os.path.join(tree, 'bin', 'lease')
        os.makedirs(os.path.dirname(lease))
        shutil.copy(os.path.join(material.GUESTS, 'init', 'lease'), lease)
        os.chmod(lease, 0o755)
        self.pack('web', plan(self.workloads, 'web', {'web': f'guest 80 {files}'}), tree)

    def prepare_wholes(self):
        names = {whole.PIECE_OF.get(w.name) for w in self.workloads}
        if 'restored' in names:
            self.attempt('restored', lambda: self.pack('saved', whole.SAVED_PLAN))
        root = self.roots.get(('guest', 'packages'))
        if 'compile' in names and root:
            for image, script in (('compile_not', ''), ('compile', 'packages.sh gcc_build\n')):
                self.attempt(image, lambda image=image, script=script: self.pack(image, script, root))

    # ---- the pieces: (contestant, what, how it is shown) ----

    def pieces(self):
        """Of one round, in an order that lets contestants take turns."""
        wanted = [(name, 'kernel') for name, kernel in self.kernels.items() if kernel]
        wanted += [('nano_user', 'nano_user')] if 'nano' in self.kernels else []
        wanted += [(image, image) for image in ('bare', 'packages', 'disk', 'web') if self.images.get(image)]
        needs = {**dict.fromkeys(whole.WHOLES, 'boot'), 'restored': 'saved', 'compile': 'compile'}
        names = {whole.PIECE_OF.get(w.name, w.name) for w in self.workloads}
        return wanted + [(n, n) for n in whole.WHOLES if n in names and self.images.get(needs[n])]

    def takes_part(self, contestant, piece, kind):
        if isinstance(contestant, contestants.Host):
            return (contestant.name, piece) in self.directories
        if kind == 'nano_user':
            return False
        if kind in ('cached_boot', 'restored', 'compile') and contestant.name not in self.variants:
            return False
        if kind == 'cached_boot':
            return contestant.has_option('--cache')
        too_slow = ('bare', 'packages', 'disk', 'web') + (('boot',) if self.options.quick else ())
        if contestant.slow and kind in too_slow and not self.options.only:
            self.missing[f'{contestant.name}, {kind}'] = 'takes too long; name workloads with --only to have it'
            return False
        return True

    def round(self, number):
        """Steps: (key, text, guess in seconds, what to do)."""
        first = number % max(1, len(self.contestants))  # the order turns, so that nobody is always first
        for piece, kind in [p for p in self.pieces() if not number or p[1] not in ONCE]:
            for contestant in self.contestants[first:] + self.contestants[:first]:
                if self.takes_part(contestant, piece, kind):
                    text = f'run {number + 1} of {self.options.runs}: {contestant.name}: {piece}'
                    guess = GUESS[kind] * PACE.get(contestant.name, 1)
                    yield (contestant.name, piece), text, guess, (contestant, piece, kind, number)

    def do(self, contestant, piece, kind, number):
        if isinstance(contestant, contestants.Host):
            directory, root = self.directories[contestant.name, piece], self.roots[contestant.name, piece]
            run = contestant.run(directory, root, on_line=self.load_for(piece))
        elif kind == 'kernel':
            run = contestant.run_kernel(self.kernels[piece], MEMORY['kernel'])
        elif kind in whole.WHOLES:
            whole.WHOLES[kind](self, contestant, number)
            return
        else:
            extras = contestants.Extras(
                self.disks if kind == 'disk' else {}, self.port if kind == 'web' else None
            )
            run = contestant.run(
                self.images[piece], MEMORY[piece], 'BENCH-DONE', extras=extras, on_line=self.load_for(piece)
            )
        self.note(contestant, run, f'{piece}-{number}')

    def load_for(self, piece):
        return load.Load(self.ab, self.port) if piece == 'web' else None

    def note(self, contestant, run, label):
        """Keeps what a run printed, and its figures."""
        if self.options.log:
            os.makedirs(self.options.log, exist_ok=True)
            base = os.path.join(self.options.log, f'{contestant.name}-{label}')
            with open(base + '.log', 'w', encoding='utf-8') as log:
                log.write('\n'.join(run.output) + '\n')
            if getattr(contestant, 'stats', None):
                shutil.copy(contestant.stats_file, base + '.stats.json')
        for problem in run.failed + ([run.error] if run.error else []):
            self.problems.append(f'{contestant.name}: {problem}')
        conditions = contestant.conditions()
        if self.options.processor_time:
            conditions['time'] = 'the processor\'s'
        for name, (value, unit) in run.values.items():
            self.rows.add(
                contestant.name, name, unit, value * self.share(run, name), run.within.get(name), **conditions
            )
            wall = run.wall.get(name, 0)
            # Of those that time fixed work; a kernel's own time leaves out what it prepares and checks.
            timed = unit == 'ms' and name in BY_NAME and BY_NAME[name].group != 'young'
            if timed and not 0.75 * wall - 100 <= value <= 1.05 * wall + 20:
                self.clock_warnings.append(f'{contestant.name}: {name}: says {value:.0f} ms, host {wall:.0f} ms')

    def share(self, run, name):
        return run.share.get(name, 1) if self.options.processor_time else 1

    def measure(self):
        """All rounds, as far as there is time, and until somebody interrupts. Returns how many have been done."""
        options = self.options
        steps = [step for number in range(options.runs) for step in self.round(number)]
        budget = options.budget or (None if options.only else BUDGET[options.quick])
        progress = Progress([step[:3] for step in steps])
        try:
            return self.all_steps(steps, budget, progress)
        except Interrupted as interrupted:
            self.interrupted = interrupted.signo
            left = steps[progress.done :]
            return left[0][3][3] if left else options.runs
        finally:
            progress.close()

    def all_steps(self, steps, budget, progress):
        rounds = 0
        for key, _, _, what in steps:
            if what[3] > rounds:
                rounds = what[3]
                one = sum(progress.expected(k) for k, _, _, w in steps if w[3] == rounds)
                if budget and progress.elapsed() + one > budget:
                    break
            progress.begin()
            self.do(*what)
            progress.end()
        else:
            rounds = self.options.runs
        return rounds


# ---- what is printed ----


def geomeans(measured, variants, others):
    """Lines about groups as wholes."""
    out = []
    for variant in variants:
        for group in ('compute', 'young'):
            members = [w.name for w in TABLE if w.group == group and measured.median(variant, w.name)]
            for other in others:
                common = [n for n in members if measured.median(other, n)]
                if other != variant and len(common) > 1:
                    mean = rows.geomean([measured.median(variant, n) / measured.median(other, n) for n in common])
                    out.append(f'{group} ({len(common)}), geometric mean of {variant}/{other}: {table.number(mean)}')
    return out


def aims(measured, variant):
    """Whether what workloads.py aims at is met."""
    out = []
    for name, (unit, wanted) in {**{w.name: (w.unit, w.aims) for w in TABLE}, **ALONGSIDE}.items():
        ours = measured.median(variant, name)
        for kind, most in wanted if ours else ():
            peer = {'ratio_native': 'native', 'ratio_qemu': 'qemu-tcg'}.get(kind)
            theirs = measured.median(peer, name) if peer else 1
            value = ours / theirs if theirs else None
            state = 'unmeasured' if value is None else 'met' if value <= most else 'missed'
            out.append(f'aim {variant} {name}: {kind} {table.number(value)}, at most {most:.4g} ({unit}): {state}')
    return out


def say(bench, result):
    measured, has = bench.rows, {r['contestant'] for r in result['rows']}
    everyone = [c.name for c in bench.contestants if c.name in has]
    if not result['rows']:
        print('nothing was measured')
    else:
        print('Medians, with half the distance between the quartiles:\n')
        print(table.medians(result['rows'], everyone))
        for variant in bench.variants:
            ratios = table.ratios(result['rows'], variant, [name for name in everyone if name != variant])
            if ratios:
                print('\nRatios of medians (below 1: the first takes less):\n')
                print(ratios)
        for line in geomeans(measured, bench.variants, everyone):
            print(line)
    noise = result['noise']
    if noise is not None:
        quiet = 'quiet' if noise <= 0.05 else 'noisy: ratios are no better than that'
        print(f'\nThe host\'s own rows spread by {100 * noise:.0f} % (median): the machine is {quiet}.')
    print(f'{result["runs"]} of {bench.options.runs} runs, {duration(result["seconds"])}.', end='')
    short = result['runs'] < bench.options.runs
    print(' Interrupted.' if bench.interrupted else ' There was no time for more.' if short else '')
    for name, why in bench.missing.items():
        print(f'missing: {name}: {why}')
    for line in bench.clock_warnings:
        print(f'clock-warning: {line}')
    for problem in bench.problems:
        print(f'problem: {problem}')
    if bench.options.aims:
        for variant in bench.variants:
            print('\n'.join(aims(measured, variant)))


def say_changes(old, result, path):
    """Returns whether something became slower."""
    changes, drift = compare.compare(old['rows'], result['rows'])
    print(f'\nSince {path}: change is new over old, less what the host\'s own rows have changed by ({drift:.2f}).\n')
    if not changes:
        print('nothing was measured in both')
        return False
    print(table.changes(changes))
    ratios = compare.ratio_change(old['rows'], result['rows'])
    if ratios is not None:
        print(f'ratios of bt to the others have changed by {100 * ratios:.1f} % (median)')
    slower = [f'{c["name"]} ({c["contestant"]})' for c in changes if c['verdict'] == 'slower']
    print(f'slower: {", ".join(slower) or "nothing"}')
    return bool(slower)


def boot_phases(moments):
    """Medians of what lies between the moments of some boots, in seconds."""
    first, init, off = (statistics.median(m) / 1e3 for m in zip(*moments))
    return {'to the first output': first, 'to /init': init - first, 'to power-off': off - init}


def draw(options, result):
    for path, text in ((options.html, page.page), (options.svg, page.picture)):
        if path:
            with open(path, 'w', encoding='utf-8') as out:
                out.write(text(result) or '')


def show_again(options):
    """Of an earlier run: its page and plot, and what --compare finds."""
    try:
        result = rows.load(options.earlier)
        old = rows.load(options.compare) if options.compare else None
    except (OSError, ValueError) as error:
        die(str(error))
    draw(options, result)
    return 3 if old and say_changes(old, result, options.compare) else 0


def main():
    options = parse_arguments()
    if options.list:
        for workload in TABLE:
            print(f'{workload.name:20} {workload.group}')
        return 0
    try:
        workloads = chosen(options.only, options.quick)
        old = rows.load(options.compare) if options.compare else None
    except LookupError as error:
        die(f"no workload or group is called '{error}' (bench/run.py --list prints them)", 2)
    except (OSError, ValueError) as error:
        die(str(error))
    for path in filter(None, (options.json, options.html, options.svg)):
        must_be_writable(path)
    if options.earlier:
        return show_again(options)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, workloads, scratch)
        if not bench.variants:
            die('; '.join(f'{name}: {why}' for name, why in bench.missing.items()))
        rounds = bench.measure()
    measured = bench.rows.all()
    result = {
        'format': rows.FORMAT,
        'program': 'transvisor bench',
        'when': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        'seconds': round(time.monotonic() - began),
        'runs': rounds,
        'conditions': {'quick': options.quick, 'scale': options.scale, 'kernel': options.kernel, 'memory': MEMORY},
        'machine': bench.machine,
        'noise': rows.noise(measured),
        'rows': measured,
        'boots': [{'contestant': who, 'seconds': boot_phases(moments)} for who, moments in bench.boots.items()],
        'components': [
            {'contestant': who, 'what': what, 'seconds': parts} for (who, what), parts in bench.components.items()
        ],
        'missing': bench.missing,
        'problems': bench.problems,
        'interrupted': bool(bench.interrupted),
    }
    say(bench, result)
    slower = say_changes(old, result, options.compare) if old else False
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as out:
            json.dump(result, out, indent=1)
    draw(options, result)
    if bench.interrupted:
        return 128 + bench.interrupted
    return 1 if bench.problems or not measured else 3 if slower else 0


if __name__ == '__main__':
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        sys.exit(main())
    except Interrupted as interrupted:
        die('interrupted, and nothing has been measured', 128 + interrupted.signo)
