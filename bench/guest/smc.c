/* Programs whose code shares a page with what they write: trampolines, JIT compilers and decoders do that, and a
 * monitor that write-protects code pays for each of these writes if it does nothing about it. */
#define _GNU_SOURCE
#include "bench.h"
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, TURN = 100 };

static unsigned char *code_page(void)
{
    unsigned char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap");
    return p;
}

static inline __attribute__((always_inline)) unsigned call(void *p) { return ((unsigned (*)(void))p)(); }

static void put_function(unsigned char *p, unsigned value) /* MOV EAX, value; RET */
{
    p[0] = 0xb8;
    memcpy(p + 1, &value, 4);
    p[5] = 0xc3;
}

/* A page of zeros, run: ADD [EAX], AL 2047 times, each storing to the page that it is in. */
static uint64_t zero_page(unsigned n)
{
    unsigned char *p = code_page();
    p[PAGE - 2] = 0xc3;
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) __asm__ volatile("call *%0" : : "a"(p) : "memory", "cc");
    start = now_ns() - start;
    if (p[0]) die("a byte of the page has changed");
    munmap(p, PAGE);
    return start;
}

/* A counter in the page of a function that is called after each count. */
static uint64_t counter(unsigned n)
{
    unsigned char *p = code_page();
    volatile unsigned *count = (unsigned *)(p + 64);
    put_function(p, 42);
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        ++*count;
        if (call(p) != 42) die("wrong result");
    }
    start = now_ns() - start;
    if (*count != n) die("wrong count");
    munmap(p, PAGE);
    return start;
}

static struct {
    unsigned char *code;
    unsigned n;
} modified;

/* Eight bytes at a time and atomically. */
static void *modify(void *arg)
{
    for (unsigned i = 0; i < modified.n; i++) {
        uint64_t old = *(volatile uint64_t *)modified.code;
        uint64_t new = 0xb8 | (uint64_t)((i & 0xff) * 0x01010101) << 8 | 0x9090c3ull << 40;
        if (!__sync_bool_compare_and_swap((uint64_t *)modified.code, old, new)) die("somebody else writes there");
        if (i % TURN == TURN - 1) sched_yield();
    }
    return arg;
}

/* One thread alters a function, another calls it, on one processor, by turns of TURN rounds. */
static uint64_t cross_modify(unsigned n)
{
    pthread_t thread;
    share_one_processor();
    modified.code = code_page();
    modified.n = n;
    put_function(modified.code, 0);
    uint64_t start = now_ns();
    if (pthread_create(&thread, NULL, modify, NULL)) die("pthread_create");
    for (unsigned i = 0; i < n; i++) {
        unsigned v = call(modified.code);
        if (v != (v & 0xff) * 0x01010101) die("half of a change was seen");
        if (i % TURN == TURN - 1) sched_yield();
    }
    pthread_join(thread, NULL);
    start = now_ns() - start;
    munmap(modified.code, PAGE);
    return start;
}

/* A loop that decodes the 32 bytes of code behind it and jumps there; the code is another each time. */
static uint64_t decoder(unsigned n)
{
    enum { KEY = 0x5a, PLAIN = 512, BYTES = 32 };
    unsigned char *p = code_page(), *plain = p + PLAIN;
    static const unsigned char decode[] = {
        0xb9, BYTES / 4, 0,   0,   0,        /* MOV ECX, BYTES / 4 */
        0x81, 0x37,      KEY, KEY, KEY, KEY, /* XOR DWORD [EDI], KEY.. */
        0x83, 0xc7,      4,                  /* ADD EDI, 4 */
        0xe2, 0xf5,                          /* LOOP */
        0xff, 0xe2,                          /* JMP EDX */
    };
    memcpy(p, decode, sizeof decode);
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        unsigned result;
        void *at = plain, *to = plain;
        put_function(plain, i);
        for (unsigned k = 0; k < BYTES; k++) plain[k] ^= KEY;
        __asm__ volatile("call *%3" : "=a"(result), "+D"(at), "+d"(to) : "b"(p) : "ecx", "memory", "cc");
        if (result != i) die("wrong result");
    }
    start = now_ns() - start;
    munmap(p, PAGE);
    return start;
}

void bench_smc_zero_page(unsigned units) { (void)units, measure("smc_zero_page", 10, zero_page); }
void bench_smc_counter(unsigned units) { (void)units, measure("smc_counter", 10000, counter); }
void bench_smc_cross_modify(unsigned units) { (void)units, measure("smc_cross_modify", 10000, cross_modify); }
void bench_smc_decoder(unsigned units) { (void)units, measure("smc_decoder", 100, decoder); }
