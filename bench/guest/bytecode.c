/* A bytecode interpreter, one switch in a loop: counts the primes below a limit by trial division. */
#include "bench.h"

enum { CONST, LOAD, STORE, ADD, MUL, MOD, LESS, JUMP_IF_ZERO, JUMP, HALT };

/* Locals: 0 is n, 1 the count, 2 the divisor d. Numbers at the left are addresses, which jumps name. */
enum { LIMIT = 6000, PRIMES_BELOW_LIMIT = 783 };

/* clang-format off */
static const int16_t program[] = {
    /*  0 */ CONST, 2, STORE, 0,                                   /* n = 2            */
    /*  4 */ CONST, 0, STORE, 1,                                   /* count = 0        */
    /*  8 */ LOAD, 0, CONST, LIMIT, LESS, JUMP_IF_ZERO, 63,        /* while n < limit  */
    /* 15 */ CONST, 2, STORE, 2,                                   /*   d = 2          */
    /* 19 */ LOAD, 0, LOAD, 2, LOAD, 2, MUL, LESS,                 /*   n < d*d: prime */
    /* 27 */ JUMP_IF_ZERO, 38,
    /* 29 */ LOAD, 1, CONST, 1, ADD, STORE, 1, JUMP, 54,           /*     count++      */
    /* 38 */ LOAD, 0, LOAD, 2, MOD, JUMP_IF_ZERO, 54,              /*   divides: next  */
    /* 45 */ LOAD, 2, CONST, 1, ADD, STORE, 2,                     /*   d++            */
    /* 52 */ JUMP, 19,
    /* 54 */ LOAD, 0, CONST, 1, ADD, STORE, 0, JUMP, 8,            /*   n++            */
    /* 63 */ HALT,
};
/* clang-format on */

static int32_t __attribute__((noinline)) execute(const int16_t *code)
{
    int32_t stack[16], local[4] = { 0 };
    int sp = 0;

    for (unsigned pc = 0;;) {
        switch (code[pc++]) {
        case CONST: stack[sp++] = code[pc++]; break;
        case LOAD: stack[sp++] = local[code[pc++]]; break;
        case STORE: local[code[pc++]] = stack[--sp]; break;
        case ADD:
            sp--;
            stack[sp - 1] += stack[sp];
            break;
        case MUL:
            sp--;
            stack[sp - 1] *= stack[sp];
            break;
        case MOD:
            sp--;
            stack[sp - 1] %= stack[sp];
            break;
        case LESS:
            sp--;
            stack[sp - 1] = stack[sp - 1] < stack[sp];
            break;
        case JUMP_IF_ZERO: pc = stack[--sp] == 0 ? (unsigned)code[pc] : pc + 1; break;
        case JUMP: pc = (unsigned)code[pc]; break;
        case HALT: return local[1];
        default: die("bad bytecode");
        }
    }
}

void bench_bytecode(unsigned units)
{
    uint64_t start = now_ns();

    for (unsigned round = 0; round < units; round++)
        if (execute(program) != PRIMES_BELOW_LIMIT) die("wrong count of primes");
    report("bytecode", (double)(now_ns() - start) / 1e6, "ms");
}
