#!/usr/bin/env python3
"""The tests whose way depends on whether the host runs 32-bit code, as on a host that runs none (without32.c).

  without32.py --build DIRECTORY [--ctest CTEST]

Takes the tests from ctest's own list, so that there is no second one. Each gets a line with its verdict, and if it
failed, its output. The exit status is 0 if none failed, 1 if one did, and 77 (skipped) where this host is such a host
itself: there ctest runs them as they are.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time

SKIPPED = 77
# The native judge and what stands in for it, direct execution and what it says when it cannot be had, the guests'
# checksums.
TESTS = (
    r'diff/|direct/proc|unit/test_(dx_process|dispatch|space|window)|insn/(direct.*|hostile)/|cli$|'
    r'guests/686-script-bt$'
)


def listed(ctest, build):
    """ctest's tests: name, command, and what it knows of them."""
    done = subprocess.run([ctest, '--show-only=json-v1'], cwd=build, stdout=subprocess.PIPE, check=True)
    for test in json.loads(done.stdout)['tests']:
        properties = {entry['name']: entry['value'] for entry in test.get('properties', [])}
        if 'command' in test and 'long' not in properties.get('LABELS', []) and re.match(TESTS, test['name']):
            yield test['name'], test['command'], properties


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('\n\n')[1].strip())
    parser.add_argument('--build', required=True)
    parser.add_argument('--ctest', default='ctest')
    options = parser.parse_args()
    build = os.path.abspath(options.build)
    here = f'{build}/tests/nested'
    if subprocess.run([f'{here}/probe', '--check'], stdout=subprocess.DEVNULL).returncode != 0:
        print('skipped: this host is one without 32-bit code')
        return SKIPPED
    if subprocess.run([f'{here}/without32', f'{here}/probe', '--check'], stdout=subprocess.DEVNULL).returncode == 0:
        print('FAILED: under without32 there is 32-bit code still')
        return 1
    ran = failed = skipped = 0
    for name, command, properties in listed(options.ctest, build):
        begin = time.monotonic()
        environment = dict(os.environ, **dict(entry.split('=', 1) for entry in properties.get('ENVIRONMENT', [])))
        try:
            done = subprocess.run(
                [f'{here}/without32', *command],
                cwd=properties.get('WORKING_DIRECTORY', build),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=properties.get('TIMEOUT', 300),
                universal_newlines=True,
                errors='replace',
            )
            status, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            status, output = None, str(late)
        ran += 1
        if status == 0:
            verdict = 'ok'
        elif status is not None and status == properties.get('SKIP_RETURN_CODE'):
            verdict, skipped = 'skipped', skipped + 1
        else:
            verdict, failed = 'FAILED', failed + 1
        print(f'{verdict:8}{name:30} {time.monotonic() - begin:.1f} s', flush=True)
        if verdict == 'FAILED':
            print(f'status {status}\n{output}')
    print(f'{ran} tests, {failed} failed, {skipped} skipped')
    return 1 if failed or not ran else 0


if __name__ == '__main__':
    sys.exit(main())
