#!/bin/sh
# One measurement made of Debian's own programs, named by the argument: prints `BENCH name value unit`.
# Run in a root that bench/fetch.sh made, by the guest or by the host (chroot); uses /tmp, a tmpfs on both.
# A program's own figure is taken where it works for a fixed time (openssl, 7-Zip), else the time of a fixed work.
set -eu
cd /tmp

# OpenSSL chooses its code by CPUID; this names what all sides have (up to SSSE3), so that all run the same code.
export OPENSSL_ia32cap=0x0000020107808111:0

start() { echo "BENCH-START $1"; }

openssl_sha256() { openssl_throughput sha256; }
openssl_aes128() { openssl_throughput aes-128-cbc; }
openssl_throughput() {
    start "$name"
    openssl speed -elapsed -seconds 2 -bytes 8192 -mr -evp "$1" 2>/dev/null |
        busybox awk -F: -v name="$name" '/^\+F:/ { printf "BENCH %s %.3f ns\n", name, 1024e9 / $4; ok = 1 } END { exit !ok }'
}

openssl_rsa2048() {                                      # a signature
    start "$name"
    openssl speed -elapsed -seconds 2 -mr rsa2048 2>/dev/null |
        busybox awk -F: -v name="$name" '/^\+F2:/ { printf "BENCH %s %.3f us\n", name, 1e6 / $4; ok = 1 } END { exit !ok }'
}

sevenzip() {                                             # of 7-Zip's MIPS, the time of an instruction: LZMA both ways
    start "$name"
    7zz b 1 -mmt=1 -md=18 -mtime=1 |
        busybox awk -v name="$name" '/^Tot:/ { printf "BENCH %s %.4f ns\n", name, 1000 / $NF; ok = 1 } END { exit !ok }'
}

sysbench_cpu() {
    bench --time "$name" sysbench cpu --threads=1 --time=0 --events=3000 --cpu-max-prime=10000 run | grep_bench
}

sqlite() {
    bench --time "$name" sqlite3 -batch :memory: ".read /usr/lib/bench/sqlite.sql" > sqlite.out
    # Sums over all that the script left: a wrong answer is no measurement.
    busybox tail -n 3 sqlite.out
    grep_bench < sqlite.out
}

# The tar ball is unpacked before the clock starts; the work is make, gcc, as, ld, ar and the shells between them.
lua_build() {
    rm -rf lua && mkdir lua && tar xf /usr/lib/bench/lua.tar -C lua --strip-components=1
    bench --time "$name" make -s -C lua linux MYCFLAGS=-O1 2>make.log
    [ "$(echo 'print(6 * 7)' | lua/src/lua -)" = 42 ]
}

# A thousand short commands, each a process: Debian's dash and coreutils (shared libraries), or one static busybox.
shell_loop() { bench --time "$name" dash /usr/lib/bench/shell_loop.sh ""; }
shell_loop_static() { bench --time "$name" /bin/busybox sh /usr/lib/bench/shell_loop.sh /bin/busybox; }

grep_bench() { busybox grep '^BENCH'; }

name=$1
"$name"
