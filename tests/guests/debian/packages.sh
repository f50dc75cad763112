#!/bin/sh
# Downloads what an installed Debian 12 i386 is made of: everything of priority required and important, a kernel, GRUB
# for a PC. Prints the folder that holds the packages. A second run finds them there, and touches no network
# (--refresh asks the archive again).
# Usage: packages.sh [--refresh]
set -eu

cache=${TRANSVISOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/transvisor}
folder=$cache/debian-i386
die() { echo "packages.sh: $*" >&2; exit 1; }

[ "${1:-}" != --refresh ] || rm -rf "$folder"
if [ ! -e "$folder/complete" ]; then
    mkdir -p "$folder/archives/partial" || die "cannot create $folder"
    . "$(dirname "$0")/../apt.sh"
    apt_setup i386
    basic=$(apt-cache dumpavail | awk '/^Package: /{p=$2} /^Priority: (required|important)$/{print p}' | sort -u)
    # shellcheck disable=SC2086
    apt-get -q -y install --download-only --no-install-recommends -o "Dir::Cache::archives=$folder/archives" \
        $basic init dbus libpam-systemd linux-image-686-pae linux-image-686 grub-pc zstd busybox-static >&2 ||
        die "the packages cannot be downloaded from $mirror"
    # What has to run before dpkg can: it is unpacked by hand.
    apt-cache dumpavail | awk '/^Package: /{p=$2} /^Priority: required$/{print p}' | sort -u > "$folder/required"
    touch "$folder/complete"
fi
echo "$folder"
