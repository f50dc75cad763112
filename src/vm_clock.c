/* Owns the words for the time at which a machine's clock starts. Enter at vm_clock_parse(). */
#define _DEFAULT_SOURCE /* timegm, tm_gmtoff */
#include "src/vm_clock.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define YEAR_MIN 1980
#define YEAR_MAX 2099 /* what a PC's BIOS takes for a year */

/* YYYY-MM-DD, or YYYY-MM-DDTHH:MM:SS. */
static bool date_parse(const char *s, s64 *out)
{
    struct tm t = { 0 }, again;
    int n = 0, more = 0;
    if (sscanf(s, "%4d-%2d-%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &n) != 3) return false;
    if (s[n] && (sscanf(s + n, "T%2d:%2d:%2d%n", &t.tm_hour, &t.tm_min, &t.tm_sec, &more) != 3 || s[n + more]))
        return false;
    if (t.tm_year < YEAR_MIN || t.tm_year > YEAR_MAX) return false;
    t.tm_year -= 1900;
    t.tm_mon--;
    again = t;
    time_t at = timegm(&again);
    if (again.tm_mon != t.tm_mon || again.tm_mday != t.tm_mday || again.tm_hour != t.tm_hour || again.tm_min != t.tm_min
        || again.tm_sec != t.tm_sec)
        return false; /* the 30th of February */
    *out = at;
    return true;
}

int vm_clock_parse(const char *rtc, s64 now, s64 *offset, struct vm_error *err)
{
    struct tm here;
    time_t t = (time_t)now;
    s64 date;
    *offset = 0;
    if (!rtc || !strcmp(rtc, "utc")) return 0;
    if (!strcmp(rtc, "localtime")) {
        if (localtime_r(&t, &here)) *offset = here.tm_gmtoff;
        return 0;
    }
    if (!date_parse(rtc, &date))
        return vm_fail(err, -EINVAL,
                       "rtc: '%.40s' is none of utc, localtime, and a date as 2024-02-29T12:00:00 (%d to %d)", rtc,
                       YEAR_MIN, YEAR_MAX);
    *offset = date - now;
    return 0;
}
