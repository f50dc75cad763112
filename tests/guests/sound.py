#!/usr/bin/env python3
"""Sound cards under drivers that nobody here wrote: one boot of Debian's kernel, whose modules play a tone each in
several formats; the recording has each at its pitch, in its turn, without a gap.

  sound.py --transvisor FILE [--work DIRECTORY] drivers|busy
  sound.py --list --long yes|no

busy: longer tones, while processes in the guest compute, read files and start others all the time.
Status 77: what it needs is not here.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

from fetched import fetched_modules

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from ears import RATE, left, pitch, sounds  # noqa: E402

CARDS = 'ac97,es1370,sb16'
TONES = [  # ALSA's name of the card, its device, rate, bits, channels, and the tone
    ('I82801AAICH', 0, 48000, 16, 2, 500),
    ('I82801AAICH', 0, 22050, 16, 2, 750),
    ('AudioPCI', 0, 44100, 16, 2, 900),
    ('AudioPCI', 0, 16000, 8, 1, 1100),
    ('AudioPCI', 1, 22050, 16, 2, 1300),
    ('SB16', 0, 44100, 16, 2, 600),
    ('SB16', 0, 22050, 16, 1, 1000),
    ('SB16', 0, 11025, 16, 2, 700),
    ('SB16', 0, 22050, 8, 2, 800),
    ('SB16', 0, 16000, 8, 1, 500),
    ('speaker', 1500),
]
# By case: milliseconds of each, the tones, and words for the guest.
CASES = {'drivers': (400, TONES, ''), 'busy': (2500, [TONES[i] for i in (0, 2, 5, 8)], ' hogs=yes')}


def wrong(path, ms, tones):
    """What is wrong with the recording."""
    heard = left(path)
    parts = [p for p in sounds(heard, quiet=300) if p[1] - p[0] > RATE // 50]
    if len(parts) != len(tones):
        yield f'{len(parts)} sounds: {parts}'
    for tone, (start, end) in zip(tones, parts):
        want = tone[-1]
        # A driver that is late to stop the card lets it play on, what is in the buffer.
        got, longest = pitch(heard, start + RATE // 100, min(end, start + RATE * ms // 1000) - RATE // 100)
        if abs(got - want) > want * 0.005 or longest > 1.3:
            yield f'{tone}: {got:.1f} Hz, and a cycle that took {longest:.1f} of its time'
        if not -0.02 * ms - 30 < (end - start) / RATE * 1000 - ms < 300:
            yield f'{tone}: {(end - start) / RATE * 1000:.0f} ms'


def play(args):
    ms, tones, more = CASES[args.test]
    kernel, modules = fetched_modules()
    os.makedirs(args.work, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        initrd, tone, wav = (os.path.join(work, name) for name in ('sound.cpio', 'tone', 'sound.wav'))
        source = os.path.join(HERE, 'tone.c')
        subprocess.run(['cc', '-m32', '-static', '-O1', '-o', tone, source, '-lm'], check=True)
        subprocess.run(
            [os.path.join(HERE, 'mkinitramfs.sh'), '--tree', modules, '--add', tone, 'sound', initrd], check=True
        )
        words = [','.join(map(str, t)) + f',{ms}' for t in tones]
        command = [args.transvisor, 'run', '--kernel', kernel, '--initrd', initrd, '--memory', '256M']
        command += ['--serial', 'stdio', '--sound', CARDS, '--audio', f'wav:{wav}', '--timeout', '250']
        command += ['--append', 'console=ttyS0 panic=-1 loglevel=3 ' + ' '.join(f'play={w}' for w in words) + more]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
        said = done.stdout.decode(errors='replace').replace('\r', '')
        bad = [f'not said: {w}' for w in words if f'SOUND play={w} 0' not in said.split('\n')]
        bad += list(wrong(wav, ms, tones))
        idle = re.search(r'SOUND idle (\d+) of (\d+)', said)
        if more and (not idle or int(idle[1]) > int(idle[2]) // 10):
            bad.append(f'the guest was not busy: {idle and idle[0]}')
        if os.environ.get('SOUND_KEEP'):
            os.rename(wav, os.environ['SOUND_KEEP'])
    if done.returncode or bad:
        print(said)
        print(f'status {done.returncode}', *bad, sep='\n')
        return 1
    print(f'{len(tones)} tones')
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--transvisor')
    parser.add_argument('--work', default='.')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--long', choices=('yes', 'no'))
    parser.add_argument('test', nargs='?', choices=list(CASES))
    args = parser.parse_args()
    if args.list:
        print('' if args.long == 'yes' else '\n'.join(CASES))
        return 0
    return play(args)


if __name__ == '__main__':
    sys.exit(main())
