#!/usr/bin/env python3
"""The debugger's door: gdb's remote protocol, spoken by a client of our own, and by gdb where it is installed.

  gdb.py TRANSVISOR STEPS.elf [--watched WATCHED.elf] [--steps N] [-k WORD]
"""
import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import xml.dom.minidom

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rsp  # noqa: E402

ROUNDS = 320
GENERAL = ['eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi']
ACCESS, READ, WRITE, HARD, SOFT = 4, 3, 2, 1, 0
SKIP = 'skipped'


def same(got, want, what):
    assert got == want, f'{what}: {got!r}, not {want!r}'


class Machine:
    """The guest under a debugger that has just come in. It stands before its first instruction."""

    def __init__(self, bench, *words, elf=None, guest=None, paused=True, client=True, **popen):
        self.path = os.path.join(bench.folder, 'door')
        elf = elf or bench.steps
        out = subprocess.PIPE if popen else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [bench.program, 'run', *(guest or [elf]), '--memory', '16M', '--engine', bench.engine]
            + ['--debug-exit', '0xf4']
            + ([] if '--gdb' in words else ['--gdb', 'unix:' + self.path])
            + (['--paused'] if paused else [])
            + ([] if popen else ['--serial', 'null'])
            + list(words),
            stdin=popen.get('stdin', subprocess.DEVNULL),
            stdout=out,
            stderr=subprocess.PIPE,
        )
        bench.processes.append(self.process)
        self.client = rsp.connect(self.path, alive=lambda: self.process.poll() is None) if client else None

    def end(self, status):
        err = self.process.communicate(timeout=rsp.LIMIT)[1].decode()
        same(self.process.returncode, status, f'status ({err})')
        return err


class Bench:
    def __init__(self, args, folder):
        self.program, self.steps, self.watched = args.transvisor, args.steps, args.watched
        self.folder, self.engine, self.processes = folder, 'bt', []
        self.steps_made = args.steps_made
        text = subprocess.run(['nm', self.steps], stdout=subprocess.PIPE, check=True, text=True).stdout
        self.at = {line.split()[2]: int(line.split()[0], 16) for line in text.splitlines()}

    def stop(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
                p.communicate()
        self.processes = []


# ---- registers, memory, documents ----


def test_the_machine_stands_before_its_first_instruction_and_is_shown_as_it_is(bench):
    c = Machine(bench).client
    same(c.ask(b'?'), b'T02thread:01;', 'why it stands')
    r = c.registers()
    same(r['eip'], bench.at['_start'], 'eip')
    same(r['eax'], 0x2BADB002, 'eax')
    same(c.register(8), r['eip'], 'p8')
    with open(bench.steps, 'rb') as f:
        same(c.memory(r['eip'], 8) in f.read(), True, 'code at eip')
    for name in ('features:read:target.xml', 'memory-map:read:'):
        xml.dom.minidom.parseString(re.sub('<!DOCTYPE[^>]*>', '', c.document(name)))
    text = c.document('features:read:target.xml')
    for feature in ('i386.core', 'i386.sse', 'transvisor.i386.system'):
        assert feature in text, feature
    names = re.findall(r'<reg name="(\w+)" bitsize="(\d+)"', text)
    same(len(c.ask(b'g')), sum(int(bits) // 4 for _, bits in names), 'length of g')
    cr0 = [n for n, _ in names].index('cr0')
    same(c.register(cr0) & 0x80000001, 1, 'cr0')
    same(c.ask(b'p%x' % len(names)), b'E16', 'a register that is none')


def test_registers_and_memory_can_be_written(bench):
    c = Machine(bench).client
    c.good(b'P0=78563412')
    same(c.registers()['eax'], 0x12345678, 'eax')
    g = c.ask(b'g')
    c.good(b'G' + g[:8] + b'efbeadde' + g[16:])
    same(c.registers()['ecx'], 0xDEADBEEF, 'ecx')
    same(c.ask(b'P9=ffffffff'), b'E16', 'flags that there are not')
    c.good(b'M%x,4:01020304' % bench.at['copy'])
    same(c.memory(bench.at['copy'], 4), b'\1\2\3\4', 'memory')
    c.good(b'X%x,4:}\x03}\x04}]*' % bench.at['copy'])
    same(c.memory(bench.at['copy'], 4), b'#$}*', 'memory, written as it is')
    same(c.ask(b'm%x,4' % 0xF0000000), b'E0e', 'where there is nothing')
    same(c.ask(b'mzz,4'), b'E16', 'an address that is none')
    same(c.ask(b'M%x,4:01' % bench.at['copy']), b'E16', 'too few bytes')
    same(c.ask(b'Qqemu.PhyMemMode:x'), b'E16', 'a mode that is none')
    same(c.ask(b'qqemu.PhyMemMode'), b'0', 'mode')
    c.good(b'Qqemu.PhyMemMode:1')
    same(c.memory(bench.at['copy'], 4), b'#$}*', 'by physical address')
    same(c.ask(b'nonsense'), b'', 'a packet that is none')


def test_x87_and_sse_registers_are_shown(bench):
    m = Machine(bench)
    c = m.client
    c.add(SOFT, bench.at['after_read'])
    c.go()
    tags = c.register(26)
    assert tags != 0xFFFF, hex(tags)
    same(c.register(16), 0, 'st0 after fldz')
    same(c.register(33) & 0xFFFFFFFF, int.from_bytes(b'watc', 'little'), 'xmm1')
    c.good(b'P21=' + b'0102030405060708090a0b0c0d0e0f10')
    same(c.register(33), int.from_bytes(bytes(range(1, 17)), 'little'), 'xmm1, written')
    same(c.register(26), tags, 'ftag')
    c.good(b'P1a=ffff0000')
    same(c.register(26), 0xFFFF, 'ftag, written')


def test_the_monitor_shows_tables_and_chips(bench):
    m = Machine(bench)
    c = m.client
    c.add(SOFT, bench.at['round'])
    c.go()
    assert re.search(r'0008: base 00000000 limit ffffffff dpl 0 code32', c.monitor('info gdt'))
    assert re.search(r'80: 0008:%08x dpl 0 interrupt32' % bench.at['int80'], c.monitor('info idt'))
    same(c.monitor('info mem'), 'paging is off\n', 'info mem')
    assert 'pic.' in c.monitor('info pic') and 'lapic' in c.monitor('info apic')
    assert 'rtc.' in c.monitor('info chip rtc')
    assert "no chip 'nothing'" in c.monitor('info chip nothing')
    assert 'eip %08x' % bench.at['round'] in c.monitor('info registers')
    assert 'there are:' in c.monitor('info nothing')


# ---- steps ----


def traced(bench):
    """What the interpreter executes: a list of registers, of the first of each run of instructions at one place."""
    p = subprocess.run(
        [bench.program, 'run', bench.steps, '--memory', '16M', '--engine', 'interp', '--debug-exit', '0xf4']
        + ['--serial', 'null', '--trace', 'exec'],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    same(p.returncode, 15, 'status')
    return rsp.traced_rows(p.stderr.decode())


def test_thousands_of_steps_are_those_of_the_interpreters_trace(bench):
    want = traced(bench)
    assert len(want) > bench.steps_made, len(want)
    c = Machine(bench).client
    r, steps = c.registers(), 0
    for i, row in enumerate(want[: bench.steps_made + 1]):
        got = {name: r[name] for name in GENERAL + ['eip', 'eflags']}
        same({k: hex(v) for k, v in got.items()}, {k: hex(row[k]) for k in got}, f'instruction {i}')
        while r['eip'] == row['eip']:
            c.step()
            r, steps = c.registers(), steps + 1
    assert steps > bench.steps_made * 1.03, steps  # a repeated instruction is stepped through


def test_a_step_goes_through_what_is_easily_stepped_over(bench):
    c = Machine(bench).client
    c.add(HARD, bench.at['after_counter'])
    c.go()
    c.remove(HARD, bench.at['after_counter'])
    c.step()
    same(c.registers()['eip'], bench.at['int80'], 'after INT')
    c.step()
    c.step()
    same(c.registers()['eip'], bench.at['after_int'], 'after IRET')
    where = [c.registers()['eip']]
    for _ in range(6):  # sti, nop, cli, mov from ss, mov to ss, mov esp
        c.step()
        where.append(c.registers()['eip'])
    same([b - a for a, b in zip(where, where[1:])], [1, 1, 1, 3, 2, 5], 'lengths')


# ---- breakpoints ----


def test_breakpoints_are_met_each_time_and_memory_does_not_show_them(bench):
    m = Machine(bench)
    c = m.client
    at, before = bench.at['int80'], None
    before = c.memory(at, 8)
    c.add(SOFT, at)
    c.add(SOFT, at)  # twice is once
    for i in range(20):
        same(c.go(), 'T05swbreak:;thread:01;', 'why')
        r = c.registers()
        same((r['eip'], r['ebx']), (at, ROUNDS - i), 'where')
        same(c.memory(at, 8), before, 'code')
    c.remove(SOFT, at)
    c.add(SOFT, bench.at['end'])
    c.go()
    same(c.word(bench.at['counter']), ROUNDS, 'rounds')
    same(c.go(), 'W0f', 'end')
    m.end(15)


def test_a_breakpoint_in_code_that_has_run_is_met(bench):
    m = Machine(bench)
    c = m.client
    c.add(SOFT, bench.at['back'])
    for _ in range(100):
        c.go()
    c.add(SOFT, bench.at['after_int'])
    same(c.go(), 'T05swbreak:;thread:01;', 'why')
    same(c.registers()['eip'], bench.at['after_int'], 'where')


def test_there_may_be_a_thousand_breakpoints(bench):
    c = Machine(bench).client
    for i in range(1000):
        c.add(SOFT, 0x400000 + 13 * i)
    c.add(SOFT, bench.at['user'])
    c.go()
    same(c.registers()['eip'], bench.at['user'], 'where')
    same(c.registers()['cs'], 0x1B, 'cs')


def test_watchpoints_are_met_behind_the_access(bench):
    m = Machine(bench)
    c = m.client
    c.add(WRITE, bench.at['counter'], 4)
    for i in range(1, 6):
        same(c.go(), 'T05watch:%x;thread:01;' % bench.at['counter'], 'why')
        same((c.registers()['eip'], c.word(bench.at['counter'])), (bench.at['after_counter'], i), 'where')
    c.remove(WRITE, bench.at['counter'], 4)
    c.add(READ, bench.at['watched'] + 1, 1)
    same(c.go(), 'T05rwatch:%x;thread:01;' % (bench.at['watched'] + 1), 'why')
    same(c.registers()['eip'], bench.at['after_read'], 'where')
    c.remove(READ, bench.at['watched'] + 1)
    c.add(ACCESS, bench.at['locked'], 4)
    same(c.go(), 'T05awatch:%x;thread:01;' % bench.at['locked'], 'why')
    c.remove(ACCESS, bench.at['locked'], 4)
    same(c.ask(b'Z2,%x,2000' % bench.at['locked']), b'E16', 'one that is too long')


def test_a_repeated_instruction_stops_where_it_meets_a_watchpoint(bench):
    c = Machine(bench).client
    c.add(WRITE, bench.at['copy'] + 4, 1)
    c.go()
    r = c.registers()
    same((r['edi'], r['ecx']), (bench.at['copy'] + 5, 2), 'after the fifth byte of seven')


def test_more_watchpoints_than_a_processor_has(bench):
    c = Machine(bench).client
    for i in range(30):
        c.add(WRITE, bench.at['idt_end'] + 8 * i, 4)
    c.add(WRITE, bench.at['sum'], 4)
    c.add(WRITE, bench.at['counter'], 4)
    where = [c.go() for _ in range(4)]
    sum_, counter = ('T05watch:%x;thread:01;' % bench.at[n] for n in ('sum', 'counter'))
    same(where, [counter, sum_, sum_, counter], 'in this order')


def test_stepping_onto_a_watchpoint_tells_of_it(bench):
    c = Machine(bench).client
    c.add(SOFT, bench.at['round'])
    c.go()
    c.add(WRITE, bench.at['counter'], 4)
    same(c.ask(b's'), b'T05watch:%x;thread:01;' % bench.at['counter'], 'why')


def test_user_code_in_pages_meets_breakpoints_whoever_runs_it(bench):
    """Direct execution, too: a page with breakpoints is not run directly, others are."""
    if not bench.watched:
        return SKIP
    text = subprocess.run(['nm', bench.watched], stdout=subprocess.PIPE, check=True, text=True).stdout
    at = {line.split()[2]: int(line.split()[0], 16) for line in text.splitlines()}
    where, counter = 0x08048000 + at['loop_end'] - at['work'], 0x08080010
    direct = [] if bench.engine == 'interp' else ['--direct', 'always']
    try:
        m = Machine(bench, *direct, elf=bench.watched)
        c = m.client
        c.add(SOFT, where)
        why = c.go()
    except (rsp.Lost, OSError):  # it may end before it has answered
        why = 'W'
    if why.startswith('W'):
        err = bench.processes[-1].communicate(timeout=rsp.LIMIT)[1].decode()
        assert 'runs no 32-bit code' in err, err
        return SKIP
    for _ in range(50):
        same(why, 'T05swbreak:;thread:01;', 'why')
        r = c.registers()
        same((r['eip'], r['cs'] & 3), (where, 3), 'where')
        why = c.go()
    c.remove(SOFT, where)
    c.add(WRITE, counter, 4)
    for _ in range(20):
        same(c.go(), 'T05watch:%x;thread:01;' % counter, 'why')
    c.remove(WRITE, counter, 4)
    why = c.go()
    assert why.startswith('W'), why  # the guest judges its own debug registers
    m.end(int(why[1:], 16))
    same(why, 'W23', 'the guest')  # as run_insn.py has it
    return None


# ---- coming and going ----


def run_to_its_end(bench, c):
    """The guest is there in no time, but between so many debuggers it has run for moments only."""
    for _ in range(rsp.LIMIT * 10):
        if c.registers()['eip'] == bench.at['back']:
            return
        c.start()
        time.sleep(0.1)
        c.interrupt()
    same(c.registers()['eip'], bench.at['back'], 'where')


def test_debuggers_come_and_go_a_hundred_times_while_it_runs(bench):
    m = Machine(bench)
    c = m.client
    c.good(b'M%x,2:ebfe' % bench.at['back'])  # jmp .
    c.good(b'D')
    for i in range(100):
        c = rsp.connect(m.path)
        r = c.registers()
        if i == 50:
            run_to_its_end(bench, c)
            c.good(b'P%x=%s' % (8, bench.at['round'].to_bytes(4, 'little').hex().encode()))
        if i % 3 == 0:
            c.good(b'D')
        elif i % 3 == 1:
            c.add(SOFT, bench.at['after_int'])
        else:
            c.start()
        c.close()
    c = rsp.connect(m.path)
    run_to_its_end(bench, c)
    c.start()
    same(c.interrupt(), 'T02thread:01;', 'Ctrl-C')
    c.write(rsp.framed(b'k'))
    m.end(0)


def test_a_second_debugger_is_turned_away(bench):
    m = Machine(bench)
    second = socket.socket(socket.AF_UNIX)
    second.settimeout(rsp.LIMIT)
    second.connect(m.path)
    same(second.recv(1), b'', 'the second')
    same(m.client.registers()['eip'], bench.at['_start'], 'the first')


def test_whatever_comes_the_machine_lives(bench):
    m = Machine(bench)
    m.client.good(b'M%x,2:ebfe' % bench.at['back'])  # jmp .
    # It gets there first: each client stops it, and the next may come before it has gone on by one instruction.
    m.client.add(SOFT, bench.at['back'])
    m.client.go()
    m.client.remove(SOFT, bench.at['back'])
    m.client.close()
    for junk in (
        b'\0' * 100000,
        b'$' * 50000,
        b'$' + b'a' * 100000 + b'#00',
        b'$m1,',
        b'$#00',
        b'}#$}',
        b'\x03' * 1000,
        b'$Z0,#00$Z9,1,1#00',
        b'$vCont;x#00',
        b'$qXfer:features:read:target.xml:ffffffffffff,1#00',
        b'$M0,ffffffffffffffff:00#00',
        b'-' * 1000,
    ):
        s = socket.socket(socket.AF_UNIX)
        s.connect(m.path)
        try:
            s.sendall(junk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        s.close()
    c = rsp.Client(m.path, acks=True)
    same(c.registers()['eip'], bench.at['back'], 'where')
    c.write(b'$?#00')
    same(c.byte(), b'-', 'a wrong sum')
    c.write(rsp.framed(b'k'))
    m.end(0)


def test_one_that_does_not_read_holds_up_nothing(bench):
    m = Machine(bench)
    try:
        m.client.socket.settimeout(20)
        for _ in range(2000):
            m.client.write(rsp.framed(b'g') * 100)
    except (BrokenPipeError, ConnectionResetError):
        pass
    m.end(15)  # it is let go, and comes to its end


def test_signals_and_time_outs_end_a_machine_that_stands(bench):
    m = Machine(bench)
    m.process.terminate()
    m.end(143)
    Machine(bench, '--timeout', '0.5').end(124)


def test_a_guest_that_dies_stands_for_the_debugger(bench):
    m = Machine(bench)
    c = m.client
    c.add(SOFT, bench.at['after_int'])
    c.go()
    c.good(b'M%x,2:0f0b' % bench.at['undefined'])  # ud2 in its own handler
    c.good(b'M%x,8:%s' % (bench.at['idt'] + 8 * 6, b'00' * 8))
    c.good(b'M%x,2:0f0b' % bench.at['after_int'])
    c.remove(SOFT, bench.at['after_int'])
    same(c.go(), 'T0bthread:01;', 'why')
    same(c.registers()['eip'], bench.at['after_int'], 'where')
    same(c.go(), 'W03', 'end')
    m.end(3)


def test_standard_input_is_a_door_as_well(bench):
    m = Machine(bench, '--gdb', 'stdio', client=False, stdin=subprocess.PIPE)
    c = rsp.Client((m.process.stdin, m.process.stdout))
    same(c.registers()['eip'], bench.at['_start'], 'eip')
    c.add(SOFT, bench.at['int80'])
    c.go()
    same(c.registers()['eip'], bench.at['int80'], 'eip')
    m.process.stdin.close()  # whoever started it has gone
    m.process.wait(timeout=rsp.LIMIT)
    same(m.process.returncode, 0, 'status')


def test_words_that_are_wrong_are_told(bench):
    for words, status, text in (
        (['--gdb', 'nowhere:1'], 2, '--gdb nowhere:1: is none of tcp:'),
        (['--gdb', 'tcp:x'], 2, '--gdb tcp:x: is not [ADDRESS:]PORT'),
        (['--gdb', 'unix:/nowhere/at/all'], 1, '--gdb unix:/nowhere/at/all: No such file'),
        (['--gdb', 'stdio', '--serial', 'stdio'], 2, '--serial stdio: standard input and output are --gdb'),
    ):
        command = [bench.program, 'run', bench.steps, *words]
        p = subprocess.run(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        same(p.returncode, status, words)
        assert text in p.stderr.decode(), (words, p.stderr)


# ---- gdb ----


def run_gdb(path, *commands, elf=None):
    words = ['gdb', '-nx', '-batch', *([elf] if elf else []), '-ex', 'set confirm off', '-ex', f'target remote {path}']
    for command in commands:
        words += ['-ex', command]
    p = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120)
    return p.stdout.decode(errors='replace')


def test_debians_gdb_finds_its_way(bench):
    if not shutil.which('gdb'):
        return SKIP
    m = Machine(bench, client=False)
    end = time.monotonic() + rsp.LIMIT
    while not os.path.exists(m.path) and time.monotonic() < end:
        time.sleep(0.02)
    out = run_gdb(
        m.path,
        'hbreak round', 'continue', 'printf "HERE %x\\n", $eip', 'break int80', 'continue', 'printf "INT %x\\n", $eip',
        'stepi', 'stepi', 'printf "IRET %x\\n", $eip', 'delete', 'watch *(int *)&counter', 'continue',
        'printf "COUNTER %d at %x\\n", *(int *)&counter, $eip', 'printf "CR0 %x\\n", $cr0', 'x/2i $eip',
        'p $xmm1.v4_int32[0]', 'p $st0', 'info registers eflags', 'monitor info gdt',
        'delete', 'tbreak end', 'continue',
        'printf "END %d\\n", *(int *)&counter', 'detach',
        elf=bench.steps,
    )  # fmt: skip
    for text in (
        'HERE %x' % bench.at['round'], 'INT %x' % bench.at['int80'], 'IRET %x' % bench.at['after_int'],
        'COUNTER 2 at %x' % bench.at['after_counter'], 'int    $0x80', 'dpl 0 code32', f'END {ROUNDS}', 'CR0 ',
        'Old value = 1', 'New value = 2',
    ):  # fmt: skip
        assert text in out, f'{text} is not in:\n{out}'
    m.end(15)
    return None


# JMP F000:E000, where the processor begins; MOV AX, 3; PUSH AX; JMP back one.
ROM = {0xFFF0: '\xea\x00\xe0\x00\xf0', 0xE000: '\xb8\x03\x00\x50\xeb\xfd'}


def test_code_of_16_bits_is_shown_as_such(bench):
    rom = bytearray(0x10000)
    for at, code in ROM.items():
        rom[at : at + len(code)] = code.encode('latin-1')
    path = os.path.join(bench.folder, 'rom')
    with open(path, 'wb') as f:
        f.write(rom)
    c = Machine(bench, guest=['--firmware', path, '--display', 'none']).client
    assert '<architecture>i8086' in c.document('features:read:target.xml')
    same(c.memory(0xFFFFFFF0, 5), rom[0xFFF0:0xFFF5], 'where the processor begins')
    same(c.memory(0xFE000, 6), rom[0xE000:0xE006], 'the same ROM below 1 MiB')
    for want in (0xE000, 0xE003, 0xE004, 0xE003):
        c.step()
        same(c.registers()['eip'], want, 'after a step')
    c.good(b'D')
    c.close()
    if not shutil.which('gdb'):
        return SKIP
    out = run_gdb(os.path.join(bench.folder, 'door'), 'show architecture', 'x/i 0xffff0', 'x/3i 0xfe000', 'detach')
    for text in ('i8086', 'ljmp   $0xf000,$0xe000', 'mov    $0x3,%ax', 'push   %ax'):
        assert text in out, f'{text} is not in:\n{out}'
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('transvisor')
    parser.add_argument('steps')
    parser.add_argument('--watched')
    parser.add_argument('--steps', dest='steps_made', metavar='N', type=int, default=2000)
    parser.add_argument('-k', default='')
    args = parser.parse_args()
    failed, ran = 0, 0
    for name, test in list(globals().items()):
        if not name.startswith('test_') or args.k not in name:
            continue
        for engine in ('bt', 'interp'):
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(args, folder)
                bench.engine = engine
                begin = time.monotonic()
                try:
                    what = test(bench) or 'ok'
                except (AssertionError, rsp.Lost, TimeoutError, subprocess.TimeoutExpired, OSError) as e:
                    what, failed = f'FAILED: {type(e).__name__}: {e}', failed + 1
                finally:
                    bench.stop()
                print(f'{engine} {name[5:]} ({time.monotonic() - begin:.1f} s): {what}', flush=True)
                ran += 1
    print(f'{ran} cases, {failed} failed')
    return failed > 0 or not ran


if __name__ == '__main__':
    sys.exit(main())
