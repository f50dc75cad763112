/* Owns the table of presets. Enter at preset_apply(). */
#include "src/face/preset.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

static const struct preset {
    const char *name, *title, *cpu, *memory, *most, *disk_bus, *net_model, *sound, *pointer, *rtc, *tlb, *rng, *balloon;
} presets[] = {
#define PRESET(name, title, cpu, memory, most, disk_bus, net_model, sound, pointer, rtc, tlb, rng, balloon) \
    { name, title, cpu, memory, most, disk_bus, net_model, sound, pointer, rtc, tlb, rng, balloon },
#include "src/face/presets.def"
#undef PRESET
};

/* Which option a column is the value of. */
static const struct {
    const char *option;
    size_t at;
    int width;
} columns[] = {
    { "cpu", offsetof(struct preset, cpu), 8 },           { "memory", offsetof(struct preset, memory), 6 },
    { "disk-bus", offsetof(struct preset, disk_bus), 8 }, { "net-model", offsetof(struct preset, net_model), 9 },
    { "sound", offsetof(struct preset, sound), 5 },       { "pointer", offsetof(struct preset, pointer), 7 },
    { "rtc", offsetof(struct preset, rtc), 9 },           { "tlb", offsetof(struct preset, tlb), 7 },
    { "rng", offsetof(struct preset, rng), 3 },           { "balloon", offsetof(struct preset, balloon), 7 },
};

static const char *cell(const struct preset *p, size_t column)
{
    return *(const char *const *)((const char *)p + columns[column].at);
}

static const struct preset *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(presets); i++)
        if (!strcmp(presets[i].name, name)) return &presets[i];
    return NULL;
}

const char *preset_name(unsigned i, const char **title)
{
    if (i >= ARRAY_LEN(presets)) return NULL;
    if (title) *title = presets[i].title;
    return presets[i].name;
}

int preset_apply(const char *name, const struct opt *table, void *args, struct vm_error *err)
{
    const struct preset *p = find(name);
    const struct opt *asked;
    int rc = p ? 0 : vm_fail(err, -EINVAL, "there is no preset '%.64s'", name);
    for (size_t i = 0; i < ARRAY_LEN(columns) && !rc; i++) {
        char option[32];
        snprintf(option, sizeof option, "--%s", columns[i].option);
        char *argv[] = { option, (char *)cell(p, i) }; /* values of these types are not taken apart */
        rc = options_parse(table, args, 2, argv, &asked, err);
    }
    return rc;
}

u64 preset_memory_most(const char *name)
{
    const struct preset *p = find(name);
    u64 most = 0;
    return p && *p->most && !parse_size(p->most, 1, &most) ? most : 0;
}

void preset_print(FILE *out)
{
    fprintf(out, "%-8s", "--for");
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) fprintf(out, "%-*s ", columns[i].width, columns[i].option);
    fprintf(out, "%-7s for\n", "at most");
    for (size_t k = 0; k < ARRAY_LEN(presets); k++) {
        fprintf(out, "%-8s", presets[k].name);
        for (size_t i = 0; i < ARRAY_LEN(columns); i++) fprintf(out, "%-*s ", columns[i].width, cell(&presets[k], i));
        fprintf(out, "%-7s %s\n", presets[k].most, presets[k].title);
    }
}
