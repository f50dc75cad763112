#!/usr/bin/env python3
"""Sound from outside: what a guest plays is in the recording, at its frequency and without gaps; what is asked for
wrongly is one line.

  sound.py TRANSVISOR [-k WORD]     runs the cases (those whose name holds WORD)
"""
import array
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import cli
from cli import LIMIT, POWEROFF, SPIN, cases, check, in_jail, out8
from ears import RATE, left, pitch, sounds, usual_pitch


# ---- guests ----


def beep(hz, reads):
    """Counter 2 in mode 3, port B, and reads of port B, each a microsecond or more."""
    count = 1193182 // hz
    code = out8(0x43, 0xB6) + out8(0x42, count & 255) + out8(0x42, count >> 8) + out8(0x61, 3)
    # mov ecx,reads; l: in al,61h; loop l
    return code + b'\xb9' + struct.pack('<I', reads) + b'\xe4\x61\xe2\xfc' + out8(0x61, 0)


def wait(reads):
    return b'\xb9' + struct.pack('<I', reads) + b'\xe4\x61\xe2\xfc'


# ---- cases: each is named by the sentence it proves ----


@in_jail
def a_beep_is_recorded_at_its_pitch(b):
    path = os.path.join(b.dir, 'a.wav')
    m = b.start(beep(440, 300000) + wait(100000) + beep(1500, 200000) + POWEROFF, '--audio', f'wav:{path}')
    status, _, err = m.end()
    check((status, err) == (0, ''), f'status {status}, {err!r}')
    heard = left(path)
    parts = sounds(heard)
    check(len(parts) == 2, f'{parts}')
    for (start, end), hz in zip(parts, (440, 1500)):
        got, longest = pitch(heard, start + 200, end - 200)
        check(abs(got - hz) < hz * 0.01, f'{got} Hz instead of {hz}')
        check(longest < 1.3, f'{hz} Hz: a cycle took {longest} of its time')
        check(end - start > RATE // 10, f'{hz} Hz: {end - start} frames')
    with open(path, 'rb') as f:
        data = f.read()
    check(len(data) == 8 + struct.unpack('<I', data[4:8])[0], 'the length that the file says it has')


@in_jail
def a_recording_is_whole_after_a_signal(b):
    for how in (signal.SIGTERM, signal.SIGKILL):
        path = os.path.join(b.dir, 'a.wav')
        m = b.start(beep(440, 1) + out8(0x61, 3) + SPIN, '--audio', f'wav:{path}')
        deadline = time.monotonic() + LIMIT
        while not os.path.exists(path) or os.path.getsize(path) < 60000:
            check(m.process.poll() is None and time.monotonic() < deadline, 'no recording')
            time.sleep(0.01)
        m.process.send_signal(how)
        m.end()
        heard = left(path)
        got, longest = pitch(heard, 500, len(heard))
        check(abs(got - 440) < 4 and longest < 1.3, f'{how}: {got} Hz, {longest}')
        os.remove(path)


def a_pause_leaves_no_gap(b):
    path, door = os.path.join(b.dir, 'a.wav'), os.path.join(b.dir, 'qmp')
    m = b.start(beep(440, 1) + out8(0x61, 3) + SPIN, '--audio', f'wav:{path}', '--monitor', f'unix:{door}')
    deadline = time.monotonic() + LIMIT
    while not os.path.exists(path) or os.path.getsize(path) < 40000:
        check(m.process.poll() is None and time.monotonic() < deadline, 'no recording')
        time.sleep(0.01)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(door)
        s.settimeout(LIMIT)
        f = s.makefile('rw')
        f.readline()
        for command in ('qmp_capabilities', 'stop', None, 'cont', None, 'quit'):
            if command is None:
                time.sleep(0.3)
                continue
            f.write(json.dumps({'execute': command}) + '\n')
            f.flush()
            while 'return' not in json.loads(f.readline()):
                pass
    m.end()
    heard = left(path)
    got, longest = pitch(heard, 500, len(heard))
    check(abs(got - 440) < 4 and longest < 1.3, f'{got} Hz, {longest}')


def a_loaded_machine_plays_on(b):
    one, two, file = (os.path.join(b.dir, n) for n in ('a.wav', 'b.wav', 'saved'))
    m = b.start(beep(440, 1) + out8(0x61, 3) + SPIN, '--audio', f'wav:{one}', '--save-at-exit', file)
    deadline = time.monotonic() + LIMIT
    while not os.path.exists(one) or os.path.getsize(one) < 40000:
        check(m.process.poll() is None and time.monotonic() < deadline, 'no recording')
        time.sleep(0.01)
    m.process.send_signal(signal.SIGTERM)
    m.end()

    def load(*words):
        return subprocess.run(
            [b.program, 'run', '--load', file, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    load('--audio', f'wav:{two}', '--timeout', '1')
    heard = left(two)
    got, longest = pitch(heard, 500, len(heard))
    check(abs(got - 440) < 4 and longest < 1.3, f'{got} Hz, {longest}')
    said = load('--sound', 'none')
    check(said.returncode == 2 and '--sound: the saved machine has speaker' in said.stderr, f'{said}')


def libraries_play(b):
    """ALSA's and SDL's ways to write what they play into a file."""
    raw = os.path.join(b.dir, 'raw')
    with open(os.path.join(b.dir, '.asoundrc'), 'w', encoding='ascii') as f:
        f.write('pcm.!default { type file file "%s" format raw slave.pcm null }\n' % raw)
    env = dict(os.environ, HOME=b.dir, SDL_AUDIODRIVER='disk', SDL_DISKAUDIOFILE=raw)
    tried = 0
    for how in ('alsa', 'sdl'):
        m = b.start(beep(440, 500000) + POWEROFF, '--audio', how, env=env)
        status, _, err = m.end()
        if 'cannot be loaded' in err:
            continue
        tried += 1
        err = ''.join(line for line in err.splitlines(True) if not line.startswith('CRITICAL'))  # SDL, of its driver
        said = f'transvisor: warning: no jail: --audio {how} needs what it gives up\n'
        check((status, err) == (0, said), f'{how}: status {status}, {err!r}')
        with open(raw, 'rb') as f:
            data = f.read()
        heard = array.array('h', data[: len(data) // 4 * 4])[::2]
        parts = [p for p in sounds(heard) if p[1] - p[0] > RATE // 20]
        check(parts, f'{how}: {len(heard)} frames')
        got = usual_pitch(heard, parts[0][0] + 200, parts[0][1] - 200)
        check(abs(got - 440) < 10, f'{how}: {got} Hz')
        os.remove(raw)
    print(f'sound.py: {tried} libraries of 2')


def what_is_wrong_is_one_line(b):
    absent = dict(os.environ, HOME=b.dir, PULSE_SERVER='/nonexistent', SDL_AUDIODRIVER='nonexistent')
    with open(os.path.join(b.dir, '.asoundrc'), 'w', encoding='ascii') as f:
        f.write('pcm.!default { type hw card 77 }\n')
    for words, status, text in (
        (('--sound', 'ac98'), 2, "--sound: there is no 'ac98'; there are none, speaker, ac97, es1370, sb16"),
        (('--sound', 'speaker,'), 2, "--sound: there is no ''"),
        (('--audio', 'oss'), 2, "--audio: there is no 'oss'; there are none, wav:FILE, pulse, alsa, sdl"),
        (('--audio', 'wav:/nonexistent/a'), 1, '--audio wav:/nonexistent/a: No such file'),
        (('--audio', 'wav:' + b.dir), 1, 'Is a directory'),
        (('--audio', 'pulse'), 1, '--audio pulse: '),
        (('--audio', 'alsa'), 1, '--audio alsa: '),
        (('--audio', 'sdl'), 1, '--audio sdl: '),
        (('--audiodev', 'pa'), 2, 'say --sound'),
    ):
        m = b.start(POWEROFF, *words, env=absent)
        got, _, err = m.end()
        check(got == status and text in err and err.count('\n') == 1, f'{words}: status {got}, {err!r}')
    for option in ('--sound', '--audio'):
        m = b.start(POWEROFF, option, 'help')
        got, out, _ = m.end()
        names = {line.split()[0] for line in out.decode().splitlines()}
        check(got == 0 and names >= ({'speaker'} if option == '--sound' else {'none', 'pulse'}), f'{option}: {names}')


@in_jail
def a_card_that_nobody_hears_works_as_well(b):
    for words in (('--sound', 'speaker'), ('--sound', 'speaker', '--audio', 'none'), ('--sound', 'none')):
        status, _, err = b.start(beep(440, 1000) + POWEROFF, *words).end()
        check((status, err) == (0, ''), f'{words}: status {status}, {err!r}')


if __name__ == '__main__':
    sys.exit(cli.main(cases(globals(), __name__), ('bt',), 'sound.py'))
