#!/bin/sh
# Fetches what the benchmark's Debian programs need: packages of Debian 12 with all that they depend on, unpacked into
# one root directory, and the sources that are built there. `network` is another such directory, with iperf3 and a tar
# ball of the kernel's headers (bench/around.py).
#
# The root is packed into a guest's initramfs, and entered by chroot on the host. Nothing is configured in it (no script
# of a package runs), and what no measurement uses is left out, for the guest holds it in memory: documentation,
# translations, link-time optimisation, sanitizers.
# Everything lands in ${TRANSVISOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/transvisor}/packages-ARCHITECTURE,
# network-ARCHITECTURE or load-ARCHITECTURE (what loads a web server: bench/load.py); a second run finds it there and
# touches no network. Prints PACKAGES_I386=, PACKAGES_AMD64=, NETWORK_I386=, NETWORK_AMD64= or LOAD_AMD64=, the
# directory.
# Usage: fetch.sh [--refresh] [packages|network|load] [i386|amd64]        (default: packages i386)
set -eu

packages="busybox-static dash coreutils openssl 7zip sysbench sqlite3 gcc make libc6-dev"
sources="lua5.4 tree"
cache=${TRANSVISOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/transvisor}
refresh=no
set=packages
arch=i386

die() { echo "fetch.sh: $*" >&2; exit 1; }

for arg in "$@"; do
    case $arg in
    --refresh) refresh=yes ;;
    packages | network | load) set=$arg ;;
    i386 | amd64) arch=$arg ;;
    *) echo "usage: fetch.sh [--refresh] [packages|network|load] [i386|amd64]" >&2; exit 2 ;;
    esac
done
for tool in apt-get dpkg-deb tar; do
    command -v $tool >/dev/null || die "needs $tool (a Debian or Ubuntu system)"
done
mkdir -p "$cache" || die "cannot create $cache"
cache=$(cd "$cache" && pwd)
. "$(dirname "$0")/../tests/guests/apt.sh"
new=$cache/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM

fetch_packages() {
    mkdir -p "$new/archives/partial"
    # The private state knows of no installed package, so this is the whole closure.
    apt-get -q -y install --download-only --no-install-recommends -o Dir::Cache::archives="$new/archives/" \
        $packages >&2 ||
        die "cannot download $packages ($arch) from $mirror"
    for deb in "$new"/archives/*.deb; do
        dpkg-deb -x "$deb" "$new/root" || die "cannot unpack $deb"
    done
}

# Source packages are in an index of their own. A tar ball becomes usr/lib/bench/NAME.tar, unpacked by the measurement.
fetch_sources() {
    mkdir -p "$new/src" "$new/lists/partial" "$new/root/usr/lib/bench"
    sed 's/^deb /deb-src /' "$apt/etc/sources.list" > "$new/sources.list"
    set -- -q -o Dir::Etc::SourceList="$new/sources.list" -o Dir::State::Lists="$new/lists"
    apt-get "$@" update >"$new/update.log" 2>&1 || true           # one index may fail; the download is the check
    (cd "$new/src" && apt-get "$@" source --download-only --only-source $sources >&2) ||
        die "cannot download the sources of $sources from $mirror"
    for name in $sources; do
        gunzip -c "$new/src/$name"_*.orig.tar.gz > "$new/root/usr/lib/bench/$name.tar" || die "no tar ball of $name"
    done
}

# The headers that all flavours of the newest kernel have in common.
fetch_headers() {
    name=$(apt-cache pkgnames linux-headers-6.1.0- | grep -E '^linux-headers-6\.1\.0-[0-9]+-common$' | sort -V |
        tail -n 1)
    mkdir -p "$new/headers" "$new/root/usr/lib/bench"
    (cd "$new/headers" && apt-get -q download "$name" >&2) || die "cannot download $name from $mirror"
    dpkg-deb --fsys-tarfile "$new"/headers/*.deb > "$new/root/usr/lib/bench/headers.tar" || die "cannot unpack $name"
}

leave_out() {
    (
        cd "$new/root"
        rm -rf usr/share var usr/lib/*/gconv usr/lib/gcc/*/*/lto1 usr/bin/*lto-dump* usr/bin/*gold \
            usr/bin/*dwp usr/bin/*gp-*
        rm -rf usr/lib/gcc/*/*/lib*san* usr/lib/*/lib*san.so* usr/lib/*/libgprofng*
        mkdir -p dev proc sys tmp
    )
}

case $set in
packages) last=lib/bench/tree.tar ;;
network)
    packages="busybox-static iperf3"
    last=lib/bench/headers.tar
    ;;
load)
    packages="apache2-utils"
    last=bin/ab
    ;;
esac
target=$cache/$set-$arch
if [ $refresh = yes ] || [ ! -e "$target/usr/$last" ]; then
    mkdir -p "$new/root"
    apt_setup $arch
    echo "fetch.sh: fetching $packages for $arch, and what they depend on" >&2
    fetch_packages
    case $set in packages) fetch_sources ;; network) fetch_headers ;; esac
    leave_out
    rm -rf "$target" && mv "$new/root" "$target"
fi
echo "$(echo "${set}_$arch" | tr a-z A-Z)='$target'"
