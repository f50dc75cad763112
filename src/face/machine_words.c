/* Owns the words of the verbs for machines that have names. */
#include "src/face/machine_words.h"

#define MACHINE(field) .at = offsetof(struct machine_args, field)
/* clang-format off */
#define NAME_ROW \
    { .name = "name", .type = OPT_STRING, .rank = OPT_COMMON, .required = true, .operand = true, MACHINE(name), \
      .arg = "NAME", .help = "the machine: letters, digits, - _ or ., 40 at most" }
#define LAST_ROWS { .name = "help", .aliases = "h ? help-all", .type = OPT_HELP }, { 0 }

const struct opt machine_new_options[] = { NAME_ROW, LAST_ROWS };
const struct opt machine_list_options[] = {
    { .name = "json", .type = OPT_FLAG, .rank = OPT_COMMON, MACHINE(json), .help = "as a JSON array" },
    LAST_ROWS
};
const struct opt machine_start_options[] = {
    NAME_ROW,
    { .name = "console", .type = OPT_FLAG, .rank = OPT_COMMON, MACHINE(console),
      .help = "go on as transvisor console NAME" },
    LAST_ROWS
};
const struct opt machine_stop_options[] = {
    NAME_ROW,
    { .name = "force", .aliases = "f", .type = OPT_FLAG, .rank = OPT_COMMON, MACHINE(force),
      .help = "end it at once, as if its plug were pulled, instead of pressing the power button" },
    { .name = "timeout", .type = OPT_SECONDS, .rank = OPT_COMMON, MACHINE(timeout_ms), .arg = "S", .min = 1,
      .max = (u64)UINT32_MAX * 1000, .help = "how long the guest has to power off [60]" },
    LAST_ROWS
};
const struct opt machine_rm_options[] = {
    NAME_ROW,
    { .name = "force", .aliases = "f", .type = OPT_FLAG, .rank = OPT_COMMON, MACHINE(force),
      .help = "do not ask, even if disk images go" },
    LAST_ROWS
};
const struct opt machine_console_options[] = { NAME_ROW, LAST_ROWS };
/* clang-format on */
