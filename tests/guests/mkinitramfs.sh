#!/bin/sh
# Packs Debian's static i386 busybox and one of the inits of tests/guests/init/ into an initramfs.
#
#   shell   busybox init, a root shell on ttyS0; `poweroff` works
#   boot    prints a marker and powers off: how long a boot takes
#   script  runs tests/guests/init/selftest.sh and reports dmesg: compared with the same run on the host
#   net     drives the network cards whose modules are in the tree's /lib/m (tests/guests/net.py)
#   wire    has traffic with another such guest (likewise; --add its wire)
#   selftests  runs the programs of the tree's /selftests (tests/guests/selftests.py)
#   sound   plays tones by the sound cards whose modules are in the tree's /lib/m (tests/guests/sound.py)
#   bench   runs the measurements that /bin/plan names (bench/run.py): give it and its programs with --add
#   around  measures networks and a shared folder (bench/around.py)
#
# Nothing of it is run, for not every host runs i386 programs: the guest links the applets itself (busybox --install).
# Needs no root: /dev/console comes from the initramfs that every kernel has built in.
# --tree is a directory to start from, with programs of its own; --add puts an executable file into /bin.
# Usage: mkinitramfs.sh [--compress none|gzip] [--busybox FILE] [--tree DIRECTORY] [--add FILE]... VARIANT OUTPUT
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${TRANSVISOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/transvisor}
compress=none
busybox=

die() { echo "mkinitramfs.sh: $*" >&2; exit 1; }
usage() {
    echo "usage: mkinitramfs.sh [--compress none|gzip] [--busybox FILE] [--tree DIRECTORY] [--add FILE]..." \
         "shell|boot|script|net|wire|sound|selftests|bench|around OUTPUT" >&2
    exit 2
}

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM
root=$stage/root
mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/proc" "$root/sys" "$root/tmp" "$root/root"

while [ $# -gt 2 ]; do
    case $1 in
    --compress) compress=$2 ;;
    --busybox) busybox=$2 ;;
    --tree) cp -a "$2/." "$root/" || die "cannot copy $2" ;;
    --add) install -m 755 "$2" "$root/bin/" || die "cannot add $2" ;;
    *) usage ;;
    esac
    shift 2
done
[ $# -eq 2 ] || usage
variant=$1
output=$2
[ -f "$here/init/$variant" ] || usage
case $compress in none | gzip) ;; *) usage ;; esac

if [ -z "$busybox" ]; then
    [ -r "$cache/paths.env" ] || die "no busybox: run tests/guests/fetch.sh first"
    . "$cache/paths.env"
    busybox=${BUSYBOX:-}
fi
[ -r "$busybox" ] || die "no such file: '$busybox'"
command -v cpio >/dev/null || die "needs cpio (scripts/deps.sh installs it)"

install -m 755 "$busybox" "$root/bin/busybox"
[ -e "$root/sbin" ] || ln -s bin "$root/sbin"
echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"

case $variant in
shell)
    ln -s bin/busybox "$root/init"           # started as /init, busybox is init
    install -m 755 "$here/init/shell" "$root/etc/rc"
    install -m 644 "$here/init/inittab" "$root/etc/inittab"
    ;;
script)
    install -m 755 "$here/init/script" "$root/init"
    install -m 755 "$here/init/selftest.sh" "$root/bin/selftest.sh"
    ;;
net | around | wire)
    install -m 755 "$here/init/$variant" "$root/init"
    install -m 755 "$here/init/lease" "$root/bin/lease"
    ;;
*)
    install -m 755 "$here/init/$variant" "$root/init"
    ;;
esac

# Sorted, owned by root: the same input gives the same archive, file times excepted.
(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 2>"$stage/log") > "$stage/cpio" ||
    die "packing failed: $(cat "$stage/log")"
case $compress in
none) mv "$stage/cpio" "$output" ;;
gzip) gzip -9n < "$stage/cpio" > "$output" ;;
esac
