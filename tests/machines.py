#!/usr/bin/env python3
"""Machines by name from outside: new, list, start, console, stop, rm. Guests are those of cli.py, a few bytes each.

  machines.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD)
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import cli
from cli import ECHO, HALT, LIMIT, POWEROFF, TRIPLE, cases, check, multiboot, read

# mov edx,600h; in ax,dx; test ah,1 (PM1_STS: PWRBTN); jz back; then power off
BUTTON = b'\xba\x00\x06\0\0\x66\xed\xf6\xc4\x01\x74\xf9' + POWEROFF


class Home:
    """A user without machines. Short, since a socket's name is short."""

    def __init__(self, bench, xdg=True):
        self.bench = bench
        self.name = 'one' if xdg else f'one{os.getpid()}'  # /tmp is everybody's
        self.dir = os.path.join(bench.dir, 'h')
        os.makedirs(self.dir, exist_ok=True)
        self.env = {'HOME': self.dir, 'PATH': os.environ['PATH']}
        if xdg:
            for name in ('CONFIG_HOME', 'DATA_HOME', 'RUNTIME_DIR'):
                self.env['XDG_' + name] = os.path.join(self.dir, name)
            os.mkdir(self.env['XDG_RUNTIME_DIR'], 0o700)
        self.config = os.path.join(self.dir, 'CONFIG_HOME' if xdg else '.config', 'transvisor')
        self.data = os.path.join(self.dir, 'DATA_HOME' if xdg else '.local/share', 'transvisor')

    def ask(self, *words, status=0):
        done = subprocess.run([os.path.abspath(self.bench.program), *words], cwd=self.bench.dir, env=self.env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
        check(done.returncode == status, f'{words}: status {done.returncode}, {done.stdout!r}, {done.stderr!r}')
        if status:
            check(done.stderr.count('\n') == 1, f'{words}: {done.stderr!r}')
        return done.stdout if status == 0 else done.stderr

    def guest(self, code):
        with open(os.path.join(self.bench.dir, 'guest'), 'wb') as f:
            f.write(multiboot(code))
        return 'guest'

    def made(self, code, *words):
        return self.ask('new', self.name, self.guest(code), '-m', '16', '--engine', self.bench.engine, *words)

    def machines(self):
        return {m['name']: m for m in json.loads(self.ask('list', '--json'))}

    def state(self, want):
        deadline = time.monotonic() + LIMIT
        while (m := self.machines()[self.name])['state'] != want:
            check(time.monotonic() < deadline, f'not {want}: {m}')
            time.sleep(0.05)
        return m

    def end(self):
        for m in self.machines().values():
            if 'pid' in m:
                os.kill(m['pid'], signal.SIGKILL)


def home(case):
    """The case of a bench, with a home whose machines are gone afterwards."""

    def run(b):
        h = Home(b)
        try:
            case(h)
        finally:
            h.end()

    run.__name__ = case.__name__
    return run


@home
def a_machine_is_started_by_its_name_and_powers_off_by_its_button(h):
    check('transvisor start one' in h.made(BUTTON, '--for', 'win98', '--disk', '3G,bus=virtio'), 'new')
    with open(os.path.join(h.config, 'one.json')) as f:
        told = json.load(f)
    check(told['kernel'] == os.path.join(h.bench.dir, 'guest') and told['disk'] == 'disk.qcow2,bus=virtio', f'{told}')
    image = os.path.join(h.data, 'one', 'disk.qcow2')
    check(json.loads(h.ask('img', 'info', '--json', image))['virtual-size'] == 3 << 30, 'its image')
    want = {'name': 'one', 'state': 'off', 'for': 'win98', 'disks': [{'file': image, 'size': 3 << 30}]}
    check(h.machines() == {'one': want}, f'{h.machines()}')
    check(h.ask('list').splitlines()[1].split() == ['one', 'off', 'win98', 'disk.qcow2', '3G'], h.ask('list'))
    check('one runs' in h.ask('start', 'one'), 'start')
    m = h.state('running')
    with open(f'/proc/{m["pid"]}/stat', encoding='latin-1') as f:
        terminal = int(f.read().rsplit(')', 1)[1].split()[4])  # of its session
    check(terminal == 0 and os.getsid(m['pid']) == m['pid'], 'a terminal')
    check('one runs already' in h.ask('start', 'one', status=1), 'a second start')
    check('one runs already' in h.ask('rm', 'one', '--force', status=1), 'rm of one that runs')
    h.ask('stop', 'one')
    check(h.machines() == {'one': want}, f'{h.machines()}')
    check('does not run' in h.ask('stop', 'one', status=1), 'a second stop')
    check('disk.qcow2' in h.ask('rm', 'one', status=1) and os.path.exists(image), 'rm without --force')
    h.ask('rm', 'one', '--force')
    check(h.machines() == {} and not os.listdir(h.data) and not os.listdir(h.config), 'something is left')


@home
def a_guest_that_does_not_listen_is_ended_by_force(h):
    h.made(HALT)
    h.ask('start', 'one')
    said = h.ask('stop', 'one', '--timeout', '0.3', status=1)
    check('--force' in said and h.state('running'), said)
    h.ask('stop', 'one', '--force')
    check(h.state('off'), 'its state')
    h.ask('rm', 'one')


@home
def a_machine_that_is_killed_has_crashed_and_can_be_started_again(h):
    h.made(BUTTON)
    h.ask('start', 'one')
    os.kill(h.state('running')['pid'], signal.SIGKILL)
    check('pid' not in h.state('crashed'), 'a process')
    h.ask('start', 'one')
    h.ask('stop', 'one')
    check(h.state('off'), 'its state')


@home
def how_a_machine_has_ended_is_listed(h):
    h.made(TRIPLE)
    h.ask('start', 'one')
    h.state('died')
    with open(os.path.join(h.data, 'one', 'log')) as f:
        check('triple fault' in f.read(), 'its log')
    os.remove(os.path.join(h.bench.dir, 'guest'))
    said = h.ask('start', 'one', status=1)
    check('guest: No such file' in said and h.state('failed')['status'] == 1, said)


@home
def a_console_is_this_terminal_until_the_user_leaves(h):
    h.made(ECHO)
    h.ask('start', 'one')
    with subprocess.Popen([os.path.abspath(h.bench.program), 'console', 'one'], env=h.env, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as c:
        c.stdin.write(b'a\x01b')
        c.stdin.flush()
        check(read(c.stdout.fileno(), 3) == b'a\x01b', 'what a pipe says')
        c.kill()
    master, slave = pty.openpty()
    c = subprocess.Popen([os.path.abspath(h.bench.program), 'console', 'one'], env=h.env, stdin=slave, stdout=slave,
                         stderr=subprocess.PIPE)
    c.stderr.readline()
    os.write(master, b'hello\x01\x01')
    check(read(master, 6) == b'hello\x01', 'what a terminal says')
    os.write(master, b'\x01x')
    check(c.wait(LIMIT) == 0 and h.state('running'), 'leaving')
    os.close(master)
    os.close(slave)
    h.ask('stop', 'one', '--force')
    check('does not run' in h.ask('console', 'one', status=1), 'a console of none')


class Terminal:
    """What a terminal shows, taken piece by piece."""

    def __init__(self, fd):
        self.fd, self.said = fd, b''

    def until(self, text):
        """What comes up to that, and with it."""
        deadline = time.monotonic() + LIMIT
        while text not in self.said:
            ready = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))[0]
            check(ready, f'{text} is not in {self.said}')
            self.said += os.read(self.fd, 4096)
        end = self.said.index(text) + len(text)
        got, self.said = self.said[:end], self.said[end:]
        return got


@home
def ctrl_a_c_on_a_console_opens_the_machines_monitor(h):
    h.made(ECHO)
    h.ask('start', 'one')
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('4H', 24, 30, 0, 0))
    c = subprocess.Popen([os.path.abspath(h.bench.program), 'console', 'one'], env=h.env, stdin=slave, stdout=slave,
                         stderr=subprocess.PIPE)
    c.stderr.readline()
    shown = Terminal(master)
    os.write(master, b'before')
    shown.until(b'before')  # what the guest says is shown while the monitor is there, too
    os.write(master, b'\x01c')
    shown.until(b'(transvisor) ')
    os.write(master, b'info stat\t')  # completed, which shows two
    shown.until(b'stats')
    os.write(master, b'us\r')
    check(b'VM status: running\r\n' in shown.until(b'running\r\n'), 'status')
    os.write(master, b'stop\rinfo status\r')
    shown.until(b'VM status: paused\r\n')
    os.write(master, b'cont\r')
    shown.until(b'cont')
    os.write(master, b'x' * 60 + b'\x15end')  # a line that is wider than the terminal is shown in part
    row = shown.until(b' end')
    check(b'x' * 15 in row and b'x' * 16 not in row, 'the width')
    os.write(master, b'\x15\x01cafter')
    shown.until(b'after')
    os.write(master, b'\x01c')
    check(b'lists its commands' not in shown.until(b'(transvisor) '), 'greeted twice')
    os.write(master, b'\x10')  # the history stays
    shown.until(b'cont')
    os.write(master, b'\x15quit\r')
    check(c.wait(LIMIT) == 0, 'the end')
    os.close(master)
    os.close(slave)
    h.state('off')
    check(os.listdir(os.path.join(h.env['XDG_RUNTIME_DIR'], 'transvisor')) == [], 'a socket is left')


@home
def options_for_one_start_count_more(h):
    h.made(ECHO, '--serial', 'null')
    h.ask('start', 'one', '--serial', 'file:out')
    check('elsewhere' in h.ask('console', 'one', status=1), 'a console of a file')
    check(os.path.exists(os.path.join(h.bench.dir, 'out')), 'a file where it was typed')
    h.ask('stop', 'one', '--force')
    check('not within' in h.ask('start', 'one', '-m', '1', status=2) and h.state('failed'), 'a wrong one')


@home
def a_file_edited_by_hand_names_files_in_the_machines_folder(h):
    h.made(POWEROFF)
    os.rename(os.path.join(h.bench.dir, 'guest'), os.path.join(h.data, 'one', 'kernel'))
    path = os.path.join(h.config, 'one.json')
    with open(path, 'w') as f:
        json.dump({'kernel': 'kernel', 'memory': 16}, f)
    h.ask('start', 'one')
    h.state('off')
    with open(path, 'w') as f:
        f.write('{\n"memroy": 16 }')
    said = h.ask('start', 'one', status=2)
    check('one.json:2:' in said and 'did you mean memory' in said, said)


@home
def names_of_files_are_written_as_absolute_ones(h):
    h.made(HALT, '--initrd', 'a,b', '--cdrom', 'c,,d.iso,readonly=on', '--cdrom', '', '--disk', 'file=e,snapshot=on',
           '--disk', '/f', '--parallel', 'null', '--cache', 'g', '--append', 'h')
    with open(os.path.join(h.config, 'one.json')) as f:
        told = json.load(f)
    want = {'kernel': '@/guest', 'initrd': '@/a,@/b', 'cdrom': ['@/c,,d.iso,readonly=on', ''],
            'disk': ['file=@/e,snapshot=on', '/f'], 'parallel': 'null', 'cache': '@/g', 'append': 'h', 'memory': '16',
            'engine': h.bench.engine}
    check(told == json.loads(json.dumps(want).replace('@', h.bench.dir)), f'{told}')


@home
def wrong_names_and_machines_that_are_not_there_are_told(h):
    for name in ('../x', 'a/b', '', '.x', 'x' * 41, 'a b', 'a\n', '\u00e9'):
        for verb in ('new', 'start', 'stop', 'rm', 'console'):
            check('is no name of a machine' in h.ask(verb, name, status=2), f'{verb} {name!r}')
    for verb in ('start', 'stop', 'rm', 'console'):
        check("there is no machine 'gone'" in h.ask(verb, 'gone', status=1), verb)
    check('name comes first' in h.ask('new', '--disk', '1G', 'one', status=2), 'the name last')
    check('NAME is missing' in h.ask('new', status=2), 'no name')
    check(h.ask('list') == '' and h.ask('list', '--json') == '[\n]\n', 'a list of none')
    check('nothing to boot' in h.ask('new', 'one', status=2), 'nothing to boot')
    check('did you mean' in h.ask('new', 'one', '--disk', '1G', '--for', 'win99', status=2), 'a wrong preset')
    check('out of range' in h.ask('new', 'one', '--disk', '8388608T', status=2), 'a large disk')
    check(h.machines() == {}, 'one was made')
    h.made(HALT)
    check("a machine 'one' already" in h.ask('new', 'one', 'guest', status=1), 'twice')


def everything_works_without_xdg_variables(b):
    h = Home(b, xdg=False)
    try:
        h.made(BUTTON, '--disk', '1M')
        check(os.path.exists(os.path.join(h.dir, f'.config/transvisor/{h.name}.json')), 'its file')
        check(os.path.exists(os.path.join(h.dir, f'.local/share/transvisor/{h.name}/disk.qcow2')), 'its image')
        h.ask('start', h.name)
        console = h.state('running')['console']
        st = os.stat(os.path.dirname(console))
        check(console == f'/tmp/transvisor-{os.geteuid()}/{h.name}' and st.st_mode & 0o777 == 0o700, console)
        h.ask('stop', h.name)
        check(not os.path.exists(console), 'its socket is left')
    finally:
        h.end()


CASES = [v for v in list(globals().values()) if getattr(v, '__name__', '') and getattr(v, '__module__', '') == __name__
         and hasattr(v, '__code__') and v.__code__.co_varnames[: v.__code__.co_argcount] == ('b',)]

if __name__ == '__main__':
    sys.exit(cli.main(CASES, ('bt',), 'machines.py'))
