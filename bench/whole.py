"""What is done to a machine as a whole: boots, cold and warm, with and without --cache; a machine that goes on where it
was saved, beside the one that was not; and where the time of a boot and of a compile goes.

Each takes the bench (run.py), a contestant, and the number of the round, which names the logs.
"""
import os
import signal
import tempfile

import contestants

REACHED = 'GUEST-INIT-REACHED'
# The plan of the guest that is saved: its work is done three times before, so that what can be warm is. What it writes
# while it waits to be saved shows when one that was loaded runs.
WORK = '/bin/busybox sh /bin/shell_loop.sh /bin/busybox'
SAVED_PLAN = f'''for i in 1 2 3; do {WORK} > /tmp/out; done
echo BENCH-SAVE
n=0; while [ $n -lt 200 ]; do echo BENCH-WAITS; busybox usleep 20000; n=$((n + 1)); done
bench --time work {WORK}
'''
SAVED_MARK = 'BENCH-SAVE'


def evict(path):
    """What the host has of a file in memory goes, as far as the host lets it."""
    with open(path, 'rb') as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def boot(bench, contestant, number):
    run = contestant.run(bench.images['boot'], bench.memory['boot'], REACHED)
    bench.note(contestant, run, f'boot-{number}')
    conditions = contestant.conditions()
    took = run.boot_ms and run.boot_ms * bench.share(run, 'boot')
    bench.rows.add(contestant.name, 'boot', 'ms', took, **conditions)
    if run.boot_ms and run.total_ms:
        bench.boots.setdefault(contestant.name, []).append((run.first_ms, run.boot_ms, run.total_ms))
        where(bench, contestant, 'boot', run)
    if contestant.name in bench.variants:
        bench.rows.add(contestant.name, 'vmm_overhead', 'MiB', run.rss_anon_mib, **conditions)
        insns, cycles = contestant.stats.get('guest_insns'), contestant.stats.get('xl_cycles')
        if insns and cycles:
            bench.rows.add(contestant.name, 'xl_cycles_per_insn', 'cycles', cycles / insns, **conditions)


def where(bench, contestant, what, run, but=None):
    """Keeps where the time of a run went; but: parts that do not belong to it."""
    stats = getattr(contestant, 'stats', None)
    parts = contestants.components(stats, run.total_ms / 1e3, run.system_s) if stats and run.total_ms else None
    if parts:
        less = {kind: max(0, seconds - (but or {}).get(kind, 0)) for kind, seconds in parts.items()}
        bench.components[contestant.name, what] = less
    return parts


def boot_cold(bench, contestant, number):
    """As after the host's own start: what is booted, and who boots it, comes from the disk."""
    for path in filter(None, (bench.kernel, bench.images['boot'], getattr(contestant, 'program', None))):
        evict(path)
    run = contestant.run(bench.images['boot'], bench.memory['boot'], REACHED)
    bench.note(contestant, run, f'boot-cold-{number}')
    bench.rows.add(contestant.name, 'boot_cold', 'ms', run.boot_ms, **contestant.conditions())


def cached_boot(bench, variant, number):
    """Translation time of a boot that finds the cache that the boot before it has filled, over that one's. Loading
    templates and making blocks of them count as translation. And how long both took."""
    cycles = []
    with tempfile.TemporaryDirectory(dir=bench.scratch) as cache:
        for which, name in (('first', 'boot_cache_new'), ('second', 'boot_cache_kept')):
            run = variant.run(bench.images['boot'], bench.memory['boot'], REACHED, '--cache', cache)
            bench.note(variant, run, f'cached-boot-{which}-{number}')
            bench.rows.add(variant.name, name, 'ms', run.boot_ms, **variant.conditions())
            cycles.append(sum(variant.stats.get(n, 0) for n in ('xl_cycles', 'template_cycles', 'clone_cycles')))
    if all(cycles):
        bench.rows.add(variant.name, 'cached_boot', 'x', cycles[1] / cycles[0], **variant.conditions())


def save_when_asked(_run, line, process):
    if SAVED_MARK in line:
        process.send_signal(signal.SIGUSR1)


def restored(bench, variant, number):
    """The same work in a machine that is resident, all of its code translated, and in its copy that was saved just
    before and is loaded into a new process."""
    image = bench.images.get('saved')
    with tempfile.TemporaryDirectory(dir=bench.scratch) as folder:
        saved = os.path.join(folder, 'saved')
        run = variant.run(
            image, bench.memory['boot'], 'BENCH-DONE', '--save', saved, on_line=save_when_asked
        )
        took = run.values.pop('work', (None, None))[0]
        bench.note(variant, run, f'resident-{number}')
        bench.rows.add(variant.name, 'work_resident', 'ms', took, **variant.conditions())
        if not os.path.exists(saved):
            bench.problems.append(f'{variant.name}: restored: it was not saved')
            return
        run = variant.go_on(saved, 'BENCH-DONE')
        took = run.values.pop('work', (None, None))[0]
        bench.note(variant, run, f'restored-{number}')
        bench.rows.add(variant.name, 'work_restored', 'ms', took, **variant.conditions())
        bench.rows.add(variant.name, 'restore', 'ms', run.first_ms, **variant.conditions())


def compile_parts(bench, variant, number):
    """Where a compile's time goes: that of a guest that boots and compiles, less that of one that boots."""
    parts = {}
    for image in ('compile_not', 'compile'):
        run = variant.run(bench.images[image], bench.memory['packages'], 'BENCH-DONE')
        run.values.pop('gcc_build', None)  # that row has a piece of its own
        bench.note(variant, run, f'{image}-{number}')
        parts = where(bench, variant, 'compile', run, parts)
        if run.error or run.failed or not parts:
            bench.components.pop((variant.name, 'compile'), None)
            return


WHOLES = {
    'boot': boot,
    'boot_cold': boot_cold,
    'cached_boot': cached_boot,
    'restored': restored,
    'compile': compile_parts,
}
# Rows that come of one piece: the piece by row.
PIECE_OF = {
    **{name: 'cached_boot' for name in ('boot_cache_new', 'boot_cache_kept')},
    **{name: 'restored' for name in ('work_resident', 'work_restored', 'restore')},
    'gcc_build': 'compile',
}
