/* The translator without a machine: what the `translate` verb prints. Owns the reading and checking of its file. */
#include "runtime/runtime.h"
#include "src/error.h"
#include "src/vm_priv.h"
#include "transvisor/vm.h"

#include <errno.h>
#include <string.h>

#define CODE_MAX ((u64)1 << 20) /* it is for reading */

static int code_read(struct rt_listing *l, const char *path, struct vm_error *err)
{
    FILE *f = fopen(path, "re");
    if (!f) return vm_fail(err, -errno, "%s: %s", path, strerror(errno));
    u8 *code = malloc(CODE_MAX + 1);
    if (code) l->len = fread(code, 1, CODE_MAX + 1, f);
    l->code = code;
    int rc = !code ? -ENOMEM : ferror(f) ? -EIO : 0;
    fclose(f);
    if (rc) return vm_fail(err, rc, "%s: %s", path, strerror(-rc));
    if (!l->len) return vm_fail(err, -ENODATA, "%s: the file is empty", path);
    if (l->len > CODE_MAX) return vm_fail(err, -EFBIG, "%s: more than 1 MiB of code", path);
    if (l->base + l->len > (u64)1 << 32) return vm_fail(err, -EINVAL, "base: %s would reach beyond 4 GiB", path);
    return 0;
}

int vm_translate(const struct vm_translate_config *cfg, FILE *out, struct vm_error *err)
{
    if (cfg->cpl > 3) return vm_fail(err, -EINVAL, "cpl: %u is not a privilege level (0 to 3)", cfg->cpl);
    if (vm_config_cpu(cfg->cpu, err)) return -EINVAL;
    struct rt_listing l = { .base = cfg->base, .cpu_model = cfg->cpu, .cpl = cfg->cpl, .code16 = cfg->code16 };
    const char *what;
    int rc = code_read(&l, cfg->file, err);
    if (!rc && (rc = rt_list_code(&l, out, &what))) vm_fail(err, rc, "%s: %s", what, strerror(-rc));
    free((void *)(uintptr_t)l.code);
    return rc;
}
