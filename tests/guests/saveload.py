#!/usr/bin/env python3
"""A script guest is saved in the middle of its work and goes on in another process: its checksums stay what they are.

  saveload.py --transvisor PROGRAM [--work DIR] CASE
  saveload.py --list [--long yes|no]

A case is a chain of processes. Each runs the guest until it has printed a few more checksums, is stopped by SIGTERM and
saves (--save-at-exit); the next loads that file, perhaps with another engine; the last one runs to the end. `signals`
is one process instead, which SIGUSR1 saves twenty times; the tenth of these files then runs to its own end as well.
"""
import argparse
import configparser
import os
import signal
import subprocess
import sys
import time

import run_guest
from run_guest import Failure

BT = ['--engine', 'bt', '--direct', 'off']
INTERP = ['--engine', 'interp']
DIRECT = ['--engine', 'bt', '--direct', 'always']
CASES = {  # options of each process, whether it takes long
    'bt-interp-bt': ([BT, INTERP, BT], False),
    'direct': ([DIRECT, DIRECT, BT, DIRECT], False),
    'signals': ([['--engine', 'bt']], False),
    'interp-bt-interp': ([INTERP, BT, INTERP], True),
    'twenty': ([BT, DIRECT, BT, INTERP] * 5 + [BT], True),
}
NOT_HERE = 77  # the host cannot do what the case is about
GUEST = {'kernel': 'KERNEL_686', 'init': 'script', 'check': 'selftest'}
BOOT = ['--append', 'console=ttyS0 panic=-1 loglevel=1', '--memory', '128M']
PATIENCE = 300  # seconds, for each process


class Leg:
    """One process, with its output."""

    def __init__(self, words, work, name):
        self.errors = open(os.path.join(work, name + '.err'), 'wb')
        self.log = open(os.path.join(work, name + '.log'), 'ab')
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors)
        self.console = run_guest.Console(self.process, self.log)

    def text(self):
        with self.console.changed:
            return self.console.text.decode('latin-1')

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self):
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure('it did not end in time') from None
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        with self.console.changed:
            self.console.changed.wait_for(lambda: self.console.ended, 10)
        self.errors.close()
        self.log.close()
        return status


def expect(status, wanted, leg, errors):
    if status != wanted:
        with open(errors) as f:
            raise Failure(f'process {leg}: status {status}, not {wanted}; it said: {f.read().strip()}')


def sums_wait(leg, count):
    """Until that many checksums are out, or it ends."""
    deadline = time.monotonic() + PATIENCE
    while len(run_guest.sums(leg.text())) < count:
        if leg.console.ended:
            return False
        if time.monotonic() > deadline:
            raise Failure(f'only {len(run_guest.sums(leg.text()))} checksums in {PATIENCE} s')
        time.sleep(0.02)
    return True


def chain(program, work, name, legs, boot, busybox):
    snap, text = os.path.join(work, name + '.snap'), ''
    for i, options in enumerate(legs):
        words = [program, 'run'] + options + ['--save-at-exit', snap]
        if i:
            os.replace(snap, snap + '.old')
            words += ['--load', snap + '.old']
        else:
            words += boot
        leg = Leg(words, work, name)
        last = i == len(legs) - 1
        if not last and not sums_wait(leg, 1 if len(legs) > 10 else 3):
            last = i >= 10  # it was quicker than we, but has been moved often enough
        elif not last and len(legs) <= 10:
            time.sleep(0.1)  # into the next one
        status = leg.end() if last else leg.stop()
        expect(status, 0 if last else 128 + signal.SIGTERM, i, leg.errors.name)
        text += leg.text()
        if last:
            break
    run_guest.check_selftest(text, busybox)


def signals(program, work, name, options, boot, busybox):
    snap = os.path.join(work, name + '.snap')
    for path in (snap, snap + '.kept'):
        if os.path.exists(path):
            os.remove(path)
    leg = Leg([program, 'run'] + options + boot + ['--save', snap], work, name)
    before = ''
    sums_wait(leg, 1)
    for n in range(20):
        leg.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(snap):
            if leg.console.ended or time.monotonic() > deadline:
                raise Failure(f'signal {n} made no file')
            time.sleep(0.01)
        if n == 9:
            before = leg.text()
            os.replace(snap, snap + '.kept')
        else:
            os.remove(snap)
    expect(leg.end(), 0, 'with signals', leg.errors.name)
    run_guest.check_selftest(leg.text(), busybox)
    # What was printed after the save is printed again by the one that goes on from there.
    later = Leg([program, 'run', '--load', snap + '.kept'], work, name)
    expect(later.end(), 0, 'from the tenth file', later.errors.name)
    whole, rest = dict(run_guest.sums(leg.text())), run_guest.sums(later.text())
    if not rest or any(whole[n] != v for n, v in rest):
        raise Failure(f'from the tenth file on: {rest}, in the first process {whole}')
    if len(run_guest.sums(before)) + len(rest) + 1 < len(whole):
        raise Failure(
            f'{len(run_guest.sums(before))} checksums before the tenth save and {len(rest)} after it '
            f'are not {len(whole)}'
        )


def run(options, name):
    legs = CASES[name][0]
    guests = configparser.ConfigParser()
    guests.read_dict({name: GUEST})
    kernel, initramfs, busybox = run_guest.images(guests[name], options.work)
    boot = ['--kernel', kernel, '--initrd', initramfs] + BOOT
    if any(leg is DIRECT for leg in legs):
        # Where the host cannot, this is an error before anything runs; else the guest runs for a moment.
        probe = subprocess.Popen(
            [options.transvisor, 'run'] + DIRECT + boot + ['--serial', 'null'], stderr=subprocess.PIPE, text=True
        )
        try:
            said = probe.communicate(timeout=1)[1]
        except subprocess.TimeoutExpired:
            probe.terminate()
            said = probe.communicate()[1]
        if '--direct: ' in said:
            print(f'{name}: not on this host: {said.strip()}')
            return NOT_HERE
    log = os.path.join(options.work, name + '.log')
    if os.path.exists(log):
        os.remove(log)
    if name == 'signals':
        signals(options.transvisor, options.work, name, legs[0], boot, busybox)
    else:
        chain(options.transvisor, options.work, name, legs, boot, busybox)
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work', default='.')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', choices=('yes', 'no'))
    parser.add_argument('name', nargs='?')
    options = parser.parse_args()
    if options.list:
        print(
            '\n'.join(name for name, (_, long) in CASES.items() if not options.long or long == (options.long == 'yes'))
        )
        return 0
    if options.name not in CASES or not options.transvisor:
        parser.error(f'one of {" ".join(CASES)} and --transvisor are needed')
    os.makedirs(options.work, exist_ok=True)
    start = time.monotonic()
    try:
        status = run(options, options.name)
    except Failure as why:
        log = os.path.join(options.work, options.name + '.log')
        if os.path.exists(log):
            print(f'--- {log}, its end:\n{run_guest.tail(log, 30)}')
        print(f'saveload.py: {options.name}: {why}')
        return 1
    print(f'{options.name}: {"skipped" if status else "passed"} in {time.monotonic() - start:.1f} s')
    return status


if __name__ == '__main__':
    sys.exit(main())
