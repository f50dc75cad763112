"""Plots as SVG: text, axes on a logarithmic scale, and what is drawn along them. No script, no style from elsewhere."""
import html
import math

COLOURS = ['#1b6ca8', '#c8553d', '#588157', '#8e6c8a', '#d4a017', '#3a3a3a', '#57a0a0', '#a05780']
FONT = 'font-family="sans-serif" font-size="12"'


def esc(text):
    return html.escape(str(text), quote=True)


def text(x, y, words, anchor='start', **more):
    extra = ''.join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT}{extra}>{esc(words)}</text>'


def rect(x, y, width, height, colour, title=None, **more):
    extra = ''.join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
    inner = f'<title>{esc(title)}</title>' if title else ''
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}"'
    return f'<rect {box} fill="{colour}"{extra}>{inner}</rect>'


def line(x1, y1, x2, y2, colour='#999', width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def circle(x, y, radius, colour, title=None):
    inner = f'<title>{esc(title)}</title>' if title else ''
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}">{inner}</circle>'


def picture(width, height, parts, title):
    name = f'role="img" aria-label="{esc(title)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {name}>'
    return '\n'.join([head, *parts, '</svg>']).replace('><title>', '>\n<title>') + '\n'


class LogAxis:
    """From left to right, over the decades that the values need."""

    def __init__(self, values, left, right):
        low, high = min(values), max(values)
        self.first = math.floor(math.log10(low))
        self.last = max(math.ceil(math.log10(high)), self.first + 1)
        self.left, self.right = left, right

    def x(self, value):
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return self.left + share * (self.right - self.left)

    def draw(self, top, bottom, show):
        out = []
        for decade in range(self.first, self.last + 1):
            x = self.x(10.0**decade)
            out.append(line(x, top, x, bottom, '#ddd'))
            out.append(text(x, bottom + 14, show(10.0**decade), 'middle', fill='#555'))
        return out


def legend(names, y, left=170):
    out, x = [], left
    for i, name in enumerate(names):
        out += [rect(x, y - 9, 10, 10, COLOURS[i % len(COLOURS)]), text(x + 14, y, name)]
        x += 24 + 7 * len(name)
    return out


def log_bars(title, groups, series, show, width=900, reference=None):
    """groups: (name, {series: (value, hint)}). reference: a value that gets a line, from which bars go both ways."""
    values = [v for _, row in groups for v, _ in row.values()] + ([reference] if reference else [])
    axis = LogAxis(values, 170, width - 20)
    parts, y = legend(series, 14), 30
    bar = 9
    rows = []
    for name, row in groups:
        top = y
        for i, who in enumerate(series):
            if who in row:
                value, hint = row[who]
                begin = axis.x(reference) if reference else axis.left
                x = axis.x(value)
                rows.append(rect(min(begin, x), y, abs(x - begin), bar - 1, COLOURS[i % len(COLOURS)], hint))
                y += bar
        rows.append(text(162, (top + y) / 2 + 4, name, 'end'))
        y += 6
    parts += axis.draw(24, y, show) + rows
    if reference:
        parts.append(line(axis.x(reference), 24, axis.x(reference), y, '#333', 1.5))
    return picture(width, y + 24, parts, title)


def log_points(title, groups, series, show, width=900):
    """groups: (name, {series: (low, value, high, hint)}): a point with the range around it."""
    values = [v for _, row in groups for low, mid, high, _ in row.values() for v in (low, mid, high) if v > 0]
    axis = LogAxis(values, 170, width - 20)
    parts, y, rows = legend(series, 14), 34, []
    for name, row in groups:
        rows.append(text(162, y + 4, name, 'end'))
        for i, who in enumerate(series):
            if who in row:
                low, value, high, hint = row[who]
                colour, at = COLOURS[i % len(COLOURS)], y + 2 * (i - len(series) / 2)
                low = low if low > 0 else value
                rows.append(line(axis.x(low), at, axis.x(high), at, colour, 1.5))
                rows.append(circle(axis.x(value), at, 3, colour, hint))
        y += 20
    return picture(width, y + 24, parts + axis.draw(24, y, show) + rows, title)


def stacked(title, rows, kinds, unit, width=900):
    """rows: (name, {kind: amount}); all on one linear scale."""
    most = max(sum(parts.values()) for _, parts in rows)
    scale = (width - 260) / most
    out, y = legend(kinds, 14), 30
    for name, parts in rows:
        x = 170.0
        out.append(text(162, y + 13, name, 'end'))
        for i, kind in enumerate(kinds):
            amount = parts.get(kind, 0)
            if amount:
                out.append(rect(x, y, amount * scale, 18, COLOURS[i % len(COLOURS)], f'{kind}: {amount:.3g} {unit}'))
                x += amount * scale
        out.append(text(x + 6, y + 13, f'{sum(parts.values()):.3g} {unit}'))
        y += 26
    return picture(width, y + 4, out, title)


def boxes(title, rows, width=900):
    """rows: (name, [numbers between 0 and 1, say]): quartiles as a box, least and most as a line, the median marked."""
    most = max(max(values) for _, values in rows) or 1
    out, y = [], 16

    def x(v):
        return 170 + v / most * (width - 220)

    for name, values in rows:
        v = sorted(values)
        q = [v[int(f * (len(v) - 1))] for f in (0, 0.25, 0.5, 0.75, 1)]
        out += [text(162, y + 13, name, 'end'), line(x(q[0]), y + 9, x(q[4]), y + 9, '#555')]
        out.append(rect(x(q[1]), y, x(q[3]) - x(q[1]), 18, '#9dbbd6', f'{len(v)} rows'))
        out.append(line(x(q[2]), y, x(q[2]), y + 18, '#1b6ca8', 2))
        y += 26
    for i in range(5):
        out.append(text(x(most * i / 4), y + 12, f'{100 * most * i / 4:.0f} %', 'middle', fill='#555'))
    return picture(width, y + 20, out, title)
