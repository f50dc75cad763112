"""A result as one page of HTML that needs nothing else: plots as SVG inside, and the data they were made of."""
import json

import contestants
import history
import svg
import table

STYLE = '''body { font-family: sans-serif; max-width: 960px; margin: 1em auto; padding: 0 1em }
body { color: #222; line-height: 1.4 }
h1, h2 { font-weight: 600 } h2 { margin-top: 1.6em; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; font-size: 13px } td, th { padding: 2px 10px 2px 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums } tr:nth-child(even) { background: #f6f6f6 }
svg { width: 100%; height: auto } figure { margin: 0 0 1em; break-inside: avoid }
figcaption { font-size: 13px; color: #555 }
@media print { body { max-width: none; margin: 0 } h2 { break-after: avoid } }'''

NOT_TIMES = ('MiB', 'x')
COMPONENTS = ['kernel code', 'user code', 'user code, direct', 'translator', *(
    f'callouts, {kind}' for kind in (*contestants.CALLOUTS, contestants.MEMORY)), 'devices', 'host kernel', 'idle']


def cells(row, tag='td'):
    out = []
    for i, cell in enumerate(row):
        number = ' class="n"' if i and tag == 'td' else ''
        out.append(f'<{tag}{number}>{svg.esc(cell)}</{tag}>')
    return f'<tr>{"".join(out)}</tr>'


def html_table(head, rows):
    return f'<table>{cells(head, "th")}{"".join(cells(r) for r in rows)}</table>'


def figure(picture, caption):
    return f'<figure>{picture}<figcaption>{svg.esc(caption)}</figcaption></figure>'


def by_name(rows):
    """{name: {contestant: row}}, in the order in which names were measured."""
    out = {}
    for row in rows:
        out.setdefault(row['name'], {})[row['contestant']] = row
    return out


def machine(result):
    m, check = result['machine'], result['machine'].get('check', {})
    p = m['processor']
    virtual = ', in a virtual machine' if p.get('virtual') else ''
    rows = [
        ['processor', f'{p.get("model name", "?")}, {p.get("processors")} of them{virtual}'],
        ['host', f'{m.get("system")}, Linux {m["kernel"]}, {m.get("memory")}'],
        ['load before', ' '.join(f'{x:.2f}' for x in m['load before'])],
    ]
    rows += [[name, said['text']] for name, said in check.items() if isinstance(said, dict)]
    rows += [[f'mitigation: {k}', v] for k, v in m['mitigations'].items() if v and not v.startswith('Not affected')]
    rows += [[name, said] for name, said in m['versions'].items() if said]
    return html_table(['', ''], rows)


def bars(names, contestants, reference):
    """Everybody's time over one contestant's; None if nobody was measured beside it."""
    others = [c for c in contestants if c != reference]
    groups = []
    for name, row in names.items():
        if reference in row and row[reference]['value'] and row[reference]['unit'] not in NOT_TIMES:
            ratios = {c: row[c]['value'] / row[reference]['value'] for c in others if c in row and row[c]['value']}
            if ratios:
                said = {c: (r, f'{name}, {c}: {table.number(r)} of {reference}') for c, r in ratios.items()}
                groups.append((name, said))
    if not groups:
        return None
    return svg.log_bars(f'time over {reference} time', groups, others, lambda v: f'{v:g}', reference=1.0)


def against(names, contestants):
    """The host, who is what all is compared with, and QEMU, who is there on hosts without 32-bit code, too."""
    out = ''
    for reference in [c for c in ('native', 'native64', 'qemu-tcg') if c in contestants]:
        picture = bars(names, contestants, reference)
        if picture:
            caption = f'Time over {reference} time, on a logarithmic scale: less is better.'
            out += f'<h2>Against {reference}</h2>' + figure(picture, caption)
    return out


def picture(result):
    """One plot as a file of its own: against native, or QEMU where the host runs no 32-bit code. None: neither."""
    rows = [r for r in result['rows'] if r['value'] is not None]
    contestants = list(dict.fromkeys(r['contestant'] for r in rows))
    plots = (bars(by_name(rows), contestants, reference) for reference in ('native', 'qemu-tcg', 'native64'))
    return next(filter(None, plots), None)


def operations(names, contestants):
    groups = []
    for name, row in names.items():
        points = {}
        for who, r in row.items():
            if 'distribution' in r and r['value'] > 0:
                low, _, mid, _, high = r['distribution']
                quarter = r['distribution'][3]
                points[who] = (low, mid, min(high, 10 * quarter), f'{name}, {who}: {table.number(mid)} {r["unit"]}')
        if points:
            groups.append((name, points))
    if not groups:
        return ''
    there = [c for c in contestants if any(c in row for _, row in groups)]
    picture = svg.log_points('cycles of an operation', groups, there, lambda v: f'{v:g}')
    return '<h2>Cost of an operation</h2>' + figure(
        picture, 'Cycles of the TSC: median, and from the least to the most (cut at ten times the upper quartile).'
    )


WHOLES = {
    'boot': 'A boot to /init and to power-off.',
    'compile': 'A C program built by make and gcc (gcc_build): of a guest that does so, less one that does not.',
}


def components(result):
    out = ''
    for what, caption in WHOLES.items():
        rows = [(c['contestant'], c['seconds']) for c in result.get('components', []) if c.get('what', 'boot') == what]
        rows = [row for row in rows if sum(row[1].values())]
        if rows:
            out += figure(svg.stacked(f'where the time of a {what} goes', rows, COMPONENTS, 's'), caption)
    if not out:
        return ''
    return '<h2>Time by component</h2>' + out + (
        '<p>Guest code, kernel\'s and user\'s, is told apart by sampling at kicks, callouts (what the translator '
        'leaves to the interpreter) by timing one in 61; all that is not guest code is taken off both in '
        'proportion. Host kernel: its work for the process, by the host.</p>'
    )


def timeline(result):
    rows = [(b['contestant'], b['seconds']) for b in result.get('boots', [])]
    if not rows:
        return ''
    picture = svg.stacked('a boot', rows, ['to the first output', 'to /init', 'to power-off'], 's')
    caption = 'From the start of the program, by the host\'s clock; medians.'
    return '<h2>A boot\'s time line</h2>' + figure(picture, caption)


def spreads(rows, contestants):
    there = [(c, [r['spread'] for r in rows if r['contestant'] == c and r['spread'] is not None]) for c in contestants]
    there = [(c, values) for c, values in there if values]
    if not there:
        return ''
    picture = svg.boxes('spread of the rows', there)
    return '<h2>Spread</h2>' + figure(picture, 'Distance between the quartiles over the median, of all rows of each.')


def values(names, contestants):
    rows = []
    for name, row in names.items():
        of_each = [row.get(c) for c in contestants]
        shown = [table.quantity(r['value'], r['unit']) + table.percent(r['spread']) if r else '-' for r in of_each]
        rows.append([name, *shown])
    return '<h2>Medians</h2>' + html_table(['', *contestants], rows)


def with_ratio(row, native):
    """A cell: the value, and how many times native's that is."""
    if not row or not row['value']:
        return '-'
    cell = table.quantity(row['value'], row['unit'])
    if not native or not native['value'] or row is native:
        return cell
    return f'{cell} ({table.number(row["value"] / native["value"])}x)'


def published(names, contestants):
    """Others' figures of the operations that have been measured here, beside those."""
    out = []
    for source in history.SOURCES:
        theirs, rows = by_name(history.rows(source)), []
        for name in [name for name in theirs if name in names]:
            here, there = names[name], theirs[name]
            native = here.get('native') or here.get('native64')
            ours = [with_ratio(here.get(c), native) for c in contestants]
            then = [with_ratio(there.get(s), there.get(source.systems[0])) for s in source.systems]
            about = next(iter(there.values()))['conditions']['about']
            rows.append([name, *ours, *then, about])
        if rows:
            head = ['', *contestants, *[f'{s}, {source.year}' for s in source.systems], 'what they did']
            out += [f'<p>{svg.esc(source.text)}. Their machine: {svg.esc(source.machine)}.</p>', html_table(head, rows)]
    return '<h2>Beside what has been published</h2>' + ''.join(out) if out else ''


def missing(result):
    if not result['missing'] and not result['problems']:
        return ''
    rows = list(result['missing'].items()) + [['problem', p] for p in result['problems']]
    return '<h2>Missing</h2>' + html_table(['', ''], rows)


def page(result):
    """The whole page, as text."""
    rows = [r for r in result['rows'] if r['value'] is not None]
    contestants = list(dict.fromkeys(r['contestant'] for r in rows))
    names = by_name(rows)
    noise = result['noise']
    cut = ' Interrupted: what follows is what there was until then.' if result.get('interrupted') else ''
    said = 'No row of the host\'s own says how quiet the machine was.' if noise is None else (
        f'The host\'s own rows spread by {100 * noise:.0f} % (median)' + (': a noisy machine.' if noise > 0.05 else '.')
    )
    data = json.dumps(result).replace('<', '\\u003c')
    return ''.join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>transvisor bench</title>',
            f'<style>{STYLE}</style></head><body><h1>transvisor bench</h1>',
            f'<p>{svg.esc(result["when"])}, {result["runs"]} runs in {result["seconds"]} s.{cut} {svg.esc(said)}</p>',
            against(names, contestants),
            operations(names, contestants),
            components(result),
            timeline(result),
            spreads(rows, contestants),
            values(names, contestants),
            published(names, contestants),
            missing(result),
            '<h2>The machine</h2>',
            machine(result),
            f'<script type="application/json" id="result">{data}</script></body></html>\n',
        ]
    )
