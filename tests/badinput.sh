#!/bin/sh
# Bad input: each gets exactly one line on standard error that names the thing, the right exit status, no crash, and
# leaves
# nothing behind.
# Usage: badinput.sh TRANSVISOR
set -u

program=$1
dir=$(mktemp -d)
trap 'chmod -R u+rwx "$dir"; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cases=0
failures=0

# expect STATUS WORDS COMMAND...: WORDS is a regular expression that the one line must match.
expect() {
    status=$1
    words=$2
    shift 2
    cases=$((cases + 1))
    timeout 60 "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    lines=$(wc -l <"$dir/err")
    if [ $got -ne "$status" ] || [ "$lines" -ne 1 ] || ! grep -Eq -- "$words" "$dir/err" || [ -s "$dir/out" ]; then
        failures=$((failures + 1))
        echo "FAIL: $*"
        echo "  wanted status $status and one line like: $words"
        echo "  got status $got, $lines lines, and on standard output $(wc -c <"$dir/out") bytes:"
        sed 's/^/  | /' "$dir/err"
    fi
}
run() { status=$1; words=$2; shift 2; expect "$status" "$words" "$program" run "$@"; }

# bytes OFFSET OCTAL... >FILE: overwrites bytes of the file that is standard output, opened for writing without
# truncation
poke() {
    file=$1; offset=$2; shift 2
    printf "$(printf '\\%s' "$@")" | dd of="$file" bs=1 seek="$offset" conv=notrunc 2>/dev/null
}

# A bzImage in form: protocol 2.15, three setup sectors and 64 KiB, whose code writes 10h to port F4h and halts.
make_linux() {
    head -c 67584 /dev/zero >"$1"
    poke "$1" 497 003                     # setup_sects
    poke "$1" 500 000 020 000 000         # syssize: 4096 paragraphs
    poke "$1" 510 125 252                 # boot_flag
    poke "$1" 512 353 152                 # jump over the header
    poke "$1" 514 110 144 162 123         # "HdrS"
    poke "$1" 518 017 002                 # version 2.15
    poke "$1" 529 001                     # loadflags: LOADED_HIGH
    poke "$1" 556 377 377 377 177         # initrd_addr_max
    poke "$1" 560 000 000 020 000         # kernel_alignment 1 MiB
    poke "$1" 564 001                     # relocatable
    poke "$1" 568 377 007 000 000         # cmdline_size 2047
    poke "$1" 600 000 000 020 000         # pref_address 1 MiB
    poke "$1" 608 000 000 020 000         # init_size 1 MiB
    poke "$1" 2048 260 020 346 364 372 364 353 375 # mov al,10h; out F4h,al; cli; hlt; jmp .-2
}
good=$dir/good
make_linux "$good"

# --- Usage.
expect 2 'no verb' "$program"
expect 2 "there is no verb 'fly'" "$program" fly
expect 2 'nothing to boot' "$program" run
expect 2 "unknown option '--nonsense'" "$program" run --nonsense
expect 2 "unexpected argument 'word'" "$program" run "$good" word
run 2 'kernel needs an argument' --kernel
run 2 "memory: '12X' is not a size" --kernel "$good" --memory 12X
run 2 "memory: '-5M' is not a size" --kernel "$good" --memory -5M
run 2 'memory: 0 is not within 16M to 3584M' --kernel "$good" --memory 0
run 2 'memory: 8M is not within 16M to 3584M' --kernel "$good" --memory 8M
run 2 'm: 3585M is not within 16M to 3584M' --kernel "$good" -m 3585M
run 2 'memory: 17179869183G is not within 16M to 3584M' --kernel "$good" --memory 17179869183G
run 2 'memory: .*multiple of 4 KiB' --kernel "$good" --memory 32769K
run 2 "cpu: there is no 'z80'" --kernel "$good" --cpu z80
run 2 "cpu: there is no ''" --kernel "$good" --cpu ''
run 2 "engine: 'jit' is not one of bt\|interp" --kernel "$good" --engine jit
run 2 "trace: there is no 'everything'" --kernel "$good" --trace everything
run 2 "trace: there is no ''" --kernel "$good" --trace exec,
run 2 "trace: '5..1' is not a range" --kernel "$good" --trace exec@5..1
run 2 "trace: '5' is not a range" --kernel "$good" --trace exec@5
run 2 "disable: there is no 'magic'" --kernel "$good" --disable int,magic
run 2 "serial: 'carrier-pigeon' is not one of" --kernel "$good" --serial carrier-pigeon
run 2 "debug-exit: '65536' is not a port" --kernel "$good" --debug-exit 65536
run 2 'debug-exit: port 0x3f8 belongs to another device' --kernel "$good" --serial null --debug-exit 0x3f8
run 2 "cache-size: '1Q' is not a size" --kernel "$good" --cache-size 1Q
run 2 'cache-size: 2G is not within 64K to 1G' --kernel "$good" --cache-size 2G

# --- Kernels.
variant() { make_linux "$dir/$1"; shift; }
run 1 "kernel $dir/missing: No such file" --kernel "$dir/missing"
run 1 "kernel $dir: is a directory" --kernel "$dir"
run 1 'kernel /dev/null: the file is empty' --kernel /dev/null
: >"$dir/empty"
run 1 "kernel $dir/empty: the file is empty" --kernel "$dir/empty"
for size in 1 511 514 540 700 2048 5000; do
    head -c $size "$good" >"$dir/cut"
    run 1 "kernel $dir/cut: truncated" --kernel "$dir/cut"
done
head -c 100000 /dev/urandom | tr '\200-\377' '\0-\177' >"$dir/noise"
run 1 "kernel $dir/noise: is neither a Linux bzImage nor a Multiboot kernel" --kernel "$dir/noise"
variant bits64; poke "$dir/bits64" 566 001
run 1 "kernel $dir/bits64: is a 64-bit kernel" --kernel "$dir/bits64"
variant old; poke "$dir/old" 518 011
run 1 "kernel $dir/old: boot protocol 2.09 is older than 2.10" --kernel "$dir/old"
variant zimage; poke "$dir/zimage" 529 000
run 1 "kernel $dir/zimage: is a zImage" --kernel "$dir/zimage"
variant greedy; poke "$dir/greedy" 611 020
run 1 "kernel $dir/greedy does not fit in memory: it needs 258 MiB" --kernel "$dir/greedy" --memory 256M
cp "$good" "$dir/large" && truncate -s 100M "$dir/large"
run 1 "kernel $dir/large does not fit in memory" --kernel "$dir/large" --memory 64M
cp "$good" "$dir/huge" && truncate -s 4G "$dir/huge"
run 1 "kernel $dir/huge: larger than the largest machine's memory" --kernel "$dir/huge"
printf '\177ELF\002\001\001' >"$dir/elf64" && head -c 1000 /dev/zero >>"$dir/elf64"
run 1 "kernel $dir/elf64: is a 64-bit ELF file" --kernel "$dir/elf64"
printf '\177ELF\001\001\001' >"$dir/elf32" && head -c 20 /dev/zero >>"$dir/elf32"
run 1 "kernel $dir/elf32: truncated: ends in the ELF header" --kernel "$dir/elf32"
run 1 'kernel .*/badinput: is a 64-bit ELF file|kernel .*: is a 64-bit ELF file' --kernel "$program"
cp "$good" "$dir/secret" && chmod 000 "$dir/secret"
if [ ! -r "$dir/secret" ]; then run 1 "kernel $dir/secret: Permission denied" --kernel "$dir/secret"; fi
run 1 'kernel .*new.line: No such file' --kernel "$dir/new
line"

# --- Initial RAM disks, command line.
run 1 "initrd $dir/missing: No such file" --kernel "$good" --initrd "$dir/missing"
run 1 "initrd $dir/empty: the file is empty" --kernel "$good" --initrd "$dir/empty"
run 1 "initrd $dir/missing: No such file" --kernel "$good" --initrd "$good,$dir/missing"
truncate -s 63M "$dir/initrd"
run 1 "initrd $dir/initrd: 66060288 bytes do not fit in memory beside the kernel" \
    --kernel "$good" --initrd "$dir/initrd" --memory 64M
run 2 'append: 3000 characters; kernel .* takes at most 2047' --kernel "$good" --append "$(printf '%3000d' 1)"

# --- What the host does not serve.
run 1 'serial file:/nonexistent/log: No such file' --kernel "$good" --serial file:/nonexistent/log
run 1 'serial unix:/nonexistent/s: No such file' --kernel "$good" --serial unix:/nonexistent/s
run 1 'stats /nonexistent/stats: No such file' --kernel "$good" --stats /nonexistent/stats
total=$(awk '/MemTotal/ { print int($2 / 1024) + 64 }' /proc/meminfo)
if [ "$total" -lt 3584 ]; then
    run 1 "memory: $total MiB asked for, the host has" --kernel "$good" --memory "${total}M"
fi
expect 1 '(guest memory|CPU|code cache|interpreter|decoder|machine).*: Cannot allocate memory' \
    sh -c 'ulimit -v 300000; exec "$0" run --kernel "$1" --memory 256M' "$program" "$good"
expect 1 ': Too many open files' \
    sh -c 'exec 3>&- 4>&- 5>&-; ulimit -n 4; exec "$0" run --kernel "$1"' "$program" "$good"

# --- Translated code that is kept between runs: a bad directory is an error, a bad file is named, ignored, and made
# anew.
run 2 'cache needs an argument' --kernel "$good" --cache
run 1 "cache $good: Not a directory" --kernel "$good" --cache "$good"
run 1 "cache /nonexistent/cache: No such file" --kernel "$good" --cache /nonexistent/cache
run 1 'cache : No such file' --kernel "$good" --cache ''
mkdir "$dir/readonly" && chmod 555 "$dir/readonly"
if [ ! -w "$dir/readonly" ]; then
    run 1 "cache $dir/readonly: Permission denied" --kernel "$good" --cache "$dir/readonly"
fi

cached() {
    "$program" run --kernel "$good" --debug-exit 0xf4 --memory 16M --cache "$dir/cache" \
        >"$dir/out" 2>"$dir/err" </dev/null
}
# ignored WORDS: the run is as good as ever, but for one line; the next one finds a file that it likes, in place of
# $kept.
ignored() {
    run 33 "$1; ignored" --kernel "$good" --debug-exit 0xf4 --memory 16M --cache "$dir/cache"
    cases=$((cases + 1))
    cached
    if [ $? -eq 33 ] && [ ! -s "$dir/err" ] && [ -f "$kept" ] && [ ! -L "$kept" ] &&
        [ "$(stat -c %a "$kept")" = 600 ]; then return; fi
    failures=$((failures + 1))
    echo "FAIL: after '$1' the cache is not as it should be: $(ls -l "$kept") $(cat "$dir/err")"
}
cached
kept=$(echo "$dir"/cache/templates-*)
poke "$kept" 100 377 377
ignored 'is damaged'
head -c 100 "$kept" >"$dir/cut" && cat "$dir/cut" >"$kept"
ignored 'is truncated'
: >"$kept"
ignored 'is no file of templates'
head -c 5000 /dev/urandom >"$kept"
ignored 'is no file of templates'
poke "$kept" 24 000 000 000 000
ignored 'is of another version, processor or set of options'
chmod 620 "$kept"
ignored 'may be written to by others'
chmod 602 "$kept"
ignored 'may be written to by others'
truncate -s 100M "$kept"
ignored 'is larger than any of ours'
mv "$kept" "$dir/elsewhere" && ln -s "$dir/elsewhere" "$kept"
ignored 'is a symbolic link'
rm "$kept" && mkfifo "$kept"
ignored 'is not a regular file'
if [ "$(id -u)" = 0 ]; then
    chown 65534 "$kept"
    ignored 'belongs to another user'
fi
if ls "$dir/cache" | grep -qv '^templates-[0-9a-f]*$'; then
    failures=$((failures + 1))
    echo "FAIL: in the cache there is: $(ls "$dir/cache")"
fi

# --- And the good one is good: what was refused above was refused for its fault alone.
cases=$((cases + 1))
"$program" run --kernel "$good" --debug-exit 0xf4 --memory 16M >"$dir/out" 2>"$dir/err" </dev/null
status=$?
if [ $status -ne 33 ] || [ -s "$dir/err" ]; then
    failures=$((failures + 1))
    echo "FAIL: the kernel that all of this is made from ends with status $status, not 33:"
    cat "$dir/err"
fi
if [ -e "$dir/s" ] || ls "$dir" | grep -q stats; then
    failures=$((failures + 1))
    echo "FAIL: something was left behind"
fi

echo "badinput.sh: $cases cases, $failures failures"
[ $failures -eq 0 ]
