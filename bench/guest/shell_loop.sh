# Runs a thousand short commands, ten kinds a hundred times. $1: a program that holds them all, or nothing.
i=0
while [ $i -lt 100 ]; do
    $1 env true
    $1 expr $i + 1 > number
    $1 cat number > copy
    $1 wc -c copy > /dev/null
    $1 head -n 1 number > /dev/null
    $1 basename /usr/lib/bench/shell_loop.sh .sh > /dev/null
    $1 date > /dev/null
    $1 mv copy moved
    $1 rm moved
    i=$($1 cat number)
done
