#!/usr/bin/env python3
"""What networks and shared folders cost, in turns with QEMU's TCG: iperf3 both ways and ping through user networking,
for each card; a tar ball of the kernel's headers unpacked into a shared folder, and a find there.

    bench/around.py [--transvisor PROGRAM] [--contestants transvisor,qemu] [--runs 3] [--seconds 3] [--json FILE]

Times are the host's, throughputs iperf3's at the receiver. Ratios say how many times as fast as QEMU. With --json, what
the file has of earlier runs is part of it.
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import contestants  # noqa: E402  (what is beside this file)
import material  # noqa: E402

MODELS = {'virtio': ('virtio_net', 'virtio-net-pci'), 'e1000': ('e1000', 'e1000'), 'pcnet': ('pcnet32', 'pcnet')}
BELOW = {'ping': 'ms', 'untar': 's', 'find': 's'}  # of what less is better, the unit; of all else it is Mbit/s


class Server:
    """An iperf3 that the guest can reach: the system's, or the one that fetch.sh has."""

    def __init__(self):
        self.port = free_port()
        self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        for line in self.process.stdout:
            if b'listening' in line:
                threading.Thread(target=self.process.stdout.read, daemon=True).start()  # nobody is kept waiting
                return
        raise RuntimeError('iperf3 does not listen')

    def command(self):
        words = ['-s', '--forceflush', '-p', str(self.port)]
        if found := shutil.which('iperf3'):
            return [found, *words]
        root = material.fetched_root('network', 'amd64')
        libraries = ':'.join(os.path.join(root, d) for d in ('lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'))
        loader = os.path.join(root, 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2')
        return [loader, '--library-path', libraries, os.path.join(root, 'usr/bin/iperf3'), *words]

    def close(self):
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


def command(contestant, options, image, append, share):
    """The machine, with a card of each model and the folder."""
    linux = [options.kernel, image, f'{contestants.APPEND} {append}']
    if contestant == 'qemu':
        words = ['qemu-system-i386', '-accel', 'tcg', '-m', '512M', '-nographic', '-no-reboot', '-cpu', 'n270']
        words += ['-kernel', linux[0], '-initrd', linux[1], '-append', linux[2]]
        for model in options.models:
            words += ['-netdev', f'user,id={model}', '-device', f'{MODELS[model][1]},netdev={model},romfile=']
        return words + ['-virtfs', f'local,path={share},mount_tag=share0,security_model=none']
    program = options.programs[contestant]
    words = [program, 'run', '--kernel', linux[0], '--initrd', linux[1], '--append', linux[2], '--memory', '512M']
    for model in options.models:
        words += ['--net', f'user,model={model}']
    return words + ['--serial', 'stdio', '--share', share]


def measure(arguments, timeout):
    """{what: value} of one boot."""
    figures, pings, what, begun, said = {}, {}, None, 0, []
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as machine:
        killer = threading.Timer(timeout, machine.kill)
        killer.start()
        for raw in machine.stdout:
            now, line = time.monotonic(), raw.decode('latin-1').strip()
            said.append(line)
            if word := re.search(r'AROUND (\w+)$', line):
                if word[1] == 'end' and what in BELOW:
                    figures[what] = now - begun
                what, begun = word[1], now
            elif rate := re.search(r'([\d.]+) Mbits/sec .*receiver', line):
                figures[what] = float(rate[1])
            elif answer := re.search(r'time=([\d.]+) ms', line):
                pings.setdefault(what, []).append(float(answer[1]))
        killer.cancel()
    if what != 'done':
        raise RuntimeError(f'{arguments[0]} ended too early: ' + ' | '.join(said[-8:]))
    return {**figures, **{name: statistics.median(values) for name, values in pings.items()}}


def kind(what):
    return what.rpartition('_')[2]


def table(results, names):
    """results: {contestant: {what: [value]}}"""
    medians = {c: {what: statistics.median(values) for what, values in results[c].items()} for c in names}
    print(f'{"":24}' + ''.join(f'{c:>14}' for c in names) + ''.join(f'{"beside " + c:>16}' for c in names[1:]))
    for what in results[names[0]]:
        unit = BELOW.get(kind(what), 'Mbit/s')
        row = [medians[c].get(what) for c in names]
        cells = ''.join('             -' if v is None else f'{v:14.3f}' if v < 10 else f'{v:14.0f}' for v in row)
        for other in row[1:]:
            ratio = (other / row[0] if kind(what) in BELOW else row[0] / other) if other else None
            cells += '               -' if ratio is None else f'{ratio:15.2f}x'
        print(f'{what + ", " + unit:24}' + cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--transvisor', default=os.path.join(HERE, '..', 'build', 'transvisor'))
    parser.add_argument('--contestants', default='transvisor,qemu', help='a build as NAME=PROGRAM is one, too')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--seconds', type=int, default=3, help='of each iperf3')
    parser.add_argument('--models', default=','.join(MODELS), help='cards; an empty word: none')
    parser.add_argument('--share', choices=('yes', 'no'), default='yes')
    parser.add_argument('--timeout', type=int, default=300, help='seconds for one boot')
    parser.add_argument('--json', help='all figures of all runs')
    options = parser.parse_args()
    words = [c.partition('=') for c in options.contestants.split(',')]
    names = [name for name, _, _ in words]
    options.programs = {name: os.path.abspath(file or options.transvisor) for name, _, file in words}
    options.models = [m for m in options.models.split(',') if m]
    options.kernel = material.kernel_path('686')
    results = {name: {} for name in names}
    if options.json and os.path.exists(options.json):
        with open(options.json, encoding='ascii') as file:
            results = {**results, **json.load(file)}
    server = Server()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            image = os.path.join(scratch, 'around.cpio')
            material.pack('around', image, None, material.fetched_root('network', 'i386'), material.modules())
            append = f'around.port={server.port} around.seconds={options.seconds} around.share={options.share} '
            append += 'around.net=' + ','.join(MODELS[m][0] for m in options.models)
            for number in range(options.runs):
                turn = number % len(names)  # nobody is always first
                for name in names[turn:] + names[:turn]:
                    with tempfile.TemporaryDirectory(dir=scratch) as share:
                        arguments = command(name, options, image, append, share)
                        for what, value in measure(arguments, options.timeout).items():
                            results[name].setdefault(what, []).append(value)
                    if options.json:
                        with open(options.json, 'w', encoding='ascii') as file:
                            json.dump(results, file, indent=1)
    finally:
        server.close()
    table(results, names)


if __name__ == '__main__':
    main()
