"""The one format of what has been measured, and what is computed of it.

A row has name, unit, contestant, value (the median of the runs), spread, conditions, and the samples themselves. Spread
is relative: the distance between the quartiles of the samples over their median; None with one sample. A measurement
that has a distribution of its own in each run (the nanobenchmarks) adds `distribution`: the five numbers least,
quartile, median, quartile, most, each the median over the runs.
"""
import json
import math
import statistics

FORMAT = 1


def geomean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def quartiles(values):
    """The lower and the upper one; both the value itself if there is but one."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method='inclusive')
    return low, high


def spread(values):
    median = statistics.median(values)
    if len(values) < 2 or not median:
        return None
    low, high = quartiles(values)
    return (high - low) / median


class Rows:
    """Samples in, rows out."""

    def __init__(self):
        self.samples = {}  # (contestant, name) -> values
        self.within = {}  # (contestant, name) -> five numbers for each run
        self.units = {}
        self.conditions = {}  # (contestant, name) -> what is particular about the measurement

    def add(self, contestant, name, unit, value, distribution=None, **conditions):
        if value is None:
            return
        self.units.setdefault(name, unit)
        self.samples.setdefault((contestant, name), []).append(value)
        if distribution:
            self.within.setdefault((contestant, name), []).append(distribution)
        if conditions:
            self.conditions.setdefault((contestant, name), {}).update(conditions)

    def median(self, contestant, name):
        values = self.samples.get((contestant, name))
        return statistics.median(values) if values else None

    def spread(self, contestant, name):
        values = self.samples.get((contestant, name))
        return spread(values) if values else None

    def names(self):
        """In the order in which they were measured first."""
        return list(dict.fromkeys(name for _, name in self.samples))

    def row(self, contestant, name):
        values = self.samples[contestant, name]
        row = {
            'name': name,
            'unit': self.units[name],
            'contestant': contestant,
            'value': statistics.median(values),
            'spread': spread(values),
            'samples': values,
            'conditions': {'runs': len(values), **self.conditions.get((contestant, name), {})},
        }
        if (contestant, name) in self.within:
            row['distribution'] = [statistics.median(n) for n in zip(*self.within[contestant, name])]
        return row

    def all(self):
        return [self.row(contestant, name) for contestant, name in self.samples]


def noise(rows, among=('native', 'native64')):
    """The median spread of the host's own rows: how noisy the machine was. None: there are none."""
    known = [r['spread'] for r in rows if r['contestant'] in among and r['spread'] is not None]
    return statistics.median(known) if known else None


def is_row(row):
    """Whether it has what is made of rows here, of the kinds that they are."""
    number = (int, float)
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(field), str) for field in ('name', 'unit', 'contestant'))
        and isinstance(row.get('value'), (*number, type(None)))
        and isinstance(row.get('samples'), list)
        and all(isinstance(sample, number) for sample in row['samples'])
    )


def load(path):
    """A result that --json wrote. Raises ValueError with one line if it is none, or not a whole one."""
    with open(path, encoding='utf-8') as file:
        try:
            result = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{path}: is no JSON: {error}') from None
    if not isinstance(result, dict) or result.get('format') != FORMAT or not isinstance(result.get('rows'), list):
        raise ValueError(f'{path}: is no result of `transvisor bench --json` of format {FORMAT}')
    for n, row in enumerate(result['rows'], 1):
        if not is_row(row):
            raise ValueError(f'{path}: row {n} is none of `transvisor bench --json`')
    return result
