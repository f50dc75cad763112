"""What others have published, to stand beside what is measured here. Machine and year are theirs: what compares is how
many times native cost something takes, not its cycles or nanoseconds.

A figure is a row as in rows.py, of a contestant that is no more; `conditions` say where it is from. `about` says what
was meant where that is not quite what the row here does.
"""
import collections

# systems: their contestants, in the order in which they are shown; the first is their native.
Source = collections.namedtuple('Source', 'key text year machine systems')

ADAMS_AGESEN = Source(
    'Adams & Agesen 2006',
    'K. Adams, O. Agesen: A Comparison of Software and Hardware Techniques for x86 Virtualization. ASPLOS XII, 2006',
    2006,
    'HP xw4300, Intel Pentium 4 672 (3.8 GHz, VT-x without nested paging)',
    ('native', 'software VMM', 'hardware VMM'),
)
SOURCES = (ADAMS_AGESEN,)

FORKS = 40000  # forkwait: so many processes, one after another

# Of each source: the name here, unit, what each of its systems took, and what they called it and did.
FIGURES = {
    ADAMS_AGESEN: [
        ('forkwait', 'ms', [6000, 36900, 106400], f'forkwait: {FORKS} processes'),
        ('fork', 'ns', [s * 1e9 / FORKS for s in (6.0, 36.9, 106.4)], f'forkwait: {FORKS} in 6.0, 36.9 and 106.4 s'),
        ('call_ret', 'cycles', [11, 51, 11], 'call/ret'),
        ('in', 'cycles', [3209, 3209 / 15, 15826], 'in, port 80h; software: "fifteen times faster than native"'),
        ('page_fault', 'cycles', [1093, 3927, 11242], 'pgfault'),
        ('divide_error', 'cycles', [889, 3223, 1014], 'divzero'),
        ('pte_same', 'cycles', [1, 391, 12733], 'ptemod; native: "single cycle store"'),
        ('tpr_write', 'cycles', [None, 35, None], 'cr8wr: MOV to CR8, which 32-bit code has not'),
    ],
}


def rows(source):
    """Its figures, as rows: of each name its systems' in turn."""
    return [
        {
            'name': name,
            'unit': unit,
            'contestant': system,
            'value': value,
            'spread': None,
            'samples': [value],
            'conditions': {'source': source.key, 'year': source.year, 'machine': source.machine, 'about': about},
        }
        for name, unit, values, about in FIGURES[source]
        for system, value in zip(source.systems, values)
        if value is not None
    ]
