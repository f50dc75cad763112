/* What `transvisor check` says of /dev/kvm, which --engine kvm and `transvisor bench` use, and nothing else needs. */
#include "src/host_check.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <string.h>

void host_check_kvm(struct vm_host_item *item)
{
    struct rt_kvm kvm;
    const char *why;
    int rc = rt_kvm_probe(&kvm, &why);
    item->state = rc ? VM_HOST_UNKNOWN : VM_HOST_GOOD;
    if (!rc)
        snprintf(item->text, sizeof item->text,
                 "runs 32-bit guests%s: %.1f ns for a round of a loop, %.1f us for an exit; --engine kvm can be had",
                 kvm.hardware ? "" : ", but slowly", kvm.loop_ns, kvm.exit_ns / 1000);
    else if (rc == -ENOENT) snprintf(item->text, sizeof item->text, "there is none: no --engine kvm; not needed");
    else snprintf(item->text, sizeof item->text, "%s (%s): no --engine kvm; not needed", why, strerror(-rc));
}
