#!/bin/sh
# One measurement made of Debian's own programs, named by the argument: prints `BENCH name value unit`.
# Run in a root that bench/fetch.sh made, by the guest or by the host (chroot); uses /tmp, a tmpfs on both.
# A program's own figure is taken where it works for a fixed time (openssl, 7-Zip), else the time of a fixed work.
set -eu
here=${0%/*}
name=$1
cd /tmp

# OpenSSL chooses its code by CPUID; this names what all sides have (up to SSSE3), so that all run the same code.
export OPENSSL_ia32cap=0x0000020107808111:0

start() { echo "BENCH-START $name"; }                    # for those whose own comes too late, from a file

# inverse PREFIX UNIT SCALE [SEPARATOR [FIELD]]: of the line that begins so, SCALE over a field (the last), as the
# measurement.
inverse() {
    busybox awk -F"${4:- }" -v name="$name" -v prefix="$1" -v unit="$2" -v scale="$3" -v field="${5:-0}" '
        index($0, prefix) == 1 { printf "BENCH %s %.4f %s\n", name, scale / (field ? $field : $NF), unit; found = 1 }
        END { exit !found }'
}

case $name in
openssl_sha256 | openssl_aes128)                         # ns for a KiB; the report says bytes a second
    case $name in *sha256) cipher=sha256 ;; *) cipher=aes-128-cbc ;; esac
    start
    openssl speed -elapsed -seconds 2 -bytes 8192 -mr -evp $cipher 2>openssl.log | inverse +F: ns 1024e9 : 4
    ;;
openssl_rsa2048)                                         # us for a signature
    start
    openssl speed -elapsed -seconds 2 -mr rsa2048 2>openssl.log | inverse +F2: us 1e6 : 4
    ;;
# ns for one of what 7-Zip counts as instructions, LZMA both ways
sevenzip)                                              
    start
    7zz b 1 -mmt=1 -md=18 -mtime=1 | inverse Tot: ns 1000
    ;;
sysbench_cpu)
    start
    bench --time "$name" sysbench cpu --threads=1 --time=0 --events=1500 --cpu-max-prime=10000 run > sysbench.log
    busybox grep '^BENCH ' sysbench.log
    ;;
sqlite)                                                  # its last line holds sums over all that the script did
    start
    bench --time "$name" sqlite3 -batch :memory: ".read $here/sqlite.sql" > sqlite.out
    busybox grep -q '^51407|128460633|ITEM-00003039|item-7ffda34a$' sqlite.out
    busybox grep '^BENCH ' sqlite.out
    ;;
# A thousand short commands, each a process: Debian's dash and coreutils (shared libraries), or one static busybox.
shell_loop) bench --time "$name" dash "$here/shell_loop.sh" "" ;;
shell_loop_static) bench --time "$name" /bin/busybox sh "$here/shell_loop.sh" /bin/busybox ;;
# Builds, as their makefiles say (lua's with less optimisation, to be done in time): make, gcc, as, ld and the shells
# between.
# Unpacking is not timed.
gcc_build)
    rm -rf tree && mkdir tree && tar xf /usr/lib/bench/tree.tar -C tree --strip-components=1
    bench --time "$name" make -s -C tree 2>make.log
    tree/tree --version >version.log
    ;;
lua_build)
    rm -rf lua && mkdir lua && tar xf /usr/lib/bench/lua5.4.tar -C lua --strip-components=1
    bench --time "$name" make -s -C lua linux MYCFLAGS=-O1 2>make.log
    [ "$(echo 'print(6 * 7)' | lua/src/lua -)" = 42 ]
    ;;
*) echo "packages.sh: no measurement is called '$name'" >&2; exit 2 ;;
esac
