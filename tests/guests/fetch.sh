#!/bin/sh
# Fetches the whole-guest tests' images: Debian 12's i386 kernels and static busybox, as Debian ships them; and, when
# asked for by name, the amd64 kernel and busybox that the nested host (tests/nested/run.py) boots.
# busybox-host is what gives this host's own results, to be compared with a guest's: busybox where the host runs i386
# programs, else busybox-amd64, in the same version.
#
# Works in a private apt state for each architecture, so that neither root nor a change of the system's architecture
# list is needed.
# Everything lands in ${TRANSVISOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/transvisor}; a second run finds it there
# and touches no network (--refresh asks the archive again). One index of the archive may fail to refresh, so the
# update is best effort and the download is the check.
# Prints, and writes to paths.env there: KERNEL_686, KERNEL_686_PAE, KERNEL_RT_686_PAE, BUSYBOX, BUSYBOX_HOST,
# KERNEL_AMD64, BUSYBOX_AMD64, MODULES_686, MODULES_AMD64, SELFTESTS, SYMBOLS_686, QEMU_SOURCE.
# SELFTESTS: the sources of Linux's own tests of x86, as they stand in the kernel's tree (tests/guests/selftests.py).
# modules-686 is a tree with those modules of the 686 kernel that the guests of net.py, devices.py and sound.py
# load, in /lib/m; modules-amd64 one with KVM's of the amd64 kernel (tests/nested/suite.py).
# SYMBOLS_686: the 686 kernel with its debug symbols, from a package of 760 MB (tests/guests/debugger.py).
# QEMU_SOURCE: of QEMU's sources, its QMP client in Python (tests/gdb/qmp_client.py) and its plugin execlog with the
# header of plugins (bench/instruments.py).
# Usage: fetch.sh [--refresh] [NAME ...], of 686 686-pae rt-686-pae busybox busybox-host (the default), amd64,
# busybox-amd64, modules-686, modules-amd64, selftests, symbols-686, qemu-source
set -eu

cache=${TRANSVISOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/transvisor}
refresh=no

die() { echo "fetch.sh: $*" >&2; exit 1; }

wanted=
for arg in "$@"; do
    case $arg in
    --refresh) refresh=yes ;;
    686|686-pae|rt-686-pae|busybox|amd64|busybox-amd64) wanted="$wanted $arg" ;;
    modules-686|modules-amd64|selftests|symbols-686|qemu-source) wanted="$wanted $arg" ;;
    busybox-host) wanted="$wanted busybox $arg" ;; # whose version it must have
    *) echo "usage: fetch.sh [--refresh] [686|686-pae|rt-686-pae|busybox|busybox-host|amd64|busybox-amd64|" >&2
       echo "                             modules-686|modules-amd64|selftests|symbols-686|qemu-source ...]" >&2
       exit 2 ;;
    esac
done
[ -n "$wanted" ] || wanted="686 686-pae rt-686-pae busybox busybox-host"

for tool in apt-get apt-cache dpkg-deb; do
    command -v $tool >/dev/null || die "needs $tool (a Debian or Ubuntu system)"
done
mkdir -p "$cache" || die "cannot create $cache"
cache=$(cd "$cache" && pwd)
. "$(dirname "$0")/apt.sh"
new=$cache/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM

# Modules that the guests of net.py, devices.py and bench/run.py load: network cards, shared folders, small virtio
# devices, USB, disks.
modules="mii pcnet32 e1000 8139too 8139cp 8390 8390p ne2k-pci ne virtio virtio_ring virtio_pci_modern_dev
    virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net
    fscache netfs 9pnet 9pnet_virtio 9p virtio-rng virtio_console virtio_balloon
    usb-common usbcore uhci-hcd hid hid-generic usbhid evdev usb-storage scsi_common scsi_mod sd_mod
    virtio_blk libata ata_piix crct10dif_common crc-t10dif crc64 crc64-rocksoft t10-pi
    soundcore snd snd-timer snd-pcm snd-seq-device snd-rawmidi snd-hwdep ac97_bus snd-ac97-codec snd-intel8x0 gameport
    snd-ens1370 snd-opl3-lib snd-mpu401-uart snd-sb-common snd-sb16-dsp snd-sb16-csp snd-sb16 pcspkr"

runs() { [ "$("$1" echo yes 2>/dev/null)" = yes ]; }
# Without a rebuild's number (+b1), which each architecture has its own.
busybox_version() { grep -aom1 'BusyBox v[0-9.]* (Debian [^)]*)' "$1" | sed 's/+b[0-9]*)$/)/'; }

# The file that name $1 stands for, if it has been fetched: the newest version where there are several.
found() {
    case $1 in
    busybox-host)
        i386=$(found busybox)
        amd64=$(found busybox-amd64)
        if [ -z "$i386" ]; then return 0; fi
        if runs "$i386"; then echo "$i386"
        elif [ -n "$amd64" ] && [ "$(busybox_version "$amd64")" = "$(busybox_version "$i386")" ]; then echo "$amd64"
        fi
        ;;
    modules-686) # of the kernel that is there
        kernel=$(found 686)
        tree=$cache/$1/${kernel##*/vmlinuz-}
        for module in $modules; do
            if [ -z "$kernel" ] || [ ! -f "$tree/lib/m/$module.ko" ]; then return 0; fi
        done
        echo "$tree"
        ;;
    modules-amd64)
        kernel=$(found amd64)
        if [ -n "$kernel" ] && [ -d "$cache/$1/${kernel##*/vmlinuz-}" ]; then echo "$cache/$1/${kernel##*/vmlinuz-}"; fi
        ;;
    selftests | qemu-source) if [ -d "$cache/$1" ]; then echo "$cache/$1"; fi ;;
    symbols-686)
        kernel=$(found 686)
        [ -z "$kernel" ] || ls "$cache/$1/vmlinux-${kernel##*/vmlinuz-}" 2>/dev/null || true
        ;;
    busybox*) ls "$cache/$1"/bin/busybox 2>/dev/null || true ;;
    *) ls "$cache/kernel-$1"/boot/vmlinuz-6.1.0-*-"$1" 2>/dev/null | sort -V | tail -n 1 ;;
    esac
}

# Downloads package $1 of architecture $3 and unpacks it into $cache/$2, which appears complete or not at all.
fetch_package() {
    apt_setup "$3"
    rm -rf "$new" && mkdir "$new"
    echo "fetch.sh: fetching $1" >&2
    (cd "$new" && apt-get -q download "$1" >&2) || die "cannot download $1:$3 from $mirror"
    deb=$(ls "$new"/*.deb 2>/dev/null | head -n 1)
    [ -n "$deb" ] || die "the download of $1 left no package behind"
    mkdir "$new/root"
    dpkg-deb -x "$deb" "$new/root" || die "cannot unpack $deb"
    # A kernel package is mostly modules, which the tests do not use.
    rm -rf "$new/root/lib/modules" "$new/root/usr/share"
    rm -rf "${cache:?}/$2" && mv "$new/root" "$cache/$2"
    rm -rf "$new"
}

# Into $cache/$1, of the package of kernel version $2, the modules that the rest names; as fetch_package puts things
# into place.
kvm_modules="irqbypass kvm rng-core ccp kvm-amd"
fetch_modules() {
    into=$1 version=$2
    shift 2
    rm -rf "$new" && mkdir -p "$new/tree/$version/lib/m"
    echo "fetch.sh: fetching the modules of linux-image-$version" >&2
    (cd "$new" && apt-get -q download "linux-image-$version" >&2) ||
        die "cannot download linux-image-$version from $mirror"
    dpkg-deb -x "$new"/*.deb "$new/root" || die "cannot unpack linux-image-$version"
    for module in "$@"; do
        find "$new/root/lib/modules" -name "$module.ko" -exec cp {} "$new/tree/$version/lib/m/" \;
    done
    rm -rf "${cache:?}/$into" && mv "$new/tree" "$cache/$into"
    rm -rf "$new"
}

# Of the kernel's sources, the tests of x86 and the one header of the kernel's own that they include.
fetch_selftests() {
    apt_setup i386
    rm -rf "$new" && mkdir -p "$new/tree"
    echo "fetch.sh: fetching linux-source-6.1" >&2
    (cd "$new" && apt-get -q download linux-source-6.1 >&2) || die "cannot download linux-source-6.1 from $mirror"
    dpkg-deb --fsys-tarfile "$new"/*.deb | tar -xO ./usr/src/linux-source-6.1.tar.xz |
        tar -xJ -C "$new/tree" --strip-components 1 --wildcards '*/tools/testing/selftests/kselftest*.h' \
            '*/tools/testing/selftests/x86/*' '*/arch/x86/include/asm/desc_defs.h' ||
            die "cannot unpack linux-source-6.1"
    rm -rf "${cache:?}/selftests" && mv "$new/tree" "$cache/selftests"
    rm -rf "$new"
}

# Source packages are in an index of their own.
fetch_qemu_source() {
    apt_setup amd64
    rm -rf "$new" && mkdir -p "$new/tree" "$new/lists/partial"
    echo "fetch.sh: fetching the source package qemu" >&2
    sed 's/^deb /deb-src /' "$apt/etc/sources.list" > "$new/sources.list"
    set -- -q -o Dir::Etc::SourceList="$new/sources.list" -o Dir::State::Lists="$new/lists"
    apt-get "$@" update >"$new/update.log" 2>&1 || true           # one index may fail; the download is the check
    (cd "$new" && apt-get "$@" source --download-only --only-source --tar-only qemu >&2) ||
        die "cannot download the sources of qemu from $mirror"
    tar -xf "$new"/qemu_*.orig.tar.* -C "$new/tree" --strip-components 1 --wildcards '*/python/qemu/qmp/*' \
        '*/contrib/plugins/execlog.c' '*/include/qemu/qemu-plugin.h' || die "cannot unpack the sources of qemu"
    rm -rf "${cache:?}/qemu-source" && mv "$new/tree" "$cache/qemu-source"
    rm -rf "$new"
}

# The kernel of version $1 as it was linked.
fetch_symbols() {
    apt_setup i386
    rm -rf "$new" && mkdir -p "$new/tree"
    echo "fetch.sh: fetching linux-image-$1-dbg" >&2
    (cd "$new" && apt-get -q download "linux-image-$1-dbg" >&2) || die "cannot download linux-image-$1-dbg from $mirror"
    dpkg-deb --fsys-tarfile "$new"/*.deb | tar -x -C "$new/tree" --strip-components 5 ./usr/lib/debug/boot/ ||
        die "cannot unpack linux-image-$1-dbg"
    rm -rf "${cache:?}/symbols-686" && mv "$new/tree" "$cache/symbols-686"
    rm -rf "$new"
}

# The newest kernel package of flavour $1. Signed and unsigned builds hold the same kernel; plain names are signed.
newest_kernel() {
    apt-cache pkgnames linux-image-6.1.0- | grep -E "^linux-image-6\.1\.0-[0-9]+-$1\$" | sort -V | tail -n 1
}

for name in $wanted; do
    if [ $refresh = no ] && [ -n "$(found "$name")" ]; then continue; fi
    arch=i386
    case $name in *amd64) arch=amd64 ;; esac
    case $name in
    busybox-host) runs "$(found busybox)" || fetch_package busybox-static busybox-amd64 amd64 ;;
    busybox*) fetch_package busybox-static "$name" $arch ;;
    modules-686)
        kernel=$(found 686)
        [ -n "$kernel" ] || die "the modules are those of the 686 kernel: fetch that, too"
        apt_setup i386
        fetch_modules "$name" "${kernel##*/vmlinuz-}" $modules
        ;;
    modules-amd64)
        kernel=$(found amd64)
        [ -n "$kernel" ] || die "the modules are those of the amd64 kernel: fetch that, too"
        apt_setup amd64
        fetch_modules "$name" "${kernel##*/vmlinuz-}" $kvm_modules
        ;;
    selftests) fetch_selftests ;;
    qemu-source) fetch_qemu_source ;;
    symbols-686)
        kernel=$(found 686)
        [ -n "$kernel" ] || die "the symbols are those of the 686 kernel: fetch that, too"
        fetch_symbols "${kernel##*/vmlinuz-}"
        ;;
    *)
        apt_setup $arch
        package=$(newest_kernel "$name")
        [ -n "$package" ] || die "the $arch archive lists no linux-image-6.1.0-*-$name"
        fetch_package "$package" "kernel-$name" $arch
        ;;
    esac
    [ -n "$(found "$name")" ] || die "the package for $name does not hold the file it should, in the version it should"
done

# Written anew each time, from what is there, and put in place in one step: several tests may run this at once.
paths=$cache/paths.env.$$
: > "$paths"
for pair in KERNEL_686=686 KERNEL_686_PAE=686-pae KERNEL_RT_686_PAE=rt-686-pae BUSYBOX=busybox \
            BUSYBOX_HOST=busybox-host \
            KERNEL_AMD64=amd64 BUSYBOX_AMD64=busybox-amd64 MODULES_686=modules-686 MODULES_AMD64=modules-amd64 \
            SELFTESTS=selftests SYMBOLS_686=symbols-686 QEMU_SOURCE=qemu-source; do
    file=$(found "${pair#*=}")
    [ -z "$file" ] || echo "${pair%%=*}='$file'" >> "$paths"
done
mv "$paths" "$cache/paths.env"
cat "$cache/paths.env"
