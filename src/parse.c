/* Owns what counts as a number. */
#include "src/parse.h"

#include <errno.h>
#include <string.h>

int parse_u64(const char *s, u64 max, u64 *out)
{
    /* strtoull would take a sign, leading blanks and octal: none of them is a number here. */
    unsigned base = 10;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        base = 16;
        s += 2;
    }
    u64 v = 0;
    if (!*s) return -EINVAL;
    for (; *s; s++) {
        unsigned d;
        if (*s >= '0' && *s <= '9') d = (unsigned)(*s - '0');
        else if (base == 16 && *s >= 'a' && *s <= 'f') d = (unsigned)(*s - 'a') + 10;
        else if (base == 16 && *s >= 'A' && *s <= 'F') d = (unsigned)(*s - 'A') + 10;
        else return -EINVAL;
        if (v > (UINT64_MAX - d) / base) return -EINVAL;
        v = v * base + d;
    }
    if (v > max) return -EINVAL;
    *out = v;
    return 0;
}

int parse_size(const char *s, u64 unit, u64 *out)
{
    static const char letters[] = "KMGT";
    size_t n = strcspn(s, "kmgtKMGT");
    char digits[24];
    if (!n || n >= sizeof digits) return -EINVAL;
    memcpy(digits, s, n);
    digits[n] = 0;
    if (s[n]) {
        const char *end = s + n + 1;
        if (strcmp(end, "") && strcmp(end, "B") && strcmp(end, "iB")) return -EINVAL;
        unit = (u64)1 << 10 * (strchr(letters, s[n] & ~0x20) - letters + 1);
    }
    u64 v;
    if (parse_u64(digits, UINT64_MAX / unit, &v)) return -EINVAL;
    *out = v * unit;
    return 0;
}

int parse_seconds(const char *s, u64 *ms)
{
    size_t whole = strcspn(s, ".");
    char digits[24];
    u64 v, part = 0;
    if (whole >= sizeof digits) return -EINVAL;
    memcpy(digits, s, whole);
    digits[whole] = 0;
    if (parse_u64(digits, UINT32_MAX, &v) || (digits[0] == '0' && digits[1])) return -EINVAL;
    if (s[whole]) {
        const char *p = s + whole + 1;
        if (!*p) return -EINVAL;
        for (u64 weight = 100; *p; p++, weight /= 10) {
            if (*p < '0' || *p > '9') return -EINVAL;
            part += weight * (u64)(*p - '0');
        }
    }
    *ms = v * 1000 + part;
    return 0;
}
