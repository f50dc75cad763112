#!/bin/sh
# Installs what a build (and, with --tests, a test run) needs, if something is missing and we may: as root or by sudo.
# Usage: deps.sh [--tests]
set -eu

missing=
need() { # need PACKAGE TEST...: PACKAGE, unless TEST succeeds
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
compiles() { echo "#include <$1>" | cc -x c -fsyntax-only -; }
has32() { t=$(mktemp) && echo 'int main(void) { return 0; }' | cc -m32 -x c -o "$t" - && rm -f "$t"; }

need gcc command -v cc
need libc6-dev compiles stdio.h
need cmake command -v cmake
need make command -v make
need pkg-config command -v pkg-config
need libcapstone-dev pkg-config --exists capstone
need libxxhash-dev pkg-config --exists libxxhash
need liblz4-dev pkg-config --exists liblz4
need libpng-dev pkg-config --exists libpng
need zlib1g-dev pkg-config --exists zlib
need libjansson-dev pkg-config --exists jansson
need libffi-dev pkg-config --exists libffi
need libseccomp-dev pkg-config --exists libseccomp
need libslirp-dev compiles slirp/libslirp.h
need libvncserver-dev compiles rfb/rfb.h
need libnbd-dev compiles libnbd.h
need libsamplerate0-dev pkg-config --exists samplerate
need libpulse-dev compiles pulse/simple.h
need libasound2-dev compiles alsa/asoundlib.h
need libsdl2-dev compiles SDL2/SDL.h
need seabios test -e /usr/share/seabios/bios-256k.bin
need cpio command -v cpio
need python3 command -v python3
# The test directory is part of every build's configuration.
need check pkg-config --exists check
need gcc-multilib has32
# Every build is made with clang too.
[ "${1:-}" != --tests ] || need clang command -v clang
[ "${1:-}" != --tests ] || need gdb command -v gdb
[ "${1:-}" != --tests ] || need clang-format-14 command -v clang-format
# QEMU makes a host of the other kind (tests/nested).
[ "${1:-}" != --tests ] || need qemu-system-x86 command -v qemu-system-x86_64
# Guests that boot from disks and CDs (tests/guests/firmware.py).
[ "${1:-}" != --tests ] || need grub-rescue-pc test -e /usr/lib/grub-rescue/grub-rescue-cdrom.iso
[ "${1:-}" != --tests ] || need ipxe-qemu test -e /usr/lib/ipxe/qemu/pxe-e1000.rom
[ "${1:-}" != --tests ] || need isolinux test -e /usr/lib/ISOLINUX/isolinux.bin
[ "${1:-}" != --tests ] || need syslinux command -v syslinux
[ "${1:-}" != --tests ] || need syslinux-common test -e /usr/lib/syslinux/modules/bios/ldlinux.c32
# An installed Debian (tests/guests/debian).
[ "${1:-}" != --tests ] || need e2fsprogs test -e /sbin/mke2fs
[ "${1:-}" != --tests ] || need mtools command -v mformat
[ "${1:-}" != --tests ] || need xorriso command -v xorriso
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps.sh: missing:$missing; install them as root: apt-get install$missing" >&2
        exit 1
    fi
    root=sudo
fi
echo "deps.sh: installing$missing" >&2
$root apt-get -q update >&2 || echo "deps.sh: apt-get update was not wholly successful; going on" >&2
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $root apt-get -q -y install --no-install-recommends $missing >&2
