#!/usr/bin/env python3
"""Probes from Python: runs a few instructions on a bare processor, is called before some of them, counts others.

  python3 probes.py [libtransvisor.so.0]
"""
import ctypes
import sys

lib = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else 'libtransvisor.so.0')
GO, SKIP, STOP = range(3)  # enum vm_probe_verdict
EXIT_PROBE = 10  # enum vm_exit
CODE = 0x1000
#       mov cx, 5; 1: inc ax; add bx, ax; loop 1b; hlt
PROGRAM = bytes.fromhex('b90500 40 01c3 e2fb f4')


class Error(ctypes.Structure):
    _fields_ = [('text', ctypes.c_char * 512)]


class Disk(ctypes.Structure):
    _fields_ = [
        ('file', ctypes.c_char_p),
        ('flags', ctypes.c_bool * 3),
        ('bus', ctypes.c_uint8),
        ('format', ctypes.c_uint8),
    ]


class Config(ctypes.Structure):
    """The first fields of struct vm_config; `size` says that there are no more."""

    _fields_ = [
        ('size', ctypes.c_size_t),
        ('kernel', ctypes.c_char_p),
        ('initrd', ctypes.c_char_p),
        ('cmdline', ctypes.c_char_p),
        ('firmware', ctypes.c_char_p),
        ('boot', ctypes.c_char_p),
        ('disk', Disk * 4),
        ('cpu', ctypes.c_char_p),
        ('serial', ctypes.c_char_p),
        ('trace', ctypes.c_char_p),
        ('disable', ctypes.c_char_p),
        ('cache_dir', ctypes.c_char_p),
        ('memory', ctypes.c_uint64),
        ('code_cache', ctypes.c_uint64),
    ]


Probe = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
lib.vm_probe_add.argtypes = [ctypes.c_void_p, ctypes.c_char_p, Probe, ctypes.c_void_p, ctypes.c_void_p]
lib.vm_probe_get.argtypes = [ctypes.c_void_p, ctypes.c_uint]
lib.vm_probe_get.restype = ctypes.c_uint64
lib.vm_probe_set.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint32]
lib.vm_probe_hits.argtypes = [ctypes.c_void_p, ctypes.c_int]
lib.vm_probe_hits.restype = ctypes.c_uint64
lib.vm_write_physical.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64]

error = Error()
vm = ctypes.c_void_p()
EAX, ECX, EBX = (lib.vm_probe_value(name) for name in (b'eax', b'ecx', b'ebx'))


def check(result):
    if result < 0:
        sys.exit(error.text.decode() or f'error {-result}')
    return result


def on_inc(machine, _):
    print(f'inc: eax {lib.vm_probe_get(machine, EAX)} ecx {lib.vm_probe_get(machine, ECX)}')
    if lib.vm_probe_get(machine, ECX) == 3:
        return SKIP
    if lib.vm_probe_get(machine, ECX) == 1:
        lib.vm_probe_set(machine, EAX, 100)
    return GO


functions = [Probe(on_inc), Probe(lambda machine, _: STOP)]  # which have to live as long as the probes
config = Config(size=ctypes.sizeof(Config), firmware=b'none', memory=16 << 20)
check(lib.vm_create(ctypes.byref(vm), ctypes.byref(config), ctypes.byref(error)))
registers = (ctypes.c_uint32 * 256)()  # struct vm_registers, seen as words
check(lib.vm_get_registers(vm, registers))
registers[8] = CODE  # eip
registers[14] = 0  # cs.selector
registers[15] = 0  # cs.base: real mode
check(lib.vm_set_registers(vm, registers, ctypes.byref(error)))
lib.vm_write_physical(vm, CODE, PROGRAM, len(PROGRAM))
check(lib.vm_probe_add(vm, b'insn=inc', functions[0], None, ctypes.byref(error)))
check(lib.vm_probe_add(vm, b'hlt', functions[1], None, ctypes.byref(error)))
adds = check(lib.vm_probe_add(vm, b'insn=add', Probe(), None, ctypes.byref(error)))
event = lib.vm_run(vm, ctypes.byref(error))
check(lib.vm_get_registers(vm, registers))
print(f'eax {registers[0]} ebx {registers[3]}, {lib.vm_probe_hits(vm, adds)} additions')
lib.vm_free(vm)
# 1 2 2 3 101
sys.exit(0 if event == EXIT_PROBE and registers[0] == 101 and registers[3] == 109 else 1)
