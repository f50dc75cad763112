/* Numbers as users write them. */
#ifndef SRC_PARSE_H
#define SRC_PARSE_H
#include "core/types.h"

/* Return 0, or -EINVAL with the destination left alone. */
MUST_CHECK int parse_u64(const char *s, u64 max, u64 *out);
MUST_CHECK int parse_size(const char *s, u64 unit, u64 *out); /* unit: bytes that a number without a letter counts */
MUST_CHECK int parse_seconds(const char *s, u64 *ms);

#endif
