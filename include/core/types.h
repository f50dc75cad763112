/* The vocabulary of every file: fixed-width scalars, guest address types, and the two ways of insisting.
 *
 * laddr  a guest linear address (after segmentation, before paging): always 32 bits.
 * paddr  a guest physical address: up to 36 bits with PAE, so 64-bit storage.
 *
 * BUG_ON (core/bug.h) is for our own mistakes only. */
#ifndef CORE_TYPES_H
#define CORE_TYPES_H

#include "core/bug.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

typedef u32 vaddr; /* offset in a segment: EIP, ESP, an effective address */
typedef u32 laddr; /* linear: a segment's base and that */
typedef u64 paddr;

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096u
#define PAGE_MASK 0xfffff000u

#endif
