#!/bin/sh
# A web server, in a guest or on the host: busybox httpd with a file of each of the sizes that are named, until somebody
# asks for cgi-bin/end. The measurement is made by who asks (bench/load.py).
# web.sh guest|host ADDRESS:PORT NAME=BYTES..
where=$1 listen=$2
shift 2
if [ "$where" = guest ]; then
    ifconfig lo 127.0.0.1
    ifconfig eth0 up
    udhcpc -f -q -n -t 5 -T 1 -i eth0 -s /bin/lease >/dev/null 2>&1 || { echo "BENCH-FAILED web: no address"; exit; }
fi
root=$(busybox mktemp -d)
busybox mkdir "$root/cgi-bin"
for file; do busybox head -c "${file#*=}" /dev/zero > "$root/${file%=*}"; done
printf '#!/bin/sh\necho "Content-Type: text/plain"\necho\n: > "%s/end"\n' "$root" > "$root/cgi-bin/end"
busybox chmod +x "$root/cgi-bin/end"
busybox httpd -f -p "$listen" -h "$root" &
echo BENCH-WEB-READY
until [ -e "$root/end" ]; do busybox usleep 50000; done
kill $!
busybox rm -r "$root"
