"""Load for a web server: ab (ApacheBench), the host's own or Debian's from bench/fetch.sh."""
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import material
from workloads import WEB

AT_A_TIME, SECONDS, LATE = 4, 2, 120
READY = 'BENCH-WEB-READY'


def find_ab():
    """A command. Raises OSError or CalledProcessError where there is none to be had."""
    return [shutil.which('ab')] if shutil.which('ab') else material.ab_command()


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        return listener.getsockname()[1]


def wait_for(port):
    """The guest may say that it is ready before its server listens."""
    for _ in range(100):
        try:
            return urllib.request.urlopen(f'http://127.0.0.1:{port}/{next(iter(WEB))}', timeout=10).read()
        except OSError:
            time.sleep(0.1)
    return None


def microseconds(said):
    """Of a request, by what ab prints; None if not all of them were answered."""
    per = re.search(r'^Time per request: +([0-9.]+) \[ms\] \(mean, across all', said, re.M)
    bad = re.search(r'^(?:Failed requests|Non-2xx responses): +([1-9])', said, re.M)
    done = re.search(r'^Complete requests: +([1-9])', said, re.M)
    return float(per.group(1)) * 1e3 if per and done and not bad else None


class Load:
    """What Run tells of each line (on_line): once the server is ready it is measured, and ended."""

    def __init__(self, ab, port):
        self.ab, self.port = ab, port

    def __call__(self, run, line, process):
        if READY not in line:
            return
        try:
            self.measure(run)
        finally:
            try:
                urllib.request.urlopen(f'http://127.0.0.1:{self.port}/cgi-bin/end', timeout=20).read()
            except OSError as error:
                run.failed.append(f'BENCH-FAILED web: its end: {error}')
                process.kill()

    def measure(self, run):
        if wait_for(self.port) is None:
            run.failed.append('BENCH-FAILED web: nobody answers')
            return
        for name in WEB:
            command = [*self.ab, '-q', '-c', str(AT_A_TIME), '-t', str(SECONDS), '-n', '1000000', '-s', '20']
            done = subprocess.run(
                [*command, f'http://127.0.0.1:{self.port}/{name}'],
                capture_output=True,
                text=True,
                timeout=LATE,
                check=False,
                env={**os.environ, 'LC_ALL': 'C'},
            )
            took = microseconds(done.stdout)
            if took is None:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:]
                run.failed.append(f'BENCH-FAILED {name}: ab: status {done.returncode}: {" ".join(last)}')
            else:
                run.values[name] = (took, 'us')
