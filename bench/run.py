#!/usr/bin/env python3
"""The benchmark: the same i386 programs on the host, in QEMU (TCG) and in transvisor, interleaved.

One line per number:
  name_unit variant=N transvisor=V qemu=V native=V native64=V ratio_qemu=R ratio_native=R ratio_native64=R target=T
  met|missed
V is the median over the rounds; `-` is not measured. Ratios are of medians of one run; figures of different runs do not
compare. native is the host running the very i386 programs. A host that cannot gets native64 instead: the same sources
compiled for x86-64 and Debian's amd64 packages, other programs therefore, which no target refers to. A guest measures
itself by its own clock; where that disagrees with the host's about a measurement of a known beginning and end, a line
says `clock-warning`.

  bench/run.py                               everything but the long ones, 3 rounds, transvisor as it is by default
  bench/run.py --only sha256,young,boot      some of it: workloads or groups       (--list prints both)
  bench/run.py --variant 'bt=--engine bt' --variant 'small=--cache-size 8M'        options, side by side
  bench/run.py --variant now= --variant 'before@../old/build/transvisor='         another build beside this one
  bench/run.py --no-transvisor               the peers' baseline
"""
import argparse
import json
import os
import re
import shutil
import sys
import tempfile

import material
import sides
from report import Report
from workloads import BY_NAME, TABLE, chosen, plan

MEMORY = {'bare': '512M', 'packages': '1G', 'boot': '512M', 'kernel': '64M'}


def die(text):
    print(f'run.py: {text}', file=sys.stderr)
    sys.exit(1)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--transvisor', help='the program (default: the newest build*/transvisor beside the sources)')
    parser.add_argument(
        '--variant',
        action='append',
        metavar='NAME[@PROGRAM]=ARGUMENTS',
        help="transvisor, or another build of it, with further arguments of `run`; may be repeated (default: 'bt=--engine bt')",
    )
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', help='comma separated workloads and groups')
    parser.add_argument('--scale', type=int, default=100, help='percent of the full user-compute work')
    parser.add_argument('--kernel', default='686', choices=['686', '686-pae', 'rt-686-pae'])
    parser.add_argument('--timeout', type=int, default=1800, help='seconds for one plan on one side')
    parser.add_argument('--no-qemu', action='store_true')
    parser.add_argument('--no-native', action='store_true', help='neither native nor native64')
    parser.add_argument('--native64', action='store_true', help='native64 even where the host runs i386 programs')
    parser.add_argument('--no-transvisor', action='store_true')
    parser.add_argument(
        '--processor-time',
        action='store_true',
        help='count only the time in which a side had a processor: for a host that has other work to do',
    )
    parser.add_argument('--qemu-cpu', default='n270')
    parser.add_argument('--json', help='write the results there as well')
    parser.add_argument('--log', help='directory to keep the sides\' output and statistics in')
    parser.add_argument('--list', action='store_true')
    options = parser.parse_args()
    if options.rounds < 1 or not 1 <= options.scale <= 10000:
        die('--rounds must be at least 1, --scale 1 to 10000')
    options.variant = [] if options.no_transvisor else options.variant or ['bt=--engine bt']
    for variant in options.variant:
        if not re.match(r'\w+(@[^=]+)?=', variant):
            die(f"--variant needs NAME=ARGUMENTS or NAME@PROGRAM=ARGUMENTS, not '{variant}'")
    return options


def newest_build():
    root = os.path.join(material.HERE, '..')
    found = [os.path.join(root, d, 'transvisor') for d in os.listdir(root) if d.startswith('build')]
    found = [f for f in found if os.path.exists(f)]
    if not found:
        die('no build*/transvisor found; build it, or name it with --transvisor, or use --no-transvisor')
    return max(found, key=os.path.getmtime)


class Bench:
    """One run of the benchmark: the sides, what they are given, and what they said."""

    def __init__(self, options, workloads, scratch):
        self.options, self.workloads, self.scratch = options, workloads, scratch
        self.report, self.problems = Report(), []
        self.programs = {bits: material.build_program(bits) for bits in (32, 64)}
        i386_runs = material.runs_here(self.programs[32])
        self.scale = material.calibrate(self.programs[32 if i386_runs else 64], options.scale)
        kernel = material.kernel_path(options.kernel)
        self.hosts = []
        if not options.no_native:
            self.hosts += [sides.Host('native', options.timeout)] if i386_runs else []
            self.hosts += [sides.Host('native64', options.timeout)] if options.native64 or not i386_runs else []
        self.machines = [] if options.no_qemu else [sides.Qemu(kernel, options.qemu_cpu, options.timeout)]
        self.variants = []
        for variant in options.variant:
            label, _, arguments = variant.partition('=')
            name, _, program = label.partition('@')
            self.variants.append(
                sides.Transvisor(
                    name,
                    arguments,
                    program or options.transvisor or newest_build(),
                    kernel,
                    os.path.join(scratch, 'stats.json'),
                    options.timeout,
                )
            )
        self.machines += self.variants
        self.prepare()

    def wants(self, name):
        return BY_NAME[name] in self.workloads

    def prepare(self):
        """The files of the plans, by (host or guest, image), and the guests' images."""
        self.directories, self.images, self.roots = {}, {}, {}
        if self.wants('boot') or self.wants('cached_boot'):
            self.images['boot'] = os.path.join(self.scratch, 'boot.cpio')
            material.pack('boot', self.images['boot'])
        self.kernels = {w.command: material.build_kernel(w.command) for w in self.workloads if w.image == 'kernel'}
        for image in ('bare', 'packages'):
            if not any(w.image == image for w in self.workloads):
                continue
            for system in ['guest'] + [h.name for h in self.hosts]:
                bits = 64 if system == 'native64' else 32
                meant = [w for w in self.workloads if bits == 32 or w.group not in ('system', 'cliffs')]
                self.directories[system, image] = material.plan_directory(
                    os.path.join(self.scratch, f'{system}-{image}'), self.programs[bits], plan(meant, image, self.scale)
                )
                self.roots[system, image] = (
                    None if image == 'bare' else material.packages_root('amd64' if bits == 64 else 'i386')
                )
            self.images[image] = os.path.join(self.scratch, image + '.cpio')
            material.pack('bench', self.images[image], self.directories['guest', image], self.roots['guest', image])

    def note(self, side, run, label):
        """Keeps what a run printed, and its figures."""
        if self.options.log:
            os.makedirs(self.options.log, exist_ok=True)
            base = os.path.join(self.options.log, f'{side.name}-{label}')
            with open(base + '.log', 'w') as log:
                log.write('\n'.join(run.output) + '\n')
            if getattr(side, 'stats', None):
                shutil.copy(side.stats_file, base + '.stats.json')
        for problem in run.failed + ([run.error] if run.error else []):
            self.problems.append(f'{side.name}: {problem}')
            print(f'run.py: {side.name}: {problem}', file=sys.stderr, flush=True)
        for name, (value, unit) in run.values.items():
            self.report.add(side.name, name, value * self.share(run, name))
            wall = run.wall.get(name, 0)
            # Of those that time fixed work; a kernel's own time leaves out what it prepares and checks.
            if unit == 'ms' and BY_NAME[name].group != 'young' and not 0.75 * wall - 100 <= value <= 1.05 * wall + 20:
                print(f'clock-warning {name} {side.name}: says {value:.0f} ms, host {wall:.0f} ms', flush=True)

    def share(self, run, name):
        return run.share.get(name, 1) if self.options.processor_time else 1

    def boot(self, machine, label):
        run = machine.run(self.images['boot'], MEMORY['boot'], 'GUEST-INIT-REACHED')
        self.note(machine, run, f'boot-{label}')
        self.report.add(machine.name, 'boot', run.boot_ms and run.boot_ms * self.share(run, 'boot'))
        if machine in self.variants:
            self.report.add(machine.name, 'vmm_overhead', run.rss_anon_mib)
            insns, cycles = machine.stats.get('guest_insns'), machine.stats.get('xl_cycles')
            self.report.add(machine.name, 'xl_cycles_per_insn', cycles / insns if insns and cycles else None)

    def cached_boot(self, variant, label):
        """Translation time of a boot that finds the cache that the boot before it has filled, over that one's. Loading
        templates and making blocks of them count as translation."""
        if not variant.has_option('--cache'):
            return
        cycles = []
        with tempfile.TemporaryDirectory(dir=self.scratch) as cache:
            for which in ('first', 'second'):
                run = variant.run(self.images['boot'], MEMORY['boot'], 'GUEST-INIT-REACHED', '--cache', cache)
                self.note(variant, run, f'cached-boot-{which}-{label}')
                cycles.append(
                    sum(variant.stats.get(name, 0) for name in ('xl_cycles', 'template_cycles', 'clone_cycles'))
                )
        if all(cycles):
            self.report.add(variant.name, 'cached_boot', cycles[1] / cycles[0])

    def one_side(self, side, label):
        for image in ('bare', 'packages'):
            if image not in self.images:
                continue
            if side in self.hosts:
                run = side.run(self.directories[side.name, image], self.roots[side.name, image])
            else:
                run = side.run(self.images[image], MEMORY[image], 'BENCH-DONE')
            self.note(side, run, f'{image}-{label}')
        for name, kernel in self.kernels.items() if side in self.machines else ():
            self.note(side, side.run_kernel(kernel, MEMORY['kernel']), f'{name}-{label}')
        if side in self.machines and self.wants('boot'):
            self.boot(side, label)
        if side in self.variants and self.wants('cached_boot'):
            self.cached_boot(side, label)

    def rounds(self):
        everyone = self.hosts + self.machines
        for number in range(self.options.rounds):
            first = number % max(1, len(everyone))  # the order turns with each round, so that nothing is always first
            for side in everyone[first:] + everyone[:first]:
                self.one_side(side, number)

    def print_results(self):
        for variant in [v.name for v in self.variants] or ['none']:
            rows = [self.report.line(variant, w.name) for w in self.workloads]
            for group in ('compute', 'young'):
                members = [r for r in rows if BY_NAME[r['name']].group == group]
                if len(members) > 1 and variant != 'none':
                    self.report.geomean(variant, group + '_geomean', members)
            if self.wants('boot') and variant != 'none':
                self.report.line(variant, 'xl_cycles_per_insn')
                self.report.line(variant, 'vmm_overhead')


def main():
    options = parse_arguments()
    if options.list:
        for workload in TABLE:
            print(f'{workload.name:20} {workload.group}')
        return 0
    try:
        workloads = chosen(options.only)
    except LookupError as error:
        die(f'no workload or group is called {error} (--list prints them)')
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, workloads, scratch)
        bench.rounds()
    bench.print_results()
    if options.json:
        with open(options.json, 'w') as out:
            json.dump(bench.report.rows, out, indent=1)
    for problem in bench.problems:
        print(f'problem {problem}')
    return 1 if bench.problems else 0


if __name__ == '__main__':
    sys.exit(main())
