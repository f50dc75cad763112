"""What became slower since another result, and how sure that is.

The logarithms of two medians differ by so many standard errors. An error comes of the samples' spread: 1.2533 sigma
over the root of their number is that of a median, and the range of few samples stands for sigma. How the machine
itself has changed is what the host's own rows show: their median change is taken off, and their scatter is one more
error.
"""
import math
import statistics

HOSTS = ('native', 'native64')
SURE = 0.95  # of a change, to be called one
LEAST = 0.03  # and it is at least so large
FLOOR = 0.005  # no median is better known than that
# Of so many samples of a normal distribution the range is so many sigmas, on average.
RANGE = {2: 1.128, 3: 1.693, 4: 2.059, 5: 2.326, 6: 2.534, 7: 2.704, 8: 2.847, 9: 2.970}


def standard_error(samples):
    """Of the logarithm of the median; None if one sample says nothing."""
    if len(samples) < 2 or min(samples) <= 0:
        return None
    logs = [math.log(s) for s in samples]
    n = len(logs)
    sigma = (max(logs) - min(logs)) / RANGE[n] if n in RANGE else statistics.stdev(logs)
    return max(FLOOR, 1.2533 * sigma / math.sqrt(n))


def key(row):
    return row['contestant'], row['name']


def machine_change(pairs):
    """The host's own rows: the logarithm by which they have changed, and its scatter."""
    logs = [math.log(new['value'] / old['value']) for old, new in pairs if new['contestant'] in HOSTS]
    if len(logs) < 3:
        return 0.0, 0.0
    middle = statistics.median(logs)
    return middle, 1.4826 * statistics.median(abs(x - middle) for x in logs) / math.sqrt(len(logs))


def compare(old_rows, new_rows):
    """A list of {name, contestant, unit, old, new, change, confidence, verdict}, the worst first, and by which factor
    the machine has changed. verdict: slower, faster, same, or unknown (one sample)."""
    before = {key(r): r for r in old_rows if r['value'] and r['value'] > 0}
    pairs = [(before[key(r)], r) for r in new_rows if key(r) in before and r['value'] and r['value'] > 0]
    drift, scatter = machine_change(pairs)
    out = []
    for old, new in pairs:
        own = drift if new['contestant'] not in HOSTS else 0.0
        change = math.log(new['value'] / old['value']) - own
        errors = [standard_error(old['samples']), standard_error(new['samples'])]
        confidence = None
        verdict = 'unknown'
        if None not in errors:
            error = math.sqrt(errors[0] ** 2 + errors[1] ** 2 + (scatter**2 if own else 0))
            confidence = math.erf(abs(change) / error / math.sqrt(2))
            certain = confidence >= SURE and abs(change) >= math.log(1 + LEAST)
            verdict = ('slower' if change > 0 else 'faster') if certain else 'same'
        out.append(
            {
                'name': new['name'],
                'contestant': new['contestant'],
                'unit': new['unit'],
                'old': old['value'],
                'new': new['value'],
                'change': math.exp(change),
                'confidence': confidence,
                'verdict': verdict,
            }
        )
    out.sort(key=lambda c: -c['change'])
    return out, math.exp(drift)


def ratio_change(old_rows, new_rows, first='bt'):
    """By how much the ratios of one contestant's medians to the others' have changed, as a median over all of them:
    |new / old - 1|. None: there are none in both."""

    def ratios(rows):
        by_key = {key(r): r['value'] for r in rows if r['value']}
        return {k: v / by_key[first, k[1]] for k, v in by_key.items() if k[0] != first and (first, k[1]) in by_key}

    old, new = ratios(old_rows), ratios(new_rows)
    changes = [abs(new[k] / old[k] - 1) for k in new if k in old]
    return statistics.median(changes) if changes else None
