#!/usr/bin/env python3
"""The monitor's door: QMP as programs speak it, and the human monitor behind it.

  qmp.py TRANSVISOR STEPS.elf [-k WORD]
"""
import argparse
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import kill9  # noqa: E402

LIMIT = 30


def same(got, want, what):
    assert got == want, f'{what}: {got!r}, not {want!r}'


def run_top(g, path, *words):
    return subprocess.run(
        [g.program, 'top', f'unix:{path}', *words],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
    )


class Client:
    """Keeps events apart from answers, as every client does."""

    def __init__(self, path, known=True):
        end = time.monotonic() + LIMIT
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except (ConnectionRefusedError, FileNotFoundError):
                assert time.monotonic() < end
                time.sleep(0.02)
        self.socket.settimeout(LIMIT)
        self.file = self.socket.makefile('rb')
        self.events = []
        self.greeting = json.loads(self.file.readline())
        if known:
            same(self.ask('qmp_capabilities'), {'return': {}}, 'capabilities')

    def read(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def raw(self, data):
        self.socket.sendall(data)
        return self.answer()

    def answer(self):
        while True:
            message = self.read()
            if message is None or 'event' not in message:
                return message
            self.events.append(message)

    def ask(self, execute, **arguments):
        request = {'execute': execute}
        if arguments:
            request['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        return self.raw(json.dumps(request).encode() + b'\n')

    def do(self, execute, **arguments):
        answer = self.ask(execute, **arguments)
        assert 'return' in answer, (execute, answer)
        return answer['return']

    def error(self, execute, **arguments):
        return self.ask(execute, **arguments)['error']

    def event(self, name):
        while True:
            for e in self.events:
                if e['event'] == name:
                    self.events.remove(e)
                    return e
            message = self.read()
            assert message is not None, f'no {name}'
            self.events.append(message)

    def human(self, line):
        return self.do('human-monitor-command', command_line=line)


class Bench:
    def __init__(self, args, folder):
        self.program, self.steps, self.folder = args.transvisor, args.steps, folder
        self.path, self.processes = os.path.join(folder, 'monitor'), []
        with open(os.path.join(folder, 'spin'), 'wb') as f:  # Multiboot; cli; jmp .
            f.write(bytes.fromhex('02b0ad1b 00000100 fe4f51e4 00001000 00001000 00000000 00000000 20001000'))
            f.write(b'\xfa\xeb\xfe')

    def start(self, *words, kernel='spin', known=True, **popen):
        settings = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE}
        settings.update(popen)
        words = [w.replace('@', self.folder) for w in words]
        p = subprocess.Popen(
            [self.program, 'run', '--kernel', self.steps if kernel == 'steps' else os.path.join(self.folder, kernel)]
            + ['--memory', '16M', '--debug-exit', '0xf4', '--monitor', 'unix:' + self.path, *words],
            **settings,
        )
        self.processes.append(p)
        return p, Client(self.path, known)

    def stop(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.communicate()


def ended(p, status):
    p.wait(timeout=LIMIT)
    same(p.returncode, status, 'status')


def test_a_client_is_greeted_and_has_to_make_itself_known(bench):
    _, c = bench.start(known=False)
    same(sorted(c.greeting['QMP']), ['capabilities', 'version'], 'greeting')
    same(sorted(c.greeting['QMP']['version']['qemu']), ['major', 'micro', 'minor'], 'version')
    same(c.error('query-status')['class'], 'CommandNotFound', 'before')
    same(c.do('qmp_capabilities'), {}, 'capabilities')
    same(c.error('qmp_capabilities')['class'], 'CommandNotFound', 'twice')
    names = {n['name'] for n in c.do('query-commands')}
    for name in ('query-status', 'stop', 'cont', 'quit', 'query-commands', 'query-block', 'screendump', 'send-key'):
        assert name in names, name


def test_each_request_has_its_answer(bench):
    _, c = bench.start()
    same(c.raw(b'{"execute":"query-kvm","id":{"a":[1,"\\u00e9"]}}')['id'], {'a': [1, 'é']}, 'id')
    same(c.raw(b'{"execute":"nothing","id":7}')['id'], 7, 'id of an error')
    same(c.error('nothing')['class'], 'CommandNotFound', 'unknown')
    same(c.raw(b'{"id":1}')['error']['desc'], "QMP input lacks member 'execute'", 'no execute')
    same(c.raw(b'{"execute":"stop","arguments":[]}')['error']['class'], 'GenericError', 'arguments')
    same(c.error('memsave', val=1, size=1)['desc'], "Parameter 'filename' is missing", 'missing')
    same(c.error('stop', x=1)['desc'], "Parameter 'x' is unexpected", 'unexpected')
    same(
        c.error('memsave', val='1', size=1, filename='x')['desc'],
        "Invalid parameter type for 'val', expected: integer",
        'type',
    )
    same(c.error('query-balloon')['desc'], 'No balloon device has been activated', 'no balloon')
    same(c.error('balloon', value=0)['class'], 'GenericError', 'no memory at all')
    both = b'{"execute":"query-name"}{"execute":"query-kvm"}  {"execute":\n"query-target"}'
    same([c.raw(both), c.answer(), c.answer()][2], {'return': {'arch': 'i386'}}, 'three at once')
    for piece in (b'{"exec', b'ute":', b'"query-na', b'me"'):
        c.socket.sendall(piece)
        time.sleep(0.01)
    same(c.raw(b'}'), {'return': {}}, 'in pieces')


def test_the_machine_stops_and_goes_on_and_says_so(bench):
    _, c = bench.start()
    same(c.do('query-status'), {'running': True, 'singlestep': False, 'status': 'running'}, 'at first')
    c.do('stop')
    stamp = c.event('STOP')['timestamp']
    assert abs(stamp['seconds'] - time.time()) < 60, stamp
    same(c.do('query-status')['status'], 'paused', 'stopped')
    c.do('stop')
    c.do('cont')
    c.event('RESUME')
    same(c.do('query-status')['running'], True, 'going on')
    same(c.events, [], 'nothing else')


def test_a_reset_and_an_end_are_told(bench):
    p, c = bench.start()
    c.do('system_reset')
    same(c.event('RESET')['data'], {'guest': False, 'reason': 'host-qmp-system-reset'}, 'reset')
    c.do('quit')
    same(c.event('SHUTDOWN')['data'], {'guest': False, 'reason': 'host-qmp-quit'}, 'quit')
    same(c.read(), None, 'the end')
    ended(p, 0)


def test_a_guests_own_reset_and_end_are_told(bench):
    p, c = bench.start('--paused', kernel='steps')
    c.do('cont')
    c.event('RESUME')
    same(c.event('SHUTDOWN')['data'], {'guest': True, 'reason': 'guest-shutdown'}, 'end')
    ended(p, 15)


def test_memory_goes_to_files(bench):
    _, c = bench.start('--paused', kernel='steps')
    path = os.path.join(bench.folder, 'memory')
    with open(bench.steps, 'rb') as f:
        elf = f.read()
    for command in ('memsave', 'pmemsave'):
        c.do(command, val=0x100000, size=300, filename=path)
        with open(path, 'rb') as f:
            data = f.read()
        assert len(data) == 300 and data[:256] in elf, command
        os.unlink(path)
    same(c.error('memsave', val=0xFFF00000, size=16, filename=path)['class'], 'GenericError', 'nothing there')
    assert 'No such file' in c.error('pmemsave', val=0, size=16, filename='/nowhere/x')['desc']
    same(c.error('memsave', val=-1, size=16, filename=path)['class'], 'GenericError', 'negative')


def test_a_machine_is_saved_and_goes_on_from_there(bench):
    p, c = bench.start()
    path = os.path.join(bench.folder, 'saved')
    c.do('__org.transvisor_save', filename=path)
    assert os.path.getsize(path) > 1000
    c.do('quit')
    ended(p, 0)
    words = [bench.program, 'run', '--load', path, '--timeout', '0.3', '--serial', 'null', '--debug-exit', '0xf4']
    same(subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode, 124, 'loaded')


def test_keys_and_mouse(bench):
    _, c = bench.start('--vga', 'std')
    key = {'type': 'qcode', 'data': 'a'}
    c.do('send-key', keys=[{'type': 'qcode', 'data': k} for k in ('ctrl', 'alt', 'delete')])
    assert 'no key' in c.error('send-key', keys=[{'type': 'qcode', 'data': 'nothing'}])['desc']
    same(c.error('send-key', keys=[1])['class'], 'GenericError', 'no key')
    events = [
        {'type': 'key', 'data': {'down': True, 'key': key}},
        {'type': 'key', 'data': {'down': False, 'key': key}},
        {'type': 'rel', 'data': {'axis': 'x', 'value': 10}},
        {'type': 'btn', 'data': {'down': True, 'button': 'left'}},
    ]
    c.do('input-send-event', events=events)
    for bad in ({'type': 'abs', 'data': {'axis': 'x', 'value': -1}}, {'type': 'btn', 'data': {'button': 'x'}}, {}, 7):
        assert "at 1 what is no" in c.error('input-send-event', events=[events[0], bad])['desc'], bad
    path = os.path.join(bench.folder, 'screen.png')
    c.do('screendump', filename=path)
    with open(path, 'rb') as f:
        same(f.read(4), b'\x89PNG', 'screen')


def test_drives_are_shown_and_their_media_change(bench):
    for name in ('a.iso', 'b.iso'):
        with open(os.path.join(bench.folder, name), 'wb') as f:
            f.write(b'\0' * 65536)
    _, c = bench.start('--cdrom', '@/a.iso')
    (d,) = c.do('query-block')
    same((d['device'], d['removable'], d['inserted']['file'][-5:]), ('ide0-cd0', True, 'a.iso'), 'at first')
    c.do('blockdev-change-medium', id='ide0-cd0', filename=os.path.join(bench.folder, 'b.iso'))
    same(c.do('query-block')[0]['inserted']['file'][-5:], 'b.iso', 'changed')
    c.do('eject', device='ide0-cd0')
    assert 'inserted' not in c.do('query-block')[0]
    same(c.error('eject', device='nothing')['desc'], "Device 'nothing' not found", 'unknown')
    assert 'not inserted' in c.human('info block')


def test_the_human_monitor_answers_as_text(bench):
    _, c = bench.start()
    assert 'system_reset' in c.human('help')
    same(c.human('stop'), '', 'stop')
    c.event('STOP')
    same(c.human('info status'), 'VM status: paused\n', 'status')
    eip = int(re.search('eip ([0-9a-f]+)', c.human('info registers'))[1], 16)
    want = {0: 'fa eb', 1: 'eb fe'}[eip - 0x100020]  # CLI; and on the spot
    same(c.human('x 0x%x 2' % eip), '%08x: %s\n' % (eip, want), 'code')
    assert 'unknown command' in c.human('nonsense')
    assert 'usage: sendkey' in c.human('sendkey')
    assert 'there is no memory' in c.human('x 0xfff00000')
    same(c.human(''), '', 'nothing')
    same(c.human('step'), '', 'step')
    c.event('RESUME')
    c.event('STOP')
    same(c.do('query-status')['status'], 'debug', 'after a step')


def test_symbols_name_addresses_and_top_shows_where_the_guest_is(bench):
    with open(os.path.join(bench.folder, 'map'), 'w') as f:
        f.write('00100020 T spinning\n00100100 T elsewhere\n')
    p, c = bench.start('--symbols', '@/map')
    same(c.human('info symbol spinning'), 'spinning is at 00100020\n', 'a name')
    same(c.human('info symbol 0x100104'), '00100104 is elsewhere+0x4\n', 'an address')
    same(c.human('info symbol nothing'), "there is no symbol 'nothing'\n", 'none')
    end = time.monotonic() + LIMIT
    while 'eip is spinning+0x1' not in (said := c.human('info registers')):  # it may not have begun
        assert 'eip is spinning+0x0' in said and time.monotonic() < end, said
    same(c.human('info where'), 'spinning\n', 'where')
    assert json.loads(c.human('info stats'))['guest_ns'] > 0
    c.file.close()
    c.socket.close()
    end = time.monotonic() + LIMIT
    while (top := run_top(bench, bench.path, '--once')).returncode:  # until the door has noticed that nobody is there
        assert time.monotonic() < end, top.stderr
    assert 'VM status: running  idle ' in top.stdout and '  100.0 %  spinning\n' in top.stdout, top.stdout
    assert top.stdout.count('\n') <= 24 and 'exits a second\n' in top.stdout and not top.stderr, top.stdout
    p.kill()
    p.wait()
    top = run_top(bench, bench.path)
    assert top.returncode == 1 and top.stderr.count('\n') == 1 and 'Connection refused' in top.stderr, top.stderr


def without_room(p):
    """No file of the started machine may grow beyond 100 KiB. Returns the limit that was."""
    hard = resource.prlimit(p.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (100 << 10, hard))
    return hard


def test_a_host_without_room_stops_the_machine_and_nothing_is_lost(bench):
    # The guest writes its number to sector number * STEP, and then sends it: the third lies beyond a MiB.
    with open(os.path.join(bench.folder, 'writer'), 'wb') as f:
        f.write(kill9.guest(3))
    for kind in 'raw', 'qcow2':
        image = os.path.join(bench.folder, kind)
        subprocess.run([bench.program, 'img', 'create', '-q', '-f', kind, image, '8M'], check=True)
        words = '--disk', f'{image},format={kind}'
        p, c = bench.start('--paused', *words, kernel='writer', stdout=subprocess.PIPE)
        hard = without_room(p)
        c.do('cont')
        data = c.event('BLOCK_IO_ERROR')['data']
        said = data['device'], data['operation'], data['action'], data['nospace']
        same(said, ('ide0-hd0', 'write', 'stop', True), kind)
        c.event('STOP')
        same(c.do('query-status')['status'], 'io-error', 'status')
        c.do('cont')  # there is still no room
        c.event('BLOCK_IO_ERROR')
        c.event('STOP')
        assert 'failed' in c.error('__org.transvisor_save', filename=os.path.join(bench.folder, 'saved'))['desc']
        resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (hard, hard))
        c.do('cont')
        same(struct.unpack('<I', p.stdout.read(4)), (3,), 'what is on disk')
        c.do('quit')
        ended(p, 0)
        raw = os.path.join(bench.folder, 'copy')
        subprocess.run([bench.program, 'img', 'convert', '-q', '-f', kind, '-O', 'raw', image, raw], check=True)
        with open(raw, 'rb') as f:
            f.seek(512 * kill9.sector_of(3))
            same(f.read(512), struct.pack('<I', 3) * 128, f'{kind}: its sector')
        os.remove(image)


def test_a_host_without_room_is_the_guests_error_where_that_is_said(bench):
    with open(os.path.join(bench.folder, 'writer'), 'wb') as f:
        f.write(kill9.guest(3))
    image = os.path.join(bench.folder, 'small')
    with open(image, 'wb') as f:
        f.truncate(8 << 20)
    p, c = bench.start('--paused', '--disk', image + ',format=raw,werror=report', kernel='writer')
    without_room(p)
    c.do('cont')
    same(c.event('BLOCK_IO_ERROR')['data']['action'], 'report', 'action')
    p.wait(timeout=LIMIT)
    assert p.returncode & 1 and p.returncode != 1, p.returncode  # the error register, by the debug-exit port


def test_garbage_is_answered_by_an_error_and_the_machine_lives(bench):
    p, c = bench.start()
    for junk in (
        b'nonsense\n',
        b'{"execute":}\n',
        b'[1,2]\n',
        b'{' * 1000 + b'\n',
        b'{"a":"\xff"}\n',
        b'\0\n',
        b'{"a":1,"a":2}\n',
    ):
        assert 'error' in c.raw(junk), junk
    same(c.do('query-name'), {}, 'afterwards')
    c.socket.sendall(b'x' * 10_000_000 + b'\n')
    assert 'error' in c.answer()
    c.socket.sendall(b'{"execute":"' + b'y' * 10_000_000 + b'"}\n')
    assert 'error' in c.answer()
    same(c.do('query-name'), {}, 'after 20 MB')
    for junk in (b'{"execute":"stop', b'{"execute":"query-commands"}' * 1000, b''):
        c.socket.sendall(junk)
        c.socket.close()
        c.file.close()
        c = Client(bench.path)
    second = socket.socket(socket.AF_UNIX)
    second.settimeout(LIMIT)
    second.connect(bench.path)
    same(second.recv(1), b'', 'a second client')
    p.terminate()
    same(c.event('SHUTDOWN')['data']['reason'], 'host-signal', 'end')
    ended(p, 143)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('transvisor')
    parser.add_argument('steps')
    parser.add_argument('-k', default='')
    args = parser.parse_args()
    failed, ran = 0, 0
    for name, test in list(globals().items()):
        if not name.startswith('test_') or args.k not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            bench, begin = Bench(args, folder), time.monotonic()
            try:
                test(bench)
                what = 'ok'
            except (AssertionError, TimeoutError, KeyError, TypeError, OSError, subprocess.TimeoutExpired) as e:
                what, failed = f'FAILED: {type(e).__name__}: {e}', failed + 1
            finally:
                bench.stop()
            print(f'{name[5:]} ({time.monotonic() - begin:.1f} s): {what}', flush=True)
            ran += 1
    print(f'{ran} cases, {failed} failed')
    return failed > 0 or not ran


if __name__ == '__main__':
    sys.exit(main())
