/* Registers and memory of a machine, as vm.h has them. */
#include "runtime/runtime.h"
#include "src/error.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct fxstate) == sizeof(((struct vm_registers *)0)->fx), "an FXSAVE image is one");

/* ---- registers ---- */

/* Those that are 32 bits wide in both. */
static const struct {
    size_t here, arch;
} words[] = {
#define GPR(name, n)                                                                  \
    {                                                                                 \
        offsetof(struct vm_registers, name), offsetof(struct cpu_arch, gpr) + 4 * (n) \
    }
#define WORD(name)                                                           \
    {                                                                        \
        offsetof(struct vm_registers, name), offsetof(struct cpu_arch, name) \
    }
    /* clang-format off */
    GPR(eax, G_EAX), GPR(ecx, G_ECX), GPR(edx, G_EDX), GPR(ebx, G_EBX),
    GPR(esp, G_ESP), GPR(ebp, G_EBP), GPR(esi, G_ESI), GPR(edi, G_EDI),
    WORD(eip), WORD(cr0), WORD(cr2), WORD(cr3), WORD(cr4),
    /* clang-format on */
};

static const struct {
    size_t here, arch;
} segments[] = {
#define SEGMENT(name, n)                                                                               \
    {                                                                                                  \
        offsetof(struct vm_registers, name), offsetof(struct cpu_arch, seg) + sizeof(struct seg) * (n) \
    }
    /* clang-format off */
    SEGMENT(es, S_ES), SEGMENT(cs, S_CS), SEGMENT(ss, S_SS), SEGMENT(ds, S_DS), SEGMENT(fs, S_FS), SEGMENT(gs, S_GS),
    WORD(ldtr), WORD(tr),
    /* clang-format on */
};

/* What struct cpu_arch has under another name, as errors have it. */
static const char *register_name(const char *field)
{
    static const char *const names[][2] = { { "eflags_sys", "eflags" },
                                            { "intr_shadow", "interrupt_shadow" },
                                            { "fx.mxcsr", "fx" } };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i][0], field)) return names[i][1];
    return field;
}

int vm_get_registers(struct vm *vm, struct vm_registers *out)
{
    struct cpu_arch a;
    if (vm->running && !vm->naming) return -EBUSY;
    rt_get_state(vm->rt, &a);
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) memcpy((u8 *)out + words[i].here, (u8 *)&a + words[i].arch, 4);
    for (size_t i = 0; i < ARRAY_LEN(segments); i++) {
        const struct seg *s = (const struct seg *)((const u8 *)&a + segments[i].arch);
        const struct vm_segment v = { s->sel, 0, s->base, s->limit, s->attr };
        memcpy((u8 *)out + segments[i].here, &v, sizeof v);
    }
    out->eflags = arch_eflags(&a);
    out->gdtr = (struct vm_table){ a.gdtr.base, (u16)a.gdtr.limit, 0 };
    out->idtr = (struct vm_table){ a.idtr.base, (u16)a.idtr.limit, 0 };
    memcpy(out->dr, a.dr, sizeof out->dr);
    memcpy(out->pdpte, a.pdpte, sizeof out->pdpte);
    memcpy(out->fx, &a.fx, sizeof out->fx);
    out->cpl = a.cpl;
    out->halted = a.halted;
    out->interrupt_shadow = a.intr_shadow;
    out->nmi_blocked = a.nmi_blocked;
    return 0;
}

/* What would get lost on the way to struct cpu_arch: the name of the first register with such a value, or NULL. */
static const char *lost(const struct vm_registers *in)
{
    static const u8 none[sizeof in->reserved];
    if (in->eflags & ~(F_ARITH | F_IF | F_DF | F_SYS | F_FIXED)) return "eflags";
    if (in->nmi_blocked > 1) return "nmi_blocked";
    for (size_t i = 0; i < ARRAY_LEN(segments); i++) {
        struct vm_segment s;
        memcpy(&s, (const u8 *)in + segments[i].here, sizeof s);
        if (s.reserved) return "reserved";
    }
    return memcmp(in->reserved, none, sizeof none) || in->gdtr.reserved || in->idtr.reserved ? "reserved" : NULL;
}

int vm_set_registers(struct vm *vm, const struct vm_registers *in, struct vm_error *err)
{
    struct cpu_arch a;
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    rt_get_state(vm->rt, &a);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) memcpy((u8 *)&a + words[i].arch, (const u8 *)in + words[i].here, 4);
    for (size_t i = 0; i < ARRAY_LEN(segments); i++) {
        struct vm_segment v;
        memcpy(&v, (const u8 *)in + segments[i].here, sizeof v);
        const struct seg s = { .sel = v.selector, .base = v.base, .limit = v.limit, .attr = v.attributes };
        memcpy((u8 *)&a + segments[i].arch, &s, sizeof s);
    }
    arch_set_eflags(&a, in->eflags);
    a.gdtr = (struct table_reg){ in->gdtr.base, in->gdtr.limit };
    a.idtr = (struct table_reg){ in->idtr.base, in->idtr.limit };
    memcpy(a.dr, in->dr, sizeof a.dr);
    memcpy(a.pdpte, in->pdpte, sizeof a.pdpte);
    memcpy(&a.fx, in->fx, sizeof a.fx);
    a.cpl = in->cpl;
    a.halted = in->halted;
    a.intr_shadow = in->interrupt_shadow;
    a.nmi_blocked = in->nmi_blocked;
    const char *field = lost(in);
    if (field || rt_set_state(vm->rt, &a, &field))
        return vm_fail(err, -EINVAL, "%s: the processor could not hold this value", register_name(field));
    return 0;
}

int vm_get_msr(struct vm *vm, u32 msr, u64 *value) { return vm->running ? -EBUSY : rt_get_msr(vm->rt, msr, value); }
int vm_set_msr(struct vm *vm, u32 msr, u64 value) { return vm->running ? -EBUSY : rt_set_msr(vm->rt, msr, value); }

/* ---- memory ---- */

u64 vm_read_physical(struct vm *vm, u64 address, void *to, u64 n) { return rt_read_phys(vm->rt, address, to, n); }
u64 vm_write_physical(struct vm *vm, u64 address, const void *from, u64 n)
{
    return rt_write_phys(vm->rt, address, from, n);
}
u64 vm_read_linear(struct vm *vm, u32 address, void *to, u64 n) { return rt_read_linear(vm->rt, address, to, n); }
u64 vm_write_linear(struct vm *vm, u32 address, const void *from, u64 n)
{
    return rt_write_linear(vm->rt, address, from, n);
}

/* ---- counting instructions ---- */

int vm_count(struct vm *vm, bool on)
{
    if (vm->running) return -EBUSY;
    rt_count(vm->rt, on);
    return 0;
}

u64 vm_instructions(const struct vm *vm) { return rt_instructions(vm->rt); }

int vm_limit(struct vm *vm, u64 instructions)
{
    if (vm->running) return -EBUSY;
    rt_limit(vm->rt, instructions);
    return 0;
}

/* ---- breakpoints ---- */

_Static_assert((int)VM_BREAK_READ == RT_BREAK_READ && (int)VM_BREAK_WRITE == RT_BREAK_WRITE
                   && (int)VM_BREAK_FETCH == RT_BREAK_FETCH && VM_BREAK_BYTES_MAX == RT_BREAK_MAX,
               "the same, for embedders");

int vm_break_add(struct vm *vm, unsigned kinds, u32 address, u32 bytes)
{
    const unsigned known = VM_BREAK_READ | VM_BREAK_WRITE | VM_BREAK_FETCH;
    if (vm->running) return -EBUSY;
    return !kinds || kinds & ~known ? -EINVAL : rt_break_add(vm->rt, kinds, address, bytes);
}

int vm_break_remove(struct vm *vm, unsigned kinds, u32 address, u32 bytes)
{
    return vm->running ? -EBUSY : rt_break_remove(vm->rt, kinds, address, bytes);
}

int vm_break_remove_all(struct vm *vm)
{
    if (vm->running) return -EBUSY;
    rt_break_remove_all(vm->rt);
    return 0;
}

void vm_break_met(const struct vm *vm, unsigned *kinds, u32 *address, u32 *bytes)
{
    rt_break_met(vm->rt, kinds, address, bytes);
}

void vm_break_pass(struct vm *vm) { rt_break_pass(vm->rt); }
