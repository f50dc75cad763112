#!/usr/bin/env python3
"""QEMU's own client of QMP against --monitor: its library for Python, as programs use it, its older interface, and
qmp-shell, which a person types at. They come from QEMU's sources (tests/guests/fetch.sh); status 77: there are none.

  qmp_client.py TRANSVISOR [-k WORD]
"""
import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'guests'))
from fetched import fetched  # noqa: E402

LIMIT = 60
SPINNING = '02b0ad1b 00000100 fe4f51e4 00001000 00001000 00000000 00000000 20001000 faebfe'  # Multiboot; cli; jmp .


def same(got, want, what):
    assert got == want, f'{what}: {got!r}, not {want!r}'


class Machine:
    def __init__(self, program, folder, source):
        self.path, self.folder, self.source = os.path.join(folder, 'monitor'), folder, source
        kernel = os.path.join(folder, 'spin')
        with open(kernel, 'wb') as file:
            file.write(bytes.fromhex(SPINNING))
        with open(os.path.join(folder, 'a.iso'), 'wb') as file:
            file.write(b'\0' * 65536)
        self.process = subprocess.Popen(
            [program, 'run', '--kernel', kernel, '--memory', '16M', '--serial', 'null', '--timeout', str(LIMIT)]
            + ['--cdrom', os.path.join(folder, 'a.iso'), '--monitor', 'unix:' + self.path],
            stdin=subprocess.DEVNULL,
        )
        end = time.monotonic() + LIMIT
        while not os.path.exists(self.path):
            assert time.monotonic() < end and self.process.poll() is None, 'there is no monitor'
            time.sleep(0.02)

    def ended(self):
        same(self.process.wait(timeout=LIMIT), 0, 'status')

    def shell(self, lines, *words):
        """What qmp-shell answers to lines."""
        environment = {**os.environ, 'PYTHONPATH': os.path.join(self.source, 'python'), 'HOME': self.folder}
        done = subprocess.run(
            [sys.executable, '-B', '-m', 'qemu.qmp.qmp_shell', *words, self.path],
            input=''.join(line + '\n' for line in lines),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=environment,
            check=False,
        )
        same((done.returncode, done.stderr), (0, ''), 'qmp-shell')
        return done.stdout


async def until(events, name):
    """The next event of that name."""
    while (event := await asyncio.wait_for(events.get(), LIMIT))['event'] != name:
        pass
    return event


async def as_programs_do(machine):
    from qemu.qmp import ExecuteError, QMPClient  # pylint: disable=import-outside-toplevel

    client = QMPClient('test')
    await client.connect(machine.path)
    same(client.greeting.QMP.version['package'][:10], 'transvisor', 'greeting')
    with client.listener() as events:
        same((await client.execute('query-status'))['status'], 'running', 'at first')
        await client.execute('stop')
        assert (await until(events, 'STOP'))['timestamp']['seconds'] > 0
        same((await client.execute('query-status'))['running'], False, 'after stop')
        out = os.path.join(machine.folder, 'out')
        await client.execute('pmemsave', {'val': 0x100000, 'size': 35, 'filename': out})
        with open(out, 'rb') as file:
            same(file.read().hex(), SPINNING.replace(' ', ''), 'memory')
        for command, arguments in (('nothing', None), ('stop', {'x': 1}), ('pmemsave', {'val': 'a'})):
            try:
                await client.execute(command, arguments)
                raise AssertionError(f'{command} was done')
            except ExecuteError as error:
                same(error.error_class, 'CommandNotFound' if command == 'nothing' else 'GenericError', command)
        await client.execute('cont')
        await until(events, 'RESUME')
        # Many at once: each gets its own answer.
        many = [client.execute('query-status') if i % 2 else client.execute('query-version') for i in range(200)]
        for i, answer in enumerate(await asyncio.gather(*many)):
            same('running' in answer, bool(i % 2), f'answer {i}')
        await client.execute('system_reset')
        same((await until(events, 'RESET'))['data']['guest'], False, 'reset')
        await client.disconnect()
    client = QMPClient('after it')  # the door is open again once the first has been seen to go
    for _ in range(LIMIT * 20):
        try:
            await client.connect(machine.path)
            break
        except Exception:  # pylint: disable=broad-except  # the library has one for each step of it
            await asyncio.sleep(0.05)
    with client.listener() as events:
        await client.execute('quit')
        same((await until(events, 'SHUTDOWN'))['data']['reason'], 'host-qmp-quit', 'end')
    try:
        await client.disconnect()
    except EOFError:
        pass  # the machine was faster


def test_its_library(machine):
    asyncio.run(as_programs_do(machine))
    machine.ended()


def test_its_older_interface(machine):
    from qemu.qmp.legacy import QEMUMonitorProtocol  # pylint: disable=import-outside-toplevel

    asyncio.set_event_loop(asyncio.new_event_loop())  # it takes the thread's
    client = QEMUMonitorProtocol(machine.path)
    client.settimeout(LIMIT)
    same('QMP' in client.connect(), True, 'greeting')
    same(client.cmd('query-name'), {'return': {}}, 'name')
    same(client.command('query-block')[0]['removable'], True, 'drive')
    client.command('eject', device='ide0-cd0')
    client.command('blockdev-change-medium', id='ide0-cd0', filename=os.path.join(machine.folder, 'a.iso'))
    assert 'a.iso' in client.command('query-block')[0]['inserted']['file']
    client.command('send-key', keys=[{'type': 'qcode', 'data': 'a'}])
    same(client.command('human-monitor-command', **{'command-line': 'info status'}), 'VM status: running\n', 'text')
    client.command('stop')
    same(client.pull_event(wait=float(LIMIT))['event'], 'STOP', 'event')
    client.close()


def test_a_person_at_qmp_shell(machine):
    out = os.path.join(machine.folder, 'out')
    said = machine.shell(
        ['query-version', 'stop', 'query-status', f'memsave val=1048576 size=16 filename={out}', '', 'nothing']
        + ['send-key keys=[{"type":"qcode","data":"ctrl"}]', 'cont', 'query-status', 'stop x=1']
    )
    for text in ('"package": "transvisor', '"status": "paused"', "'event': 'STOP'", 'The command nothing has not been'):
        assert text in said, (text, said)
    same(said.count('{"return": {}}'), 4, said)
    assert '"status": "running"' in said and "Parameter 'x' is unexpected" in said, said
    same(os.path.getsize(out), 16, 'memory')


def test_a_person_at_its_human_shell(machine):
    said = machine.shell(['info status', 'info registers', 'nothing', 'help'], '-H')
    for text in ('VM status: running', 'eip 00100', "unknown command: 'nothing'", 'system_reset'):
        assert text in said, (text, said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('transvisor')
    parser.add_argument('-k', default='')
    options = parser.parse_args()
    source = fetched("QEMU's sources are not to be had", 'qemu-source')['QEMU_SOURCE']
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.join(source, 'python'))
    failed, ran = 0, 0
    for name, test in list(globals().items()):
        if not name.startswith('test_') or options.k not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            begin, machine = time.monotonic(), Machine(options.transvisor, folder, source)
            try:
                test(machine)
                what = 'ok'
            except (Exception, asyncio.TimeoutError) as error:  # pylint: disable=broad-except  # the library's, too
                what, failed = f'FAILED: {type(error).__name__}: {error}', failed + 1
            finally:
                machine.process.kill()
                machine.process.wait()
        print(f'{name[5:]} ({time.monotonic() - begin:.1f} s): {what}', flush=True)
        ran += 1
    print(f'{ran} cases, {failed} failed')
    return failed > 0 or not ran


if __name__ == '__main__':
    sys.exit(main())
