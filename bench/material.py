"""What a measurement needs, made once: the benchmark program, the amount of work, Debian's programs, images for
guests."""
import os
import re
import resource
import shutil
import subprocess

from workloads import COMPUTE, MEDLEY_MS

HERE = os.path.dirname(os.path.realpath(__file__))
GUEST = os.path.join(HERE, 'guest')
INSN = os.path.join(HERE, '..', 'tests', 'insn')
GUESTS = os.path.join(HERE, '..', 'tests', 'guests')
CACHE = os.environ.get('TRANSVISOR_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'transvisor'
)
I386_ONLY = ('os.c', 'smc.c', 'watch.c', 'nano.c', 'lmbench.c')
SCRIPTS = [os.path.join(GUEST, f) for f in ('packages.sh', 'shell_loop.sh', 'sqlite.sql', 'web.sh')]
# Debian's drivers, in the order in which they need each other.
VIRTIO = ['virtio', 'virtio_ring', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev', 'virtio_pci']
DRIVERS = {
    'disk': [
        *VIRTIO, 'virtio_blk', 'crct10dif_common', 'crc-t10dif', 'crc64', 'crc64-rocksoft', 't10-pi', 'scsi_common',
        'scsi_mod', 'libata', 'ata_piix', 'sd_mod',
    ],
    'web': [*VIRTIO, 'failover', 'net_failover', 'virtio_net'],
}
DISK_BYTES = 64 << 20


def build_program(bits):
    """Compiles bench/guest into the cache, static as a guest's own programs are: -O2 for i686 or x86-64. What is about
    the processor or the kernel is i386 only."""
    sources = sorted(os.path.join(GUEST, f) for f in os.listdir(GUEST) if f.endswith(('.c', '.h')))
    directory = os.path.join(CACHE, 'bench', str(bits))
    os.makedirs(directory, exist_ok=True)
    program = os.path.join(directory, 'bench')
    if not os.path.exists(program) or any(os.path.getmtime(f) > os.path.getmtime(program) for f in sources):
        c_files = [f for f in sources if f.endswith('.c') and (bits == 32 or os.path.basename(f) not in I386_ONLY)]
        subprocess.run(
            ['gcc', f'-m{bits}', '-O2', '-static', '-pthread', '-Wall', '-Wextra', '-o', program + '.new'] + c_files,
            check=True
        )
        os.rename(program + '.new', program)
    return program


def build_kernel(name):
    """Compiles a Multiboot guest of bench/kernel, on the run-time of tests/insn, into the cache."""
    source = os.path.join(HERE, 'kernel', name + '.c')
    runtime = [os.path.join(INSN, f) for f in ('start.S', 'rt.c', 'user.c')]
    script = os.path.join(INSN, 'link.ld')
    directory = os.path.join(CACHE, 'bench', 'kernel')
    os.makedirs(directory, exist_ok=True)
    kernel = os.path.join(directory, name + '.elf')
    subprocess.run(
        ['gcc', '-m32', '-march=i686', '-mgeneral-regs-only', '-std=gnu11', '-O2', '-ffreestanding', '-nostdlib']
        + ['-static', '-fno-pic', '-fno-pie', '-fno-stack-protector', '-fcf-protection=none', '-fno-strict-aliasing']
        + ['-fno-asynchronous-unwind-tables', '-Wall', '-Wextra', '-Wl,--build-id=none', '-Wl,-n', '-T', script]
        + ['-I', os.path.join(HERE, '..'), '-o', kernel + '.new', *runtime, source, '-lgcc'],
        check=True,
    )
    os.rename(kernel + '.new', kernel)
    return kernel


def runs_here(program):
    """Not every x86-64 host starts i386 programs."""
    try:
        return subprocess.run([program, '--list'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def calibrate(program, percent):
    """How many units of each kernel make 1.1 s on this host, 20 ms, and its part of the medley: the same numbers go to
    every side. What counts is the processor's time, for the host may have other work."""
    units, young, medley = {}, {}, {}
    for name, medley_ms in zip(COMPUTE, MEDLEY_MS):
        count, ms = 8, 0
        while ms < 150:
            count *= 2
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            subprocess.run([program, '--units', str(count), name], stdout=subprocess.DEVNULL, check=True)
            ms = 1e3 * (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
        units[name] = max(1, round(1100 * percent / 100 * count / ms))
        young[name] = max(1, round(20 * count / ms))
        medley[name] = max(1, round(medley_ms * count / ms))
    return {'units': units, 'young': young, 'medley': medley}


def fetch(script, *arguments):
    text = subprocess.run([script, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(re.findall(r"^(\w+)='(.*)'$", text, re.M))


def kernel_path(flavour):
    return fetch(os.path.join(GUESTS, 'fetch.sh'), flavour, 'busybox')['KERNEL_' + flavour.upper().replace('-', '_')]


def fetched_root(what, arch):
    """The directory that bench/fetch.sh has: packages or network."""
    return fetch(os.path.join(HERE, 'fetch.sh'), what, arch)[f'{what}_{arch}'.upper()]


def packages_root(arch):
    return fetched_root('packages', arch)


def modules():
    """A tree with the 686 kernel's modules."""
    return fetch(os.path.join(GUESTS, 'fetch.sh'), '686', 'busybox', 'modules-686')['MODULES_686']


def ab_command():
    """Debian's ab, from a root of its own: with that root's loader and libraries."""
    root = fetch(os.path.join(HERE, 'fetch.sh'), 'load', 'amd64')['LOAD_AMD64']
    libraries = ':'.join(os.path.join(root, d, 'x86_64-linux-gnu') for d in ('usr/lib', 'lib'))
    loader = os.path.join(root, 'lib64', 'ld-linux-x86-64.so.2')
    return [loader, '--library-path', libraries, os.path.join(root, 'usr', 'bin', 'ab')]


def busybox_here():
    """One that this host runs."""
    return fetch(os.path.join(GUESTS, 'fetch.sh'), '686', 'busybox', 'busybox-host')['BUSYBOX_HOST']


def drivers_tree(directory, image):
    """A root with the drivers that an image needs in /lib/m, and their order in /lib/m/bench."""
    into = os.path.join(directory, 'lib', 'm')
    os.makedirs(into)
    for name in DRIVERS[image]:
        shutil.copy(os.path.join(modules(), 'lib', 'm', name + '.ko'), into)
    with open(os.path.join(into, 'bench'), 'w', encoding='ascii') as order:
        order.write('\n'.join(DRIVERS[image]) + '\n')
    return directory


def make_disk(path):
    """With something everywhere: no request is answered by a hole."""
    with open(path, 'wb') as file:
        for _ in range(DISK_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    return path


def plan_directory(directory, program, script, *more):
    """What a plan and its programs need beside the root's own: files for one directory of PATH."""
    os.makedirs(directory)
    with open(os.path.join(directory, 'plan'), 'w') as plan:
        plan.write(script)
    for file in [program, *SCRIPTS, *more]:
        shutil.copy(file, directory)
    return directory


def pack(variant, output, directory=None, *trees):
    """An initramfs: one of tests/guests/init, a plan_directory() in /bin, and roots to start from."""
    arguments = [word for tree in trees if tree for word in ('--tree', tree)]
    for file in sorted(os.listdir(directory)) if directory else []:
        arguments += ['--add', os.path.join(directory, file)]
    subprocess.run([os.path.join(GUESTS, 'mkinitramfs.sh'), *arguments, variant, output], check=True)
