/* Owns the making of error texts: always one line, always terminated, whatever bytes a path or a file brought along. */
#include "src/error.h"
#include <stdarg.h>

int vm_fail(struct vm_error *err, int code, const char *fmt, ...)
{
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    for (char *p = err->text; *p; p++)
        if ((u8)*p < 0x20 || *p == 0x7f) *p = '?'; /* a control character could forge a line or move the cursor */
    return code;
}
