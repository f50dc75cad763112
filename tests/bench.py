#!/usr/bin/env python3
"""`transvisor bench`: what it computes, and the program from outside.

  bench.py PROGRAM [-k WORD]      runs the tests whose name has WORD
"""
import html.parser
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, '..', 'bench'))

import compare  # noqa: E402
import contestants  # noqa: E402
import history  # noqa: E402
import load  # noqa: E402
import material  # noqa: E402
import page  # noqa: E402
import rows  # noqa: E402
import table  # noqa: E402
from progress import Progress  # noqa: E402
from workloads import BY_NAME, DISK, NANO, named, plan  # noqa: E402

PROGRAM = None
INSTRUMENTS = os.path.join(HERE, '..', 'bench', 'instruments.py')


def same(got, want, what):
    assert got == want, f'{what}: got {got!r}, not {want!r}'


def row(name, contestant, *samples):
    made = rows.Rows()
    for sample in samples:
        made.add(contestant, name, 'ns', sample)
    return made.row(contestant, name)


def verdicts(old, new):
    changes, _ = compare.compare(old, new)
    return {(c['name'], c['contestant']): c['verdict'] for c in changes}


# ---- what is computed ----


def test_a_row_has_the_median_and_the_distance_of_the_quartiles_over_it():
    r = row('x', 'bt', 100, 110, 90, 300, 105)
    same((r['value'], r['spread'], r['conditions']['runs']), (105, 10 / 105, 5), 'median, spread, runs')
    same(row('x', 'bt', 7)['spread'], None, 'the spread of one sample')


def test_twice_the_time_is_slower_and_half_of_it_faster():
    old = [row('a', 'bt', 100, 101, 99), row('b', 'bt', 100, 101, 99), row('c', 'bt', 100, 101, 99)]
    new = [row('a', 'bt', 200, 203, 199), row('b', 'bt', 50, 51, 49), row('c', 'bt', 101, 100, 99)]
    same(verdicts(old, new), {('a', 'bt'): 'slower', ('b', 'bt'): 'faster', ('c', 'bt'): 'same'}, 'verdicts')
    changes, _ = compare.compare(old, new)
    same([c['name'] for c in changes], ['a', 'c', 'b'], 'the worst comes first')
    assert changes[0]['confidence'] > 0.999, f'confidence {changes[0]["confidence"]}'


def test_a_change_within_the_spread_is_no_change():
    old, new = [row('a', 'bt', 100, 140, 70)], [row('a', 'bt', 115, 150, 80)]
    same(verdicts(old, new), {('a', 'bt'): 'same'}, 'verdicts')
    same(verdicts([row('a', 'bt', 100)], [row('a', 'bt', 300)]), {('a', 'bt'): 'unknown'}, 'of one sample each')


def test_ratios_that_repeat_have_not_changed():
    old = [row(n, who, v) for n in 'abc' for who, v in (('bt', 100), ('qemu-tcg', 500))]
    new = [row('a', 'bt', 200), row('a', 'qemu-tcg', 1000), row('b', 'bt', 100), row('b', 'qemu-tcg', 550)]
    new += [row('c', 'bt', 100), row('c', 'qemu-tcg', 250)]
    same(round(compare.ratio_change(old, new), 6), 0.1, 'median of none, a tenth and a half')
    same(compare.ratio_change(old, old[:1]), None, 'of one contestant')


def test_a_slower_machine_is_not_a_slower_translator():
    names = ['a', 'b', 'c', 'd']
    old = [row(n, who, 100, 101, 99) for n in names for who in ('bt', 'native')]
    new = [row(n, who, 150, 151, 149) for n in names for who in ('bt', 'native')]
    new += [row('e', 'bt', 300, 301, 299)]
    old += [row('e', 'bt', 100, 101, 99)]
    told = verdicts(old, new)
    same({n: told[n, 'bt'] for n in names}, dict.fromkeys(names, 'same'), 'as slow as the machine')
    same(told['e', 'bt'], 'slower', 'twice as slow as the machine')


def test_a_command_that_measures_several_things_runs_once():
    script = plan(named(['lmbench']), 'bare', {})
    same(script.count('bench lmbench\n') + script.count('bench lmbench ||'), 1, f'how often it is run in {script!r}')
    same(len(named(['lmbench'])), 11, 'latencies')


def test_noise_is_what_the_hosts_own_rows_show():
    same(rows.noise([row('a', 'bt', 1, 2, 3)]), None, 'without rows of the host')
    same(rows.noise([row('a', 'native', 100, 120, 80), row('a', 'bt', 1, 9)]), 0.2, 'of one')


def test_tables_say_who_was_not_measured():
    measured = [row('a', 'bt', 1500, 1500), row('a', 'native', 500, 500), row('b', 'bt', 7, 7)]
    lines = table.medians(measured, ['bt', 'native']).splitlines()
    want = [['a', '1.50', 'us', '±0%', '500', 'ns', '±0%'], ['b', '7.00', 'ns', '±0%', '-']]
    same([line.split() for line in lines[1:]], want, 'medians')
    same(table.ratios(measured, 'bt', ['native']).splitlines()[1].split(), ['a', '3.00'], 'ratios')


def test_the_page_has_a_plot_of_each_kind_and_the_data(folder):
    made = rows.Rows()
    for sample in (100, 110, 120):
        for who, factor in (('bt', 2), ('native', 1), ('qemu-tcg', 9)):
            made.add(who, 'sha256', 'ms', sample * factor)
            made.add(who, 'page_fault', 'cycles', sample * factor)
            made.add(who, 'call</script>', 'cycles', sample * factor, [sample, sample, factor * sample, 3000, 90000])
    result = {
        'format': rows.FORMAT,
        'when': 'today',
        'runs': 3,
        'seconds': 7,
        'noise': 0.1,
        'rows': made.all(),
        'missing': {'kvm': 'no <KVM>'},
        'problems': [],
        'machine': {
            'processor': {'model name': 'A & B'},
            'kernel': '6',
            'system': 'Debian',
            'memory': '1 kB',
            'load before': [1.0],
            'mitigations': {'meltdown': 'Mitigation: PTI'},
            'versions': {},
            'check': {'/dev/kvm': {'state': 'ok', 'text': 'is there'}, 'can_run': True},
        },
        'boots': [{'contestant': 'bt', 'seconds': {'to the first output': 0.2, 'to /init': 2, 'to power-off': 0.1}}],
        'components': [
            {'contestant': 'bt', 'what': 'boot', 'seconds': {'kernel code': 1.5, 'translator': 0.5}},
            {'contestant': 'bt', 'what': 'compile', 'seconds': {'user code': 3, 'callouts, ports': 0.5}},
        ],
    }
    text = page.page(result)
    titles = ['Against native', 'Cost of an operation', 'Time by component', 'time line', 'Spread', 'Medians']
    published = ['Missing', 'Beside what has been published', 'software VMM, 2006', '3927 cycles (3.59x)', '(2.00x)']
    for words in titles + published:
        assert words in text, words
    assert 'divzero' not in text, 'a published figure of what was not measured here'

    class Reader(html.parser.HTMLParser):
        plots, data, inside, outside = 0, '', False, []

        def handle_starttag(self, tag, attributes):
            self.plots += tag == 'svg'
            self.inside = tag == 'script'
            self.outside += [v for k, v in attributes if k in ('src', 'href')]

        def handle_data(self, data):
            self.data += data if self.inside else ''

    reader = Reader()
    reader.feed(text)
    same((reader.plots, reader.outside), (7, []), 'plots, and what it needs from elsewhere')
    same(json.loads(reader.data), json.loads(json.dumps(result)), 'the embedded data')
    assert 'no <KVM>' not in text and 'no &lt;KVM&gt;' in text, 'text that is no markup'
    browser = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if not browser:
        print('skipped: the page in a real browser: there is no Chromium here (Debian: chromium)')
    else:
        path, shot = os.path.join(folder, 'page.html'), os.path.join(folder, 'page.png')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        subprocess.run(
            [
                browser,
                '--headless',
                '--no-sandbox',
                '--disable-gpu',
                '--no-first-run',
                '--disable-background-networking',
                f'--user-data-dir={folder}/profile',
                f'--screenshot={shot}',
                'file://' + path,
            ],
            capture_output=True,
            timeout=120,
            check=True,
        )
        assert os.path.getsize(shot) > 10000, 'a browser draws it'


def test_a_published_figure_has_its_machine_and_year_and_a_row_here():
    for source in history.SOURCES:
        figures = history.rows(source)
        assert figures and str(source.year) in source.text, source
        for figure in figures:
            assert rows.is_row(figure) and figure['name'] in BY_NAME, figure
            same(figure['unit'], BY_NAME[figure['name']].unit, f'unit of {figure["name"]}')
            same(figure['conditions']['machine'], source.machine, 'machine')


def test_progress_learns_how_long_steps_take():
    out = io.StringIO()
    p = Progress([('a', 'first', 1), ('b', 'second', 3), ('a', 'first again', 1)], out)
    p.begin()
    p.took['a'] = 10.0
    p.done = 1
    same(p.left(), 40.0, 'seconds left, once the first took ten times its guess')
    p.begin()
    same(out.getvalue().splitlines()[1].split('] ')[1], 'second; about 40 s left', 'what is shown')


def test_a_guests_line_may_have_a_distribution():
    script = 'echo "BENCH-START a"; echo "BENCH a 12.5 cycles 1 2 3 4 5.5"; echo "BENCH b 3 ns"; echo BENCH-DONE'
    run = contestants.Run(['sh', '-c', script], 'BENCH-DONE', 20)
    same(run.values, {'a': (12.5, 'cycles'), 'b': (3.0, 'ns')}, 'values')
    same(run.within, {'a': [1, 2, 3, 4, 5.5]}, 'distributions')


def test_components_come_to_the_whole_time():
    stats = {
        'run_cycles': 1000,
        'kernel_cycles': 600,
        'user_cycles': 300,
        'idle_cycles': 100,
        'xl_cycles': 90,
        'dev_cycles': 45,
        'direct_cycles': 0,
        'emulated_cycles_by_mnemonic': {'IN': 50, 'MOV_TO_CR': 20, 'MOV': 5},
    }
    parts = contestants.components(stats, 10.0, 0.15)
    same(round(sum(parts.values()), 6), 10.0, 'seconds in all')
    same(round(parts['kernel code'] / parts['user code'], 6), 2.0, 'what is taken off in proportion')
    want = {'callouts, ports': 0.5, 'callouts, system registers': 0.2, 'callouts, memory': 0.05, 'host kernel': 0.15}
    same({k: round(parts[k], 6) for k in want}, want, 'parts')
    same(contestants.components({}, 10.0, 0.1), {}, 'without statistics')


def test_what_ab_says_becomes_microseconds():
    said = '''Complete requests:      {}
Failed requests:        {}
Time per request:       2.000 [ms] (mean)
Time per request:       0.500 [ms] (mean, across all concurrent requests)
'''
    same(load.microseconds(said.format(100, 0)), 500.0, 'of a request')
    same([load.microseconds(said.format(*n)) for n in ((0, 0), (100, 3))], [None, None], 'of none, or some lost')


def test_the_host_measures_its_disk(folder):
    path = os.path.join(folder, 'disk')
    with open(path, 'wb') as file:
        file.write(os.urandom(2 << 20))
    program = material.build_program(64)
    run = contestants.Run([program, '--disk', path, 'disk_ide'], 'disk_ide_rwrite', 100)
    same(set(run.values), {f'disk_ide_{what}' for what in DISK}, f'rows ({run.output})')
    assert all(value > 0 and unit == 'us' for value, unit in run.values.values()), run.values
    assert run.values['disk_ide_read'][0] > run.values['disk_ide_rread'][0], 'a MiB takes longer than 4 KiB'


def test_who_is_late_is_ended_with_what_it_has_started():
    begin = time.monotonic()
    run = contestants.Run(['sh', '-c', 'echo BENCH a 1 ns; sleep 60; echo BENCH-DONE'], 'BENCH-DONE', 1)
    assert time.monotonic() - begin < 30, 'the pipe was held open by what the shell had started'
    assert run.error and 'timed out' in run.error, run.error
    same(run.values, {'a': (1.0, 'ns')}, 'what was measured before')


def test_a_result_that_is_not_whole_is_one_line(folder):
    path = os.path.join(folder, 'old.json')
    whole = json.dumps({'format': rows.FORMAT, 'rows': [row('a', 'bt', 100, 101), row('b', 'bt', 7)]})

    def why(text):
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        try:
            return rows.load(path) and None
        except ValueError as error:
            return str(error)

    same(why(whole), None, 'of a whole one')
    for length in range(len(whole)):
        said = why(whole[:length])
        assert said and said.startswith(path) and '\n' not in said, f'cut to {length} bytes: {said!r}'
    for field in ('name', 'unit', 'contestant', 'value', 'samples'):
        for wrong in (None, {}, ['x']):
            result = json.loads(whole)
            result['rows'][1][field] = wrong
            if field == 'value' and wrong is None:
                continue  # not measured
            same(why(json.dumps(result)), f'{path}: row 2 is none of `transvisor bench --json`', f'{field} {wrong}')


# ---- the program ----


def bench(*words, status=0, path=None):
    environment = dict(os.environ, **({'PATH': path} if path else {}))
    done = subprocess.run([PROGRAM, 'bench', *words], capture_output=True, text=True, timeout=300, env=environment)
    same(done.returncode, status, f'status of bench {" ".join(words)} ({done.stdout[-1500:]}{done.stderr[-1500:]})')
    return done


def test_a_measurement_becomes_a_row_and_is_compared_with_itself(folder):
    path = os.path.join(folder, 'old.json')
    done = bench('--only', 'wp_toggle', '--against', 'interp', '--runs', '2', '--json', path)
    with open(path, encoding='utf-8') as file:
        result = json.load(file)
    got = {(r['name'], r['contestant']) for r in result['rows']}
    want = {(name, who) for name in ('wp_toggle', 'pge_toggle') for who in ('bt', 'interp')}
    same(got, want, 'rows')
    for r in result['rows']:
        assert r['value'] > 0 and r['unit'] == 'cycles' and len(r['samples']) == 2, r
        same(set(r), {'name', 'unit', 'value', 'spread', 'contestant', 'conditions', 'samples'}, 'a row\'s fields')
    assert 'model name' in result['machine']['processor'] and 'machine' in result['machine']['check'], result['machine']
    assert 'wp_toggle' in done.stdout and 'bt/interp' in done.stdout, done.stdout
    assert 'left' in done.stderr, done.stderr
    for r in result['rows']:  # as if the translator had been a thousand times as fast before
        if r['contestant'] == 'bt':
            r['samples'] = [s / 1000 for s in r['samples']]
            r['value'] /= 1000
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(result, file)
    done = bench('--only', 'wp_toggle', '--against', 'interp', '--runs', '2', '--compare', path, status=3)
    slower = [line for line in done.stdout.splitlines() if line.startswith('slower: ')]
    assert slower and 'wp_toggle (bt)' in slower[0] and 'pge_toggle (bt)' in slower[0], done.stdout


def processes_with(mark):
    """Those that have inherited it in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/environ', 'rb') as file:
                found += [pid] if mark.encode() in file.read() else []
        except OSError:
            pass
    return found


def processes_left(mark):
    """What has been killed may take a moment to be gone."""
    end = time.monotonic() + 30
    while (left := processes_with(mark)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def test_an_interrupted_run_leaves_what_it_has_measured(folder):
    path, shown, mark = os.path.join(folder, 'r.json'), os.path.join(folder, 'r.html'), uuid.uuid4().hex
    words = ['--only', 'wp_toggle', '--against', 'none', '--runs', '900', '--json', path, '--html', shown]
    process = subprocess.Popen(
        [PROGRAM, 'bench', *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, BENCH_TEST=mark),
    )
    for line in process.stderr:
        if 'run 3 of 900' in line:
            process.send_signal(signal.SIGINT)
            break
    said, errors = process.communicate(timeout=60)
    same(process.returncode, 128 + signal.SIGINT, f'status ({said[-800:]}{errors[-800:]})')
    assert 'Traceback' not in errors, errors
    table_line = [line for line in said.splitlines() if line.startswith('wp_toggle')]
    assert table_line and 'cycles' in table_line[0], said
    assert '2 of 900 runs' in said and 'Interrupted.' in said, said
    result = rows.load(path)
    same({r['name']: len(r['samples']) for r in result['rows']}, {'wp_toggle': 2, 'pge_toggle': 2}, 'samples')
    same((result['interrupted'], result['runs']), (True, 2), 'what the result says of that')
    with open(shown, encoding='utf-8') as file:
        assert 'Interrupted: ' in file.read(), 'the page says so'
    same(processes_left(mark), [], 'processes that go on')


def test_nanobenchmarks_have_a_distribution(folder):
    path, shown = os.path.join(folder, 'r.json'), os.path.join(folder, 'r.html')
    bench('--only', 'nano', '--against', 'native', '--runs', '1', '--json', path, '--html', shown)
    result = rows.load(path)
    bt = {r['name']: r for r in result['rows'] if r['contestant'] == 'bt'}
    missing = sorted(set(NANO) - set(bt))
    same(missing, [], 'operations that were not measured')
    for name, r in bt.items():
        low, quarter, middle, upper, high = r['distribution']
        assert low <= quarter <= middle <= upper <= high and r['unit'] == 'cycles', (name, r)
    native = {r['name'] for r in result['rows'] if r['contestant'] == 'native'}
    same(native, {n for n in NANO if n.startswith('user_')} if native else set(), 'natively')
    with open(shown, encoding='utf-8') as file:
        assert 'Cost of an operation' in file.read()


def test_who_is_missing_is_named_with_the_reason(folder):
    """With a PATH that has what the benchmark itself needs, and no QEMU."""
    needed = 'python3 sh gcc as ld cpio awk uname cat dirname mkdir dpkg-deb apt-get tar'
    for name in needed.split():
        if shutil.which(name):
            os.symlink(os.path.realpath(shutil.which(name)), os.path.join(folder, name))
    path = os.path.join(folder, 'r.json')
    done = bench('--only', 'wp_toggle', '--against', 'qemu-tcg,kvm,interp', '--runs', '1', '--json', path, path=folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith('missing: ')]
    assert 'missing: qemu-tcg: there is no qemu-system-i386 (Debian: qemu-system-x86)' in lines, done.stdout
    there = {r['contestant'] for r in rows.load(path)['rows']}
    for name in ('bt', 'kvm', 'interp'):
        why = [line for line in lines if line.startswith(f'missing: {name}: ')]
        assert name in there or (why and ('KVM' in why[0] or '/dev/kvm' in why[0])), done.stdout


def test_disk_and_web_are_measured_in_a_guest(folder):
    path = os.path.join(folder, 'r.json')
    done = bench('--only', 'disk,web', '--against', 'none', '--runs', '1', '--json', path)
    there = {r['name'] for r in rows.load(path)['rows']}
    missing = [line for line in done.stdout.splitlines() if line.startswith('missing: ')]
    for group in ('disk', 'web'):
        want = {w.name for w in named([group])}
        assert want <= there or any(line.startswith(f'missing: {group}: ') for line in missing), done.stdout


def test_wrong_words_are_one_line(folder):
    for words, status, want in (
        (('--only', 'nonsense'), 2, "no workload or group is called 'nonsense'"),
        (('--against', 'bochs'), 2, "'bochs' is none of"),
        (('--quick', '--full'), 2, '--quick: it cannot be --full as well'),
        (('--runs', '0'), 2, '--runs'),
        (('--compare', os.path.join(folder, 'none')), 1, 'No such file'),
        (('--compare', __file__), 1, 'is no JSON'),
        (('--json', os.path.join(folder, 'none', 'r.json'), '--only', 'wp_toggle'), 1, 'No such file'),
    ):
        done = bench(*words, status=status)
        lines = done.stderr.splitlines()
        assert len(lines) == 1 and want in lines[0], f'{words}: {done.stderr!r}'


def test_without_python_one_line_says_so(folder):
    done = bench('--quick', status=1, path=folder)
    same(done.stderr, 'transvisor: bench: python3 is not installed (Debian: python3)\n', 'standard error')


def test_what_instruments_cost_is_measured_and_is_rows(folder):
    path = os.path.join(folder, 'json')
    done = subprocess.run(
        [sys.executable, '-B', INSTRUMENTS, '--transvisor', PROGRAM, '--brief', '--runs', '1', '--loops', 'short']
        + ['--only', 'plain,breakpoint,probe,stream', '--json', path],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    same(done.returncode, 0, done.stderr)
    found = {r['name']: r['value'] for r in rows.load(path)['rows']}
    for name in ('short', 'short_breakpoint_ratio', 'short_probe_ratio', 'short_stream_events'):
        assert found[name] > 0, found


def main():
    global PROGRAM
    PROGRAM = os.path.abspath(sys.argv[1])
    word = sys.argv[3] if len(sys.argv) > 3 and sys.argv[2] == '-k' else ''
    failed = ran = 0
    for name, test in list(globals().items()):
        if not name.startswith('test_') or word not in name:
            continue
        ran += 1
        try:
            if test.__code__.co_argcount:
                with tempfile.TemporaryDirectory() as folder:
                    test(folder)
            else:
                test()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f'{name}: {error}')
    print(f'{ran} tests, {failed} failed')
    return 1 if failed or not ran else 0


if __name__ == '__main__':
    sys.exit(main())
