"""Results as text: tables for a terminal, in columns that fit their contents."""

SHORT = {'ns': [(1e9, 's'), (1e6, 'ms'), (1e3, 'us')], 'us': [(1e6, 's'), (1e3, 'ms')], 'ms': [(1e3, 's')]}


def number(value):
    """Three digits that count, without an exponent."""
    if value is None:
        return '-'
    if value >= 100:
        return f'{value:.0f}'
    return f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def quantity(value, unit):
    """In the unit of time that suits its size."""
    if value is None:
        return '-'
    for least, name in SHORT.get(unit, ()):
        if value >= least:
            return f'{number(value / least)} {name}'
    return f'{number(value)} {unit}'


def percent(share):
    return '' if share is None else f' ±{share / 2 * 100:.0f}%'


def columns(lines, right=()):
    """Lines of cells to text; the columns in `right` are flushed right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    out = []
    for line in lines:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))]
        out.append('  '.join(cells).rstrip())
    return '\n'.join(out)


def medians(rows, contestants):
    """One line a name: each contestant's median, and half the distance between the quartiles around it."""
    by_key = {(r['contestant'], r['name']): r for r in rows}
    names = list(dict.fromkeys(r['name'] for r in rows))
    lines = [['', *contestants]]
    for name in names:
        cells = [by_key.get((c, name)) for c in contestants]
        lines.append([name, *[quantity(r['value'], r['unit']) + percent(r['spread']) if r else '-' for r in cells]])
    return columns(lines, range(1, len(contestants) + 1))


def ratios(rows, first, others):
    """The first contestant's medians over each of the others': below 1, the first is the faster one."""
    by_key = {(r['contestant'], r['name']): r for r in rows}
    lines = [['', *[f'{first}/{other}' for other in others]]]
    for name in dict.fromkeys(r['name'] for r in rows):
        ours = by_key.get((first, name))
        theirs = [by_key.get((o, name)) for o in others]
        if ours and any(theirs):
            lines.append([name, *[number(ours['value'] / t['value']) if t and t['value'] else '-' for t in theirs]])
    return columns(lines, range(1, len(others) + 1)) if len(lines) > 1 else None


def changes(compared):
    """What compare.compare() found."""
    lines = [['', '', 'old', 'new', 'change', 'confidence', '']]
    for c in compared:
        sure = '-' if c['confidence'] is None else f'{100 * min(c["confidence"], 0.999):.1f} %'
        old, new = quantity(c['old'], c['unit']), quantity(c['new'], c['unit'])
        lines.append([c['name'], c['contestant'], old, new, f'{c["change"]:.2f}', sure, c['verdict']])
    return columns(lines, (2, 3, 4, 5))
