"""What is measured: a table of workloads, and the aim of each.

A workload is one line of shell, run by the guest's /init or by the host, that prints `BENCH name value unit`; or it is
something done to a machine as a whole ("machine"), which run.py does itself. Values are times, so less is better, or
costs. A ratio is ours divided by another contestant's, so `at least 0.97 of native speed` is one of at most 1 / 0.97.
"""
import collections

YOUNG_COUNT = 25  # processes of 20 ms each, one after another
MEDLEY_MS = [20, 500, 30, 200, 50, 320, 80, 130]  # of each kernel, one after another in one process

# image: bare (busybox and the benchmark program), packages (Debian's programs too), disk and web (bare, with a disk or
# a network and their drivers), kernel (the Multiboot guest that command names, which measures itself; there is no
# native side), machine.
# aims: (what is compared, the most it may be): a ratio's name, or `value`.
Workload = collections.namedtuple('Workload', 'name group unit image command aims')

COMPUTE = ['sha256', 'matmul', 'qsort', 'fib', 'tree', 'indirect', 'memcpy', 'bytecode']

# The aims of the first end, without direct execution, where the second end has none of its own.
SYSTEM = {
    'getppid_sysenter': 150,
    'getppid_int80': 150,
    'pagefault': 3000,
    'mprotect': None,
    'fork': 400000,
    'exec': 700000,
    'pipe': 12000,
    'signal': None,
    'ctxsw': None,
}

# Where a monitor that does nothing about it is a hundred times slower: code beside what it writes, an armed debug
# register that nothing meets.
CLIFFS = {
    'smc_zero_page': 20,
    'smc_counter': 20,
    'smc_cross_modify': 20,
    'smc_decoder': 20,
    'watch': 4,
}

# Operations of a processor's, in cycles of the TSC, each alone in a loop: bench/kernel/nano.c says what each does.
# Those of ring 3 are measured natively as well.
NANO = [
    'loop', 'call_ret', 'indirect_1', 'indirect_4', 'indirect_64', 'rdtsc', 'cpuid', 'segment_load', 'pushf_popf',
    'cli_sti', 'in', 'out', 'rep_insw_256', 'mmio_read', 'mmio_write', 'tpr_write', 'cr0_ts', 'cr0_wp', 'cr4_pge',
    'invlpg',
    'pte_same', 'pte_unmap_map', 'pte_unmap_map_use', 'address_space_switch', 'int_iret', 'syscall_int',
    'syscall_sysenter', 'self_ipi', 'self_modify', 'call_gate', 'code16_call', 'cr3_load', 'lgdt', 'page_fault',
    'divide_error', 'iret_to_user', 'pte_p_to_np', 'pte_np_to_p', 'pte_np_to_p_use', 'hlt_to_interrupt', 'task_switch',
    *(f'user_{what}' for what in (
        'loop', 'call', 'indirect_1', 'indirect_4', 'indirect_64', 'rdtsc', 'cpuid', 'segment_load', 'pushf_popf')),
]

# Latencies by lmbench's names; one program measures all of them.
LMBENCH = [
    'lat_null', 'lat_stat', 'lat_open_close', 'lat_select_100', 'lat_sig_install', 'lat_unix', 'lat_pagefault',
    'lat_mmap_1m', 'lat_proc_fork', 'lat_proc_exec', 'lat_proc_sh',
]

# Of a disk on each bus, and of the host on the same file: us for a MiB one after another, and for 4 KiB anywhere.
DISKS = {'virtio': 'vda', 'ide': 'sda'}
DISK = ['read', 'write', 'rread', 'rwrite']

# A web server (busybox httpd) under ab on the host, by user networking: us for a request, four at a time.
WEB = {'web_4k': 4096, 'web_1m': 1 << 20}

PROGRAMS = {
    'openssl_sha256': 'ns',
    'openssl_aes128': 'ns',
    'openssl_rsa2048': 'us',
    'sevenzip': 'ns',
    'sysbench_cpu': 'ms',
    'sqlite': 'ms',
}


def packages(name, group, unit, *aims):
    return Workload(name, group, unit, 'packages', f'packages.sh {name}', aims)


TABLE = [
    *[
        Workload(n, 'compute', 'ms', 'bare', f'bench --units {{units[{n}]}} {n}', (('ratio_native', 1 / 0.97),))
        for n in COMPUTE
    ],
    *[
        Workload(
            f'young_{n}',
            'young',
            'ms',
            'bare',
            f'bench --units {{young[{n}]}} --young {YOUNG_COUNT} {n}',
            (('ratio_native', 1 / 0.6),),
        )
        for n in COMPUTE
    ],
    Workload(
        'medley',
        'medley',
        'ms',
        'bare',
        'bench --medley ' + ' '.join(f'{n}:{{medley[{n}]}}' for n in COMPUTE),
        (('ratio_native', 1.1),),
    ),
    *[
        Workload(n, 'system', 'ns', 'bare', f'bench {n}', (('value', most),) if most else ())
        for n, most in SYSTEM.items()
    ],
    *[Workload(n, 'cliffs', 'ns', 'bare', f'bench {n}', (('ratio_native', most),)) for n, most in CLIFFS.items()],
    *[Workload(n, 'cliffs', 'cycles', 'kernel', 'toggle', (('ratio_qemu', 0.5),)) for n in ('wp_toggle', 'pge_toggle')],
    *[Workload(n, 'nano', 'cycles', 'kernel', 'nano', ()) for n in NANO],
    *[Workload(n, 'lmbench', 'ns', 'bare', 'bench lmbench', ()) for n in LMBENCH],
    *[packages(n, 'programs', unit, ('ratio_native', 1 / 0.95)) for n, unit in PROGRAMS.items()],
    packages('shell_loop', 'shell', 'ms', ('ratio_qemu', 1 / 4)),
    packages('shell_loop_static', 'shell', 'ms', ('ratio_qemu', 1 / 4)),
    packages('gcc_build', 'build', 'ms', ('ratio_native', 1 / 0.6)),
    *[
        Workload(f'disk_{bus}_{what}', 'disk', 'us', 'disk', f'bench --disk {{disk[{bus}]}} disk_{bus}', ())
        for bus in DISKS
        for what in DISK
    ],
    *[Workload(n, 'web', 'us', 'web', 'web.sh {web}', ()) for n in WEB],
    Workload('forkwait', 'forkwait', 'ms', 'bare', 'bench forkwait', ()),
    packages('lua_build', 'long', 'ms', ('ratio_native', 1 / 0.6)),
    Workload('boot', 'machine', 'ms', 'machine', None, (('ratio_qemu', 0.3),)),
    Workload('boot_cold', 'machine', 'ms', 'machine', None, ()),
    Workload('cached_boot', 'machine', 'x', 'machine', None, (('value', 0.25),)),
    *[Workload(n, 'machine', 'ms', 'machine', None, ()) for n in ('boot_cache_new', 'boot_cache_kept')],
    *[Workload(n, 'machine', 'ms', 'machine', None, ()) for n in ('work_resident', 'work_restored', 'restore')],
]
BY_NAME = {w.name: w for w in TABLE}

# Figures that come with others: of a boot, and over a group.
ALONGSIDE = {
    'xl_cycles_per_insn': ('cycles', (('value', 2300),)),
    'vmm_overhead': ('MiB', (('value', 32),)),
    'compute_geomean': ('x', (('ratio_native', 1 / 0.99),)),
    'young_geomean': ('x', ()),
}

# What --quick measures, at QUICK_SCALE percent of the full work.
QUICK = ['nano', 'sha256', 'qsort', 'tree', 'indirect', 'bytecode', *SYSTEM, 'boot']
QUICK_SCALE = 25


def named(words):
    """The workloads that a list of names, groups and images stands for, in that order."""
    picked = []
    for word in words:
        found = [w for w in TABLE if word in (w.name, w.group, w.image)]
        if not found:
            raise LookupError(word)
        picked += [w for w in found if w not in picked]
    return picked


def chosen(only, quick):
    """The workloads of a run: those of `only`, those of --quick, or all but the long ones."""
    if only:
        return named(only.split(','))
    return named(QUICK) if quick else [w for w in TABLE if w.group != 'long']


def plan(workloads, image, scale):
    """The shell script that runs those of one image. scale: what to put for {units[...]} and {young[...]}."""
    lines = dict.fromkeys(w.command.format(**scale) for w in workloads if w.image == image)  # each once
    return ''.join(f'{line} || echo "BENCH-FAILED {line}"\n' for line in lines)
