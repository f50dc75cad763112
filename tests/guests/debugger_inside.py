"""What debugger.py has Debian's gdb do, in its own Python. TASK is a dictionary: see debugger.py."""
import re

import gdb

NAMES = ['eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi', 'eip', 'eflags']
MASK = 0xFFFFFFFF


def register(name):
    return int(gdb.selected_frame().read_register(name)) & MASK


def memory(at, n):
    return bytes(gdb.selected_inferior().read_memory(at, n))


def word(at):
    return int.from_bytes(memory(at, 4), 'little')


def check(fine, what):
    if not fine:
        raise AssertionError(what)


def run(command):
    return gdb.execute(command, to_string=True)


def at(name):
    """By the kernel's own symbols, if gdb has them."""
    told = TASK['at'].get(name)
    return told if told is not None else int(gdb.parse_and_eval(f'(unsigned long)&{name}')) & MASK


def meet(*addresses):
    """Goes on up to a hardware breakpoint at one of them, and takes them away again."""
    points = [gdb.Breakpoint(f'*{hex(a)}', type=gdb.BP_HARDWARE_BREAKPOINT) for a in addresses]
    run('continue')
    check(register('eip') in addresses, f'it stands at {register("eip"):x}, not at {addresses}')
    for p in points:
        p.delete()


def find(start, n, mnemonic):
    """Where it is in the n bytes from start on."""
    rows = re.findall(r'(0x[0-9a-f]+)[^:]*:\s+(.*)', run(f'x/{n // 2}i {hex(start)}'))
    return [int(a, 16) for a, text in rows if re.match(mnemonic, text) and int(a, 16) < start + n]


def steps():
    """From the first instruction on, each as the interpreter's trace has it; the first of a repeated one's, too."""
    made, trace = 0, TASK['trace']
    for i, row in enumerate(trace[:-1]):
        got = {name: register(name) for name in NAMES}
        check(all(got[k] == row[k] for k in NAMES), f'instruction {i}: {got}, not {row}')
        for _ in range(20):
            run('stepi')
            made += 1
            if register('eip') != row['eip']:
                break
        else:
            meet(trace[i + 1]['eip'])
    print(f'STEPS {made}')


def kernel():
    """A breakpoint from before the first instruction on, watchpoints, and what is easily stepped over wrongly."""
    meet(at('start_kernel'))
    if TASK['symbols']:
        banner = memory(at('linux_banner'), 64)
        check(banner.startswith(b'Linux version 6.1'), banner)
        check(gdb.selected_frame().name() == 'start_kernel', gdb.selected_frame().name())
        check('init/main.c' in run('info line'), run('info line'))

    told = run(f'x/12i {hex(at("do_timer"))}')
    jiffies = int(re.search(r'add +%eax,(?:%ds:)?(0x[0-9a-f]+)', told)[1], 16)
    check(not TASK['symbols'] or jiffies == at('jiffies_64'), f'{jiffies:x}')
    run(f'watch *(unsigned *){hex(jiffies)}')
    before = word(jiffies)
    for _ in range(5):
        run('continue')
        now = word(jiffies)
        check(before < now <= before + 100, f'jiffies: {before}, {now}')
        before = now
    run('delete')

    # A repeated instruction is stepped through.
    copy = at('memcpy')
    meet(copy)
    repeated = find(copy, 64, 'rep movs')
    check(repeated, run(f'x/20i {hex(copy)}'))
    for _ in range(50):
        if register('ecx') > 3 and register('eip') in repeated:
            break
        meet(repeated[0])
    check(register('ecx') > 3, 'no long copy')
    for k in range(3):
        count, to = register('ecx'), register('edi')
        run('stepi')
        check((register('eip'), register('ecx'), register('edi')) == (repeated[0], count - 1, to + 4), f'REP, {k}')

    # IRET goes where its frame says.
    entry = at('entry_INT80_32')
    irets = find(entry, 0x400, 'iret')
    check(irets, run(f'x/100i {hex(entry)}'))
    for _ in range(5):
        meet(*irets)
        to = word(register('esp'))
        run('stepi')
        check(register('eip') == to, f'IRET to {to:x} went to {register("eip"):x}')

    # SYSENTER goes into the kernel, in one step, and back behind itself.
    meet(at('entry_SYSENTER_32'))
    enters = []
    for page in range(0xB7000000, 0xB8000000, 0x1000):
        try:
            enters += [page + m.start() for m in re.finditer(rb'\x0f\x34\xcd\x80', memory(page, 0x1000))]
        except gdb.MemoryError:
            pass
    check(enters, 'no SYSENTER in the vDSO')
    meet(*enters)
    where = register('eip')
    check(register('cs') & 3 == 3, 'user code')
    run('stepi')
    check((register('eip'), register('cs') & 3) == (at('entry_SYSENTER_32'), 0), f'SYSENTER to {register("eip"):x}')
    meet(where + 4)
    check(register('cs') & 3 == 3, 'user code again')

    # The vDSO has an INT 80h behind it, which does the same.
    meet(where)
    run(f'set $eip = {hex(where + 2)}')
    run('stepi')
    check((register('eip'), register('cs') & 3) == (at('entry_INT80_32'), 0), f'INT 80h to {register("eip"):x}')
    meet(where + 4)
    print('KERNEL')


try:
    run('set pagination off')
    run('set confirm off')
    run('set architecture i386')
    run(f'target remote {TASK["door"]}')
    {'steps': steps, 'kernel': kernel}[TASK['what']]()
    run('kill')
    print('GDB IS CONTENT')
except (AssertionError, gdb.error) as e:
    print(f'GDB: {type(e).__name__}: {e}')
