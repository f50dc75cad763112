/* Multiplicative hashing (Knuth, vol. 3, 6.4): spreads keys that differ in any bits over the top bits of a product. */
#ifndef CORE_HASH_H
#define CORE_HASH_H
#include "core/types.h"

/* The slot of key in a table of 1 << bits; bits 1 to 64. */
static inline u64 hash_slot(u64 key, unsigned bits) { return key * 0x9e3779b97f4a7c15ull >> (64 - bits); }
#endif
