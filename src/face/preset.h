/* Machines as well-known guests expect them: a preset is a few options with their values. */
#ifndef SRC_PRESET_H
#define SRC_PRESET_H
#include "src/face/options.h"

/* The name of preset i, and what it is for; NULL past the last. */
const char *preset_name(unsigned i, const char **title);
/* Parses the preset's values into *args, as if they had been typed before all else. 0; -EINVAL: there is no such. */
MUST_CHECK int preset_apply(const char *name, const struct opt *table, void *args, struct vm_error *err);
/* Bytes of RAM beyond which that guest is known not to start; 0: none are known. */
u64 preset_memory_most(const char *name);
void preset_print(FILE *out); /* all of them, as a table */

#endif
