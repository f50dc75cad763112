/* Filling in struct vm_error. */
#ifndef SRC_ERROR_H
#define SRC_ERROR_H
#include "core/types.h"
#include "transvisor/vm.h"

/* Sets the text and returns code, so that `return vm_fail(err, -ENOEXEC, "%s: ...", path);` is one statement. */
int vm_fail(struct vm_error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
