"""What fetch.sh has for a guest, or the end of a test that cannot be made."""
import os
import re
import subprocess
import sys

SKIPPED = 77


def fetched(missing, *parts):
    """The paths of these parts, by the names that fetch.sh prints. Where one is not to be had the test is skipped, and
    says missing."""
    command = [os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fetch.sh'), *parts]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print('skipped: ' + missing)
        sys.exit(SKIPPED)
    return dict(re.findall(r"(?m)^(\w+)='(.*)'$", done.stdout))


def fetched_modules():
    """The kernel, and a tree with its modules."""
    paths = fetched(
        'the modules of the kernel that is here are not to be had any more', '686', 'busybox', 'modules-686'
    )
    return paths['KERNEL_686'], paths['MODULES_686']
