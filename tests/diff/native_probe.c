/* The least program of a 32-bit process: whether the host runs any. Exits with PROBE_STATUS. */
#include "tests/diff/diff.h"

void _start(void);
void _start(void)
{
    for (;;) __asm__ volatile("int $0x80" : : "a"(1 /* exit */), "b"(PROBE_STATUS) : "memory");
}
