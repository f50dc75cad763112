#!/usr/bin/env python3
"""Probes from outside: --probe, do=, --call. Guests are those of cli.py, a few bytes each.

  probes.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD), under both engines
"""
import os
import re
import struct
import subprocess
import sys

import cli
from cli import SPIN, check, out8

END = out8(0xF4, 3) + SPIN
# mov ecx,100; L: nop; dec ecx; jnz L
LOOP = b'\xb9\x64\x00\x00\x00' + b'\x90\x49\x75\xfc' + END

LIBRARY = '''
#include <stdint.h>
#include <stdio.h>
const char told_signature[] = "int (uint32_t, const char *)";
int told(uint32_t n, const char *text) { fprintf(stderr, "told %u %s\\n", n, text); return 1; }
uint32_t undeclared(uint32_t n) { return n + 0x1000; }
const char nothing_signature[] = "void (void)";
void nothing(void) { }
'''


def library(b):
    source, path = os.path.join(b.dir, 'lib.c'), os.path.join(b.dir, 'lib.so')
    with open(source, 'w') as f:
        f.write(LIBRARY)
    subprocess.run(['gcc', '-shared', '-fPIC', '-o', path, source], check=True)
    return path


def run(b, code, *words, status=7):
    got, _, err = b.start(code, '--debug-exit', '0xf4', *words).end()
    check(got == status, f'status {got} instead of {status}: {err!r}')
    return err


def hits(err):
    return [int(n) for n in re.findall(r'^probe .*: (\d+)$', err, re.M)]


def what_is_counted_is_printed_at_the_end(b):
    err = run(
        b, LOOP, '--probe', 'insn=nop', '--probe', 'insn=dec,if=ecx<=10', '--probe', 'insn=dec,cpl=3', '--probe', 'out'
    )
    check(hits(err) == [100, 10, 0, 1], err)


def values_are_printed_and_counted_by_their_size(b):
    err = run(b, LOOP, '--probe', 'insn=nop,if=ecx==5,do=print:ecx+la', '--probe', 'insn=nop,do=histogram:ecx')
    check('insn=nop,if=ecx==5: ecx=5 la=100025\n' in err, err)
    check('  ecx 64: 1\n' in err or '  ecx 1: 1\n' in err, err)
    check('68 more values' in err, err)


def a_probe_can_end_the_machine(b):
    err = run(b, LOOP, '--probe', 'insn=dec,if=ecx==7,do=stop', '--probe', 'insn=nop', status=0)
    check(hits(err) == [1, 94], err)


def accesses_to_a_range_are_told_with_their_value(b):
    # mov dword [200004h], 12345678h; mov eax, [200008h]; mov al, [200005h]
    code = bytes.fromhex('c7050400200078563412 a108002000 a005002000') + END
    err = run(
        b,
        code,
        *('--probe', 'write,at=0x200000-0x200006,do=print:address+size+value'),
        *('--probe', 'read,at=0x200000-0x200007,do=print:address+size+value'),
    )
    check(': address=200004 size=4 value=12345678\n' in err, err)
    check(': address=200005 size=1 value=56\n' in err, err)
    check(hits(err) == [1, 1], err)


def a_function_gets_registers_and_memory(b):
    path = library(b)
    # mov ebx, offset text; mov esi, 42; push esi; cpuid; ..; text
    code = b'\xbc\x00\x00\x20\x00\xbb' + struct.pack('<I', 0x100020 + 18 + len(END))
    code += b'\xbe\x2a\x00\x00\x00\x56\x0f\xa2' + END + b'hello\x00'
    err = run(b, code, '--probe', 'insn=cpuid', '--call', f'verdict={path}:told(u32 [esp], str ebx)')
    check('told 42 hello\n' in err, err)


def its_result_changes_a_register_or_skips(b):
    path = library(b)
    # mov eax, 5; nop; out f4h, eax
    code = b'\xb8\x05\x00\x00\x00\x90\xe7\xf4' + SPIN
    run(b, code, '--probe', 'insn=nop', '--call', f'eax={path}:undeclared(uint32_t eax)', status=0x0B)  # of 1005h
    # The first `out` is skipped: mov eax, 9; out f4h, al; and then END.
    err = run(
        b,
        b'\xb8\x09\x00\x00\x00\xe6\xf4' + END,
        '--probe',
        'insn=out,if=eax==9',
        '--call',
        f'verdict={path}:told(u32 1, str la)',
    )
    check(hits(err) == [1], err)


def symbols(b):
    path = os.path.join(b.dir, 'map')
    with open(path, 'w') as f:
        f.write('00100020 T entry\n00100025 t the_loop\n00100029 T behind\n00200000 D counter\n')
    return path


def addresses_can_be_names_from_a_file(b):
    words = ('--symbols', symbols(b))
    err = run(b, LOOP, *words, '--probe', 'insn,at=the_loop', '--probe', 'insn,at=entry-the_loop+1')
    check(hits(err) == [100, 201], err)
    check('probe insn,at=the_loop: 100\n' in err, err)
    err = run(b, LOOP, *words, '--probe', 'insn,at=nowhere', status=2)
    check("--probe insn,at=nowhere: there is no symbol 'nowhere'" in err, err)
    err = run(b, LOOP, '--symbols', b.dir + '/absent', status=1)
    check('--symbols' in err and 'No such file' in err and err.count('\n') == 1, err)


def a_perf_map_names_code_by_its_function(b):
    if b.engine != 'bt':
        return
    m = b.start(LOOP, '--debug-exit', '0xf4', '--symbols', symbols(b), '--perf-map')
    got, _, err = m.end()
    path = f'/tmp/perf-{m.process.pid}.map'
    with open(path) as f:
        names = {line.split()[2] for line in f}
    os.unlink(path)
    check(got == 7 and {'entry+0x0', 'the_loop+0x0'} <= names, f'{got} {names} {err}')


def what_is_wrong_is_one_line(b):
    path = library(b)
    call = ('--probe', 'insn', '--call')
    for words, said in (
        (('--probe', 'insm'), "--probe insm: there is no event 'insm'; `--probe help` lists them"),
        (('--probe', 'insn=frobnicate'), "there is no instruction, and no class of them, 'frobnicate'"),
        (('--probe', 'read'), 'read needs at=FROM'),
        (('--probe', 'read,at=0-0x7fffffff'), 'more than 16 MiB'),
        (('--probe', 'insn,at=zero'), 'at=zero is not an address'),
        (('--probe', 'insn,if=foo==1'), "there is no value 'foo'"),
        (('--probe', 'insn,if=eax=>1'), 'not one of =='),
        (('--probe', 'exception=300'), "'300' is not a vector"),
        (('--probe', 'insn,do=dance'), "'do=dance' is none of"),
        (('--probe', 'insn,cpl=7'), 'privilege level'),
        (('--call', f'{path}:told(u32 1)'), 'say --probe EVENT before it'),
        ((*call, f'{path}:told(u32 eax)'), 'it is declared as int (uint32_t, const char *), not for (uint32_t)'),
        ((*call, f'{path}:told(u32 eax, u32 ebx)'), 'it is declared as'),
        ((*call, f'eax={path}:nothing()'), 'there is no result'),
        ((*call, f'{path}:absent()'), 'has no function absent'),
        ((*call, f'{b.dir}/absent.so:f()'), 'cannot open shared object file'),
        ((*call, f'{path}:told(float eax)'), 'does not begin with a type'),
        ((*call, f'{path}:told(u32 xyz)'), 'names no value'),
        ((*call, 'told'), 'not of the form'),
        ((*call, f'foo={path}:told()'), 'a result goes to'),
    ):
        err = run(b, LOOP, *words, status=2)
        check(err.count('\n') == 1 and said in err, f'{words}: {err!r}')


CASES = cli.cases(globals(), __name__)

if __name__ == '__main__':
    sys.exit(cli.main(CASES, ('interp', 'bt'), 'probes.py'))
