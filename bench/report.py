"""Samples in, one line per number out."""
import math
import statistics

from workloads import ALONGSIDE, BY_NAME

PEERS = ['qemu', 'native', 'native64']


def geomean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def show(value):
    if value is None:
        return '-'
    return f'{value:.0f}' if value >= 1000 else f'{value:.3g}'


def verdict(aims, measured):
    """Of each aim: met, missed or unmeasured."""
    if not aims:
        return 'target=none'
    words = []
    for kind, most in aims:
        value = measured.get(kind)
        state = 'unmeasured' if value is None else 'met' if value <= most else 'missed'
        words.append(f'target={kind}<={most:.4g} {state}')
    return ' '.join(words)


class Report:
    def __init__(self):
        self.samples = {}  # (side, name) -> list of values
        self.rows = []

    def add(self, side, name, value):
        if value is not None:
            self.samples.setdefault((side, name), []).append(value)

    def median(self, side, name):
        values = self.samples.get((side, name))
        return statistics.median(values) if values else None

    def line(self, variant, name):
        """Prints one number of a variant beside the peers', and returns its ratios."""
        unit, aims = (BY_NAME[name].unit, BY_NAME[name].aims) if name in BY_NAME else ALONGSIDE[name]
        ours = self.median(variant, name)
        row = {'name': name, 'unit': unit, 'variant': variant, 'value': ours}
        for peer in PEERS:
            row[peer] = self.median(peer, name)
            row['ratio_' + peer] = ours / row[peer] if ours and row[peer] else None
        self.show(row, aims)
        return row

    def geomean(self, variant, name, rows):
        """The geometric mean over some rows, of each ratio that all of them have."""
        unit, aims = ALONGSIDE[name]
        row = {'name': name, 'unit': unit, 'variant': variant, 'value': None}
        for peer in PEERS:
            ratios = [r['ratio_' + peer] for r in rows]
            row[peer] = None
            row['ratio_' + peer] = geomean(ratios) if ratios and all(ratios) else None
        self.show(row, aims)

    def show(self, row, aims):
        self.rows.append(row)
        columns = (
            [f'transvisor={show(row["value"])}']
            + [f'{p}={show(row[p])}' for p in PEERS]
            + [f'ratio_{p}={show(row["ratio_" + p])}' for p in PEERS]
        )
        print(f'{row["name"]}_{row["unit"]} variant={row["variant"]}', *columns, verdict(aims, row), flush=True)
