#!/bin/busybox sh
# The workload of the script guest. Run by busybox in a guest and by the same version on the host: every SUM line must
# be the same, so nothing here may depend on time, pids, paths, memory or the number of processors.
# Usage: busybox sh selftest.sh SCRATCHDIR     (needs /proc, and an empty directory it may fill). Status 0: all passed.
cd "$1" || exit 1
record() { echo "SUM $1 $(sha256sum | cut -c1-64)"; }
fail() { echo "FAIL $1"; failed=1; }
failed=0

# --- Data: a deterministic stream that compresses a little.
awk 'BEGIN { x = 12345; for (i = 0; i < 6000; i++) { x = (x * 1103515245 + 12345) % 2147483648
    printf "%d %08x line%d\n", x % 1000, x, i } }' > data
record data < data

# --- Pipes, fork and exec: every stage is a process of its own.
sort -n data | uniq -w 3 | tail -n 100 | record sort-uniq
sort -k2 data | cut -d' ' -f2 | tr 0-9a-f f-za-f | rev | record sort-cut-tr-rev
sort -rn data | head -n 500 | sed 's/line\([0-9]*\)/\1-enil/; /7/d' | grep -v '^9' | wc | record sed-grep-wc
awk '{ n[$1 % 17] += $1 } END { for (i = 0; i < 17; i++) print i, n[i] }' data | record awk-sums
awk 'BEGIN { x = 1; for (i = 1; i < 400; i++) { x = x * 1.37 + 1 / i - x * x / 1e9
    printf "%.9f %.6e\n", x, x / i } }' |
    record awk-x87
od -A d -t x2 data | tail -n 200 | record od
echo '2^521 - 1; 355/113; sqrt(2)' | bc -l | record bc
n=0
i=0
while [ $i -lt 40 ]; do
    n=$((n + $(echo $i | (read v && expr "$v" \* 3))))
    i=$((i + 1))
done
echo $n | record forks

# --- Hashes.
for hash in md5sum sha1sum sha256sum sha512sum sha3sum crc32; do
    busybox $hash < data | cut -d' ' -f1 | record hash-$hash
done

# --- Compression, there and back; archives and directories.
for pair in gzip:gunzip bzip2:bunzip2; do
    ${pair%:*} -c < data > packed && ${pair#*:} -c < packed | cmp - data || fail "${pair%:*}"
    ${pair#*:} -c < packed | record "${pair%:*}"
done
mkdir tree
i=0
while [ $i -lt 12 ]; do
    mkdir -p tree/$((i % 3)) && sed -n "$((i * 500 + 1)),$((i * 500 + 500))p" data > tree/$((i % 3))/part$i
    i=$((i + 1))
done
ln -s 0/part0 tree/link
find tree | sort | record find
tar cf - tree | (mkdir copy && cd copy && tar xf -) || fail tar
diff -r tree copy/tree || fail diff
find copy -type f | sort | xargs cat | record tar
rm -r tree copy

# --- Signals: own handlers; a child's handler; stop and continue; death by signal.
signals=
trap 'signals="$signals usr1"' USR1
trap 'signals="$signals usr2"' USR2
kill -USR1 $$
kill -USR2 $$
kill -USR1 $$
trap - USR1 USR2
echo "$signals" | record signals-own

mkfifo ready
sh -c 'trap "echo handled; exit 7" TERM; echo > ready; while :; do sleep 0.1; done' > child.out &
child=$!
read -r _ < ready
kill -TERM $child
wait $child
echo "$? $(cat child.out)" | record signals-child

sh -c 'echo > ready; while :; do sleep 0.1; done' &
child=$!
read -r _ < ready
kill -STOP $child
i=0
until [ "$(cut -d' ' -f3 /proc/$child/stat)" = T ]; do
    sleep 0.1
    i=$((i + 1))
    [ $i -lt 100 ] || { fail stop; break; }
done
kill -CONT $child
kill -KILL $child
wait $child 2>/dev/null
echo $? | record signals-kill
(sh -c 'kill -SEGV $$') 2>/dev/null
echo $? | record signals-segv
yes | head -n 1000 | wc -l | record sigpipe

# --- Twenty processes at once, each with a pipeline of its own.
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    (
        awk -v x=$i 'BEGIN { for (j = 0; j < 2000; j++) { x = (x * 16807) % 2147483647; print x } }' |
            sort -n | gzip -c | gunzip -c | sha256sum > out.$i
    ) &
done
wait
cat out.1 out.2 out.3 out.4 out.5 out.6 out.7 out.8 out.9 out.10 out.11 out.12 out.13 out.14 out.15 out.16 out.17 \
    out.18 out.19 out.20 | record twenty

rm -f data packed ready child.out out.*
exit $failed
