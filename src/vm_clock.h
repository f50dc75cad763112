/* What the real-time clock shows when a machine is switched on. */
#ifndef SRC_VM_CLOCK_H
#define SRC_VM_CLOCK_H
#include "core/types.h"
#include "transvisor/vm.h"

/* rtc: as in struct vm_config. *offset: seconds to add to `now` (UTC, since 1970). 0 or -EINVAL: it is no such word. */
MUST_CHECK int vm_clock_parse(const char *rtc, s64 now, s64 *offset, struct vm_error *err);

#endif
