/* stream.c and lower_stream.c: each engine writes the same accesses with the same values, and the blocks in the stream
 * come to the instructions that were done; what there is no room for is counted, and told of where it is missing. */
#define _GNU_SOURCE
#include "tests/unit/small_guest.h"
#include "transvisor/stream.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define RECORDS_MAX 65536u

/* Every way to reach memory that the translator does in line or has a helper for, with faults among it. */
__asm__(".pushsection .rodata\n"
        "stream_guest:\n"
        ".code32\n"
        "        movl $9, %ecx\n"
        "1:      addl %ecx, 0x30010\n"
        "        incb 0x30014(,%ecx,2)\n"
        "        movb 0x30014(%ecx), %ah\n"
        "        movb %bh, 0x30030(%ecx)\n"
        "        xchgl %eax, 0x30010\n"
        "        xchgb %dl, 0x30011\n"
        "        loop 1b\n"
        "        movl $0x11223344, 0x30100\n"
        "        movl $0x55667788, 0x30104\n"
        "        movw $0x99aa, 0x30108\n"
        "        movl 0x30102, %eax\n" /* misaligned */
        "        movl %eax, 0x30ffe\n" /* across pages */
        "        addl 0x30ffe, %eax\n"
        "        cmpl %eax, 0x30100\n"
        "        testb $3, 0x30101\n"
        "        setz 0x30110\n"
        "        sets 0x30111\n"
        "        notl 0x30100\n"
        "        shll $3, 0x30100\n"
        "        shrdl $5, %eax, 0x30104\n"
        "        cmpxchgl %ecx, 0x30100\n"
        "        movl 0x30100, %eax\n"
        "        cmpxchgl %ecx, 0x30100\n"
        "        xaddl %eax, 0x30104\n"
        "        cmpxchg8b 0x30100\n"
        "        movl $100, %eax\n"
        "        btl %eax, 0x30100\n"
        "        btsl %eax, 0x30100\n"
        "        btrl $3, 0x30100\n"
        "        imull 0x30104, %eax\n"
        "        movzwl 0x30102, %edx\n"
        "        movsbl 0x30103, %edx\n"
        "        xorl %edx, %edx\n"
        "        divl 0x30104\n"
        "        movl 0x30200, %eax\n"
        "        movl %eax, 0x30204\n"
        "        movl $0x30100, %ebx\n"
        "        movl $4, %eax\n"
        "        xlatb\n"
        "        pushl $0x1234\n"
        "        pushl 0x30104\n"
        "        popl 0x30208\n"
        "        popl %edx\n"
        "        pushw $7\n"
        "        popw %dx\n"
        "        pusha\n"
        "        popa\n"
        "        pushf\n"
        "        popf\n"
        "        enter $8, $0\n"
        "        leave\n"
        "        push %ds\n"
        "        pop %ds\n"
        "        movw %ds, 0x30210\n"
        "        movw 0x30210, %es\n"
        "        call 2f\n"
        "        movl $(2f - stream_guest + 0x10000), 0x30220\n"
        "        call *0x30220\n"
        "        movl $0x30220, %eax\n"
        "        call *(%eax)\n"
        "        cld\n"
        "        movl $0x30100, %esi\n"
        "        movl $0x30300, %edi\n"
        "        movsl\n"
        "        movsb\n"
        "        stosw\n"
        "        lodsl\n"
        "        scasb\n"
        "        cmpsl\n"
        "        movl $5, %ecx\n"
        "        rep movsl\n"
        "        movl $3, %ecx\n"
        "        rep stosb\n"
        "        std\n"
        "        movl $2, %ecx\n"
        "        rep stosl\n"
        "        cld\n"
        "        movl $8, %ecx\n"
        "        movl $0x30300, %edi\n"
        "        repne scasb\n"
        "        movl $0x30100, %esi\n"
        "        movl $0x30300, %edi\n"
        "        movl $4, %ecx\n"
        "        repe cmpsb\n"
        "        fldpi\n"
        "        fstl 0x30400\n"
        "        fstpt 0x30408\n"
        "        fldt 0x30408\n"
        "        faddl 0x30400\n"
        "        fistpl 0x30418\n"
        "        fildll 0x30400\n"
        "        fstpl 0x30420\n"
        "        fnstcw 0x30428\n"
        "        fldcw 0x30428\n"
        "        movups 0x30401, %xmm0\n"
        "        movaps %xmm0, 0x30440\n"
        "        addps 0x30440, %xmm0\n"
        "        movss %xmm0, 0x30450\n"
        "        movlps %xmm0, 0x30458\n"
        "        movq 0x30458, %mm0\n"
        "        paddb 0x30440, %mm0\n"
        "        movq %mm0, 0x30460\n"
        "        emms\n"
        "        fxsave 0x30600\n"
        "        sgdt 0x30500\n"
        "        movl $5, %eax\n"
        "        addl 0x50000, %eax\n" /* #PF, repaired */
        "        movl %eax, 0x50004\n"
        "        movl $0x33, %edx\n"
        "        movl %edx, %ds\n"
        "        movl %edx, %es\n"
        "        pushl $0x33\n"
        "        pushl $0x38000\n"
        "        pushl $0x3202\n" /* IOPL 3 */
        "        pushl $0x2b\n"
        "        pushl $(3f - stream_guest + 0x10000)\n"
        "        iretl\n"
        "2:      incl 0x30230\n"
        "        ret\n"
        "3:      movl $20, %eax\n" /* CPL 3 */
        "        int $0x80\n"
        "        addl $1, %eax\n"
        "        pushl %eax\n"
        "        popl %edx\n"
        "        lock incl 0x30230\n"
        "        movb %al, 0x30012\n"
        "        outl %eax, $0xf4\n"
        "        jmp .\n"
        "4:      movl $77, %eax\n" /* INT 80h */
        "        incl 0x30234\n"
        "        iretl\n"
        "5:      movl $0x50007, 0x21140\n" /* #PF */
        "        addl $4, %esp\n"
        "        iretl\n"
        "stream_end:\n"
        ".globl stream_handlers\n"
        "stream_handlers: .long 4b - stream_guest, 5b - stream_guest\n"
        ".code64\n"
        ".popsection\n");
extern const u8 stream_guest[], stream_end[];
extern const u32 stream_handlers[];

static struct vm_stream_record seen[2][RECORDS_MAX];
static unsigned nseen[2], into;

static void start_streamed(int which)
{
    start(which);
    put(CODE, stream_guest, (unsigned)(stream_end - stream_guest));
    with_user_code(CODE + stream_handlers[0], CODE + stream_handlers[1]);
}

/* ---- the reader's end ---- */

static struct vm_stream_header *header;

static struct rt_stream stream_new(unsigned what, u64 ring)
{
    int fd = memfd_create("ring", 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)(4096 + ring)), 0);
    u8 *at = mmap(NULL, 4096 + 2 * ring, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(mmap(at, 4096 + ring, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
    ck_assert(mmap(at + 4096 + ring, ring, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 4096)
              == at + 4096 + ring);
    close(fd);
    header = (struct vm_stream_header *)at;
    header->header_bytes = 4096;
    return (struct rt_stream){ .memory = at, .ring = ring, .what = what, .to = UINT32_MAX, .cpls = 0xf, .reader = -1 };
}

static void take(const struct rt_stream *s)
{
    u64 head = __atomic_load_n(&header->head, __ATOMIC_ACQUIRE);
    for (; header->tail < head; header->tail += sizeof(struct vm_stream_record)) {
        ck_assert_uint_lt(nseen[into], RECORDS_MAX);
        memcpy(&seen[into][nseen[into]++], (u8 *)s->memory + 4096 + header->tail % s->ring, sizeof seen[0][0]);
    }
}

/* A run of the guest under engine `which`; its records are in seen[into]. */
static u64 run_streamed(int which, unsigned what)
{
    start_streamed(which);
    rt_count(rt, true);
    struct rt_stream s = stream_new(what, 1 << 20);
    ck_assert_int_eq(rt_stream_begin(rt, &s), 0);
    (void)run();
    ck_assert_uint_eq(out_value, 78);
    u64 insns = rt_instructions(rt);
    rt_stream_end(rt);
    nseen[into] = 0;
    take(&s);
    ck_assert_uint_eq(header->ended, 1);
    ck_assert_uint_eq(header->lost, 0);
    munmap(s.memory, 4096 + 2 * s.ring);
    end();
    return insns;
}

START_TEST(each_engine_puts_the_same_accesses)
{
    unsigned what = VM_STREAM_MEMORY | VM_STREAM_EVENTS;
    for (into = 0; into < 2; into++) (void)run_streamed(into ? _i : 0, what);
    into = 0;
    for (unsigned i = 0; i < nseen[0] && i < nseen[1]; i++) {
        const struct vm_stream_record *a = &seen[0][i], *b = &seen[1][i];
        ck_assert_msg(!memcmp(a, b, sizeof *a),
                      "record %u: kind %u size %u at %04x: %08x = %llx instead of "
                      "kind %u size %u at %04x: %08x = %llx",
                      i, b->kind, b->size, b->at, b->address, (unsigned long long)b->value, a->kind, a->size, a->at,
                      a->address, (unsigned long long)a->value);
    }
    ck_assert_uint_eq(nseen[0], nseen[1]);
    ck_assert_uint_gt(nseen[0], 250);
}
END_TEST

START_TEST(accesses_have_their_address_value_and_instruction)
{
    unsigned met = 0;
    (void)run_streamed(_i, VM_STREAM_MEMORY);
    for (unsigned i = 0; i < nseen[0]; i++) {
        const struct vm_stream_record *r = &seen[0][i];
        if (r->address == 0x30100 && r->kind == VM_STREAM_WRITE && !met) {
            ck_assert_uint_eq(r->value, 0x11223344);
            ck_assert_uint_eq(r->size, 4);
            met = 1;
        }
        if (r->address == 0x30ffe && r->kind == VM_STREAM_READ) {
            ck_assert_uint_eq(r->value, 0x77881122);
            ck_assert_uint_eq(r->size, 4);
            met |= 2;
        }
        if (r->address == 0x30012 && r->kind == VM_STREAM_WRITE && r->value == 78) met |= 4; /* at CPL 3 */
        ck_assert_uint_ge(r->at, CODE & 0xffff);
    }
    ck_assert_uint_eq(met, 7);
}
END_TEST

/* All code that ran, one bit a byte; and how many instructions that were. */
static u64 coverage(unsigned which, u8 bytes[4096])
{
    u64 insns = 0;
    memset(bytes, 0, 4096);
    for (unsigned i = 0; i < nseen[which]; i++) {
        const struct vm_stream_record *r = &seen[which][i];
        if (r->kind == VM_STREAM_LEFT) insns -= r->value;
        if (r->kind != VM_STREAM_BLOCK) continue;
        unsigned end = (unsigned)(r->value & 0xffff);
        for (unsigned k = i + 1; k < nseen[which] && seen[which][k].kind != VM_STREAM_BLOCK; k++)
            if (seen[which][k].kind == VM_STREAM_LEFT) end = seen[which][k].address - r->address;
        insns += r->value >> 16 & 0xffff;
        for (unsigned k = 0; k < end; k++) bytes[(r->address - CODE + k) & 4095] = 1;
    }
    return insns;
}

/* A system call's instruction counts, one that faults does not: it has begun, and begins again. */
START_TEST(blocks_come_to_the_instructions_that_were_done)
{
    u8 bytes[2][4096];
    for (into = 0; into < 2; into++) {
        u64 done = run_streamed(into ? _i : 0, VM_STREAM_BLOCKS | VM_STREAM_MEMORY | VM_STREAM_EVENTS);
        u64 faults = 0;
        for (unsigned i = 0; i < nseen[into]; i++) faults += seen[into][i].kind == VM_STREAM_EXCEPTION;
        u64 told = coverage(into, bytes[into]);
        ck_assert_msg(told == done + faults, "%llu instructions in blocks, of which %llu faulted, instead of %llu",
                      (unsigned long long)told, (unsigned long long)faults, (unsigned long long)done);
    }
    into = 0;
    for (unsigned i = 0; i < 4096; i++)
        ck_assert_msg(bytes[0][i] == bytes[1][i], "byte %x: covered %u instead of %u", CODE + i, bytes[1][i],
                      bytes[0][i]);
}
END_TEST

START_TEST(only_what_is_asked_for_is_told)
{
    start_streamed(_i);
    struct rt_stream s = stream_new(VM_STREAM_BLOCKS | VM_STREAM_MEMORY, 1 << 20);
    s.cpls = 1 << 3;
    ck_assert_int_eq(rt_stream_begin(rt, &s), 0);
    (void)run();
    rt_stream_end(rt);
    nseen[0] = 0;
    take(&s);
    ck_assert_uint_gt(nseen[0], 5);
    u32 user = CODE + stream_handlers[0] - 40;
    for (unsigned i = 0; i < nseen[0]; i++)
        ck_assert_msg(seen[0][i].at >= (user & 0xffff), "kind %u at %x", seen[0][i].kind, seen[0][i].at);
    munmap(s.memory, 4096 + 2 * s.ring);
    end();
}
END_TEST

/* mov ecx, 20000; 1: inc [30000h]; dec ecx; jnz 1b; mov eax, 78; out f4h, eax */
static void start_loop(int which)
{
    start(which);
    CODE_AT(CODE, "\xb9\x20\x4e\x00\x00\xff\x05\x00\x00\x03\x00\x49\x75\xf7\xb8\x4e\x00\x00\x00\xe7\xf4\xeb\xfe");
}

START_TEST(what_there_is_no_room_for_is_counted_and_told)
{
    start_loop(_i);
    struct rt_stream s = stream_new(VM_STREAM_MEMORY, 64 << 10);
    ck_assert_int_eq(rt_stream_begin(rt, &s), 0);
    (void)run();
    ck_assert_uint_eq(out_value, 78); /* nobody has read, and the guest went on */
    rt_stream_end(rt);
    u64 kept = rt_stream_told(rt), lost = rt_stream_lost(rt);
    ck_assert_uint_eq(kept + lost, 40000);
    ck_assert_uint_eq(header->lost, lost);
    ck_assert_uint_ge(kept, 2048);
    ck_assert_uint_le(kept, 4096);
    munmap(s.memory, 4096 + 2 * s.ring);
    end();
}
END_TEST

/* A reader of its own, which takes its time at first. */
static void *read_slowly(void *arg)
{
    const struct rt_stream *s = arg;
    usleep(100000);
    while (!__atomic_load_n(&header->ended, __ATOMIC_ACQUIRE)) take(s);
    take(s);
    return NULL;
}

START_TEST(with_wait_nothing_is_lost)
{
    pthread_t reader;
    start_loop(_i);
    struct rt_stream s = stream_new(VM_STREAM_MEMORY, 64 << 10);
    s.wait = true;
    nseen[0] = 0;
    ck_assert_int_eq(rt_stream_begin(rt, &s), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_slowly, &s), 0);
    (void)run();
    rt_stream_end(rt);
    pthread_join(reader, NULL);
    ck_assert_uint_eq(rt_stream_lost(rt), 0);
    ck_assert_uint_eq(nseen[0], 40000);
    for (unsigned i = 0; i < 20000; i++) ck_assert_uint_eq(seen[0][2 * i + 1].value, i + 1);
    munmap(s.memory, 4096 + 2 * s.ring);
    end();
}
END_TEST

static void *catch_up(void *arg)
{
    const struct rt_stream *s = arg;
    while (!__atomic_load_n(&header->lost, __ATOMIC_RELAXED)) usleep(1000);
    return read_slowly((void *)s);
}

START_TEST(a_gap_is_told_of_where_it_is)
{
    pthread_t reader;
    start_loop(_i);
    put32(CODE + 1, 20000000);
    struct rt_stream s = stream_new(VM_STREAM_MEMORY, 64 << 10);
    nseen[0] = 0;
    s.from = s.to = CODE + 5;
    ck_assert_int_eq(rt_stream_begin(rt, &s), 0);
    rt_limit(rt, 300000);
    rt_update(rt);
    ck_assert_int_eq(rt_run(rt), RT_LIMIT);
    ck_assert_uint_gt(rt_stream_lost(rt), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, catch_up, &s), 0);
    usleep(200000); /* it has taken all there was */
    rt_limit(rt, 3000);
    ck_assert_int_eq(rt_run(rt), RT_LIMIT);
    rt_stream_end(rt);
    pthread_join(reader, NULL);
    unsigned gap = 0;
    while (gap < nseen[0] && seen[0][gap].kind != VM_STREAM_LOST) gap++;
    ck_assert_uint_lt(gap + 1, nseen[0]);
    u64 before = seen[0][gap - 1].value, after = seen[0][gap + 1].value, lost = seen[0][gap].value;
    ck_assert_uint_eq(seen[0][gap - 1].kind, VM_STREAM_WRITE); /* pairs, so that the gap has whole ones */
    ck_assert_uint_eq(2 * (after - before), lost + (seen[0][gap + 1].kind == VM_STREAM_WRITE));
    munmap(s.memory, 4096 + 2 * s.ring);
    end();
}
END_TEST

SMALL_GUEST_SUITE("stream", 60, each_engine_puts_the_same_accesses, accesses_have_their_address_value_and_instruction,
                  blocks_come_to_the_instructions_that_were_done, only_what_is_asked_for_is_told,
                  what_there_is_no_room_for_is_counted_and_told, with_wait_nothing_is_lost,
                  a_gap_is_told_of_where_it_is)
