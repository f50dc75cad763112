"""The machine that a result is of, as far as it tells: processor, kernel, mitigations, and what `transvisor check`
says."""
import glob
import json
import os
import platform
import re
import subprocess


def text_of(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return file.read().strip()
    except OSError:
        return None


def processor():
    info = text_of('/proc/cpuinfo') or ''
    first = dict(re.findall(r'^([^\t:]+)\t*: (.*)$', info.split('\n\n')[0], re.M))
    wanted = ('model name', 'vendor_id', 'cpu family', 'model', 'stepping', 'microcode', 'cpu MHz', 'cache size')
    flags = set(first.get('flags', '').split())
    return {
        **{k: first[k] for k in wanted if k in first},
        'processors': os.cpu_count(),
        'virtual': 'hypervisor' in flags,
        'vmx or svm': bool(flags & {'vmx', 'svm'}),
    }


def mitigations():
    return {os.path.basename(p): text_of(p) for p in sorted(glob.glob('/sys/devices/system/cpu/vulnerabilities/*'))}


def check(program):
    """What `transvisor check --json` says; empty if that is no transvisor."""
    try:
        done = subprocess.run([program, 'check', '--json'], capture_output=True, text=True, timeout=60, check=False)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        return (done.stdout or done.stderr).partition('\n')[0]
    except (OSError, subprocess.TimeoutExpired):
        return None


def describe(program):
    """program: a transvisor, or None."""
    return {
        'processor': processor(),
        'memory': (re.search(r'MemTotal:\s+(.*)', text_of('/proc/meminfo') or '') or [None, None])[1],
        'kernel': platform.release(),
        'system': (re.search(r'^PRETTY_NAME="?(.*?)"?$', text_of('/etc/os-release') or '', re.M) or [None, None])[1],
        'governor': text_of('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor'),
        'mitigations': mitigations(),
        'load before': os.getloadavg(),
        'check': check(program) if program else {},
        'versions': {
            'transvisor': first_line(program, '--version') if program else None,
            'qemu': first_line('qemu-system-i386', '--version'),
        },
    }
