"""What is to be heard in a recording of --audio wav:FILE."""
import array
import statistics
import wave

RATE = 48000


def left(path):
    """The left channel of a recording."""
    with wave.open(path) as w:
        if (w.getframerate(), w.getnchannels(), w.getsampwidth()) != (RATE, 2, 2):
            raise ValueError(f'{w.getparams()}')
        samples = array.array('h', w.readframes(w.getnframes()))
    return samples[::2]


def sounds(samples, quiet=500, apart=RATE // 20):
    """The parts that are louder than quiet, as (start, end); silence of less than apart frames is in them."""
    parts = []
    for i, v in enumerate(samples):
        if -quiet <= v <= quiet:
            continue
        if parts and i - parts[-1][1] < apart:
            parts[-1][1] = i + 1
        else:
            parts.append([i, i + 1])
    return [tuple(p) for p in parts]


def rising(samples, start, end):
    """Where it goes through zero upwards."""
    crossings, below = [], False
    for i in range(start, end):
        if samples[i] < 0:
            below = True
        elif below:
            crossings.append(i)
            below = False
    return crossings


def pitch(samples, start, end):
    """Cycles a second, by rising zero crossings, and the longest time between two of them in cycles."""
    crossings = rising(samples, start, end)
    if len(crossings) < 3:
        return 0, 0
    cycle = (crossings[-1] - crossings[0]) / (len(crossings) - 1)
    return RATE / cycle, max(b - a for a, b in zip(crossings, crossings[1:])) / cycle


def usual_pitch(samples, start, end):
    """Cycles a second of most cycles: for what is played as the host finds the time."""
    crossings = rising(samples, start, end)
    cycles = sorted(b - a for a, b in zip(crossings, crossings[1:]))
    part = len(cycles) // 4
    return RATE / statistics.mean(cycles[part : len(cycles) - part]) if cycles else 0
