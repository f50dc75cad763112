/* The table of struct cpu_arch. Bounds are for rt_set_state(), which knows the model. */
#include "src/board/cpu_part.h"

#define SEG_FIELDS(s)                                                                          \
    SNAP(struct cpu_arch, s.sel), SNAP(struct cpu_arch, s.pad), SNAP(struct cpu_arch, s.base), \
        SNAP(struct cpu_arch, s.limit), SNAP(struct cpu_arch, s.attr)
#define SEG_COLUMNS(s)                                                                                                 \
    SNAP_COLUMN(struct cpu_arch, s, sel), SNAP_COLUMN(struct cpu_arch, s, pad), SNAP_COLUMN(struct cpu_arch, s, base), \
        SNAP_COLUMN(struct cpu_arch, s, limit), SNAP_COLUMN(struct cpu_arch, s, attr)
#define TABLE_FIELDS(t) SNAP(struct cpu_arch, t.base), SNAP(struct cpu_arch, t.limit)

static const struct snap_field cpu_fields[] = {
    SNAP_ARRAY(struct cpu_arch, gpr),
    SNAP(struct cpu_arch, eip),
    SNAP(struct cpu_arch, df),
    SNAP(struct cpu_arch, eflags_sys),
    SNAP(struct cpu_arch, iflag),
    SNAP(struct cpu_arch, cpl),
    SNAP(struct cpu_arch, intr_shadow),
    SNAP(struct cpu_arch, halted),
    SNAP(struct cpu_arch, aflags),
    SNAP(struct cpu_arch, exc.valid),
    SNAP(struct cpu_arch, exc.has_error),
    SNAP(struct cpu_arch, exc.vector),
    SNAP(struct cpu_arch, exc.pad),
    SNAP(struct cpu_arch, exc.error),
    SNAP(struct cpu_arch, nmi_pending),
    SNAP(struct cpu_arch, nmi_blocked),
    SNAP(struct cpu_arch, intr_line),
    SNAP(struct cpu_arch, debug_pending),
    SNAP_BYTES(struct cpu_arch, fx),
    SEG_COLUMNS(seg),
    SEG_FIELDS(ldtr),
    SEG_FIELDS(tr),
    TABLE_FIELDS(gdtr),
    TABLE_FIELDS(idtr),
    SNAP(struct cpu_arch, cr0),
    SNAP(struct cpu_arch, cr2),
    SNAP(struct cpu_arch, cr3),
    SNAP(struct cpu_arch, cr4),
    SNAP_ARRAY(struct cpu_arch, dr),
    SNAP_ARRAY(struct cpu_arch, pdpte),
    SNAP(struct cpu_arch, sysenter_cs),
    SNAP(struct cpu_arch, sysenter_esp),
    SNAP(struct cpu_arch, sysenter_eip),
    SNAP(struct cpu_arch, debugctl),
    SNAP(struct cpu_arch, efer),
    SNAP(struct cpu_arch, apic_base),
    SNAP(struct cpu_arch, pat),
    SNAP(struct cpu_arch, misc_enable),
    SNAP(struct cpu_arch, tsc),
    SNAP(struct cpu_arch, mtrr_def_type),
    SNAP_ARRAY(struct cpu_arch, mtrr_fixed),
    SNAP_ARRAY(struct cpu_arch, mtrr_var),
    SNAP(struct cpu_arch, mcg_status),
    SNAP_ARRAY(struct cpu_arch, mc_ctl),
    SNAP_ARRAY(struct cpu_arch, k7_evtsel),
    SNAP_ARRAY(struct cpu_arch, k7_perfctr),
    SNAP(struct cpu_arch, reserved),
    SNAP(struct cpu_arch, ferr, .since = 2, .max = 1),
    SNAP(struct cpu_arch, ignne, .since = 2, .max = 1),
    { 0 },
};
static const struct snap_table cpu_table = { .name = "cpu",
                                             .version = 2,
                                             .size = sizeof(struct cpu_arch),
                                             .fields = cpu_fields };

struct snap_part cpu_part(struct cpu_arch *a) { return (struct snap_part){ cpu_table.name, &cpu_table, a }; }
