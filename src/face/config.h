/* Settings as a JSON object: its keys are the long names of options, its values what would be typed. An option that may
 * be repeated has an array; one without an argument is true or false; numbers may stand without quotation marks. */
#ifndef SRC_CONFIG_H
#define SRC_CONFIG_H
#include "src/face/options.h"

struct config;

/* An empty one. 0 or -ENOMEM. */
MUST_CHECK int config_new(struct config **out, struct vm_error *err);
/* That of a file. 0, -EINVAL: it says something wrong, with its line; else -errno: it cannot be read. */
MUST_CHECK int config_load(struct config **out, const char *file, struct vm_error *err);
/* From now on names of files are relative to that directory, which is borrowed, when they are applied. */
void config_set_folder(struct config *c, const char *folder);
void config_free(struct config *c); /* NULL is fine */

/* Parses every setting into *args, as if it had been typed. Strings in *args are c's from then on: it outlives them.
 * 0 or -EINVAL. */
MUST_CHECK int config_apply(struct config *c, const struct opt *table, void *args, struct vm_error *err);
/* Adds what words say: it replaces what was there, or joins it where the option may be repeated. 0 or -EINVAL,
 * -ENOMEM. */
MUST_CHECK int config_add_words(struct config *c, const struct opt *table, int argc, char **argv, struct vm_error *err);

/* A setting's first value; NULL: there is none. Borrowed. */
const char *config_value(const struct config *c, const char *key);
/* Calls fn for each text of the settings that the table has, in their order. If fn sets *other, an allocated
 * text, that takes its place. 0, or what fn has returned. */
typedef int config_text_fn(void *arg, const struct opt *row, const char *text, char **other, struct vm_error *err);
MUST_CHECK int config_each(struct config *c, const struct opt *table, config_text_fn *fn, void *arg,
                           struct vm_error *err);

/* A value of a row's in which names of files are relative to folder no more; allocated. NULL: it names none, they are
 * absolute already, or there is no memory. */
char *config_path(const struct opt *row, const char *text, const char *folder);

/* Prints it. 0 or -EIO. */
MUST_CHECK int config_print(const struct config *c, FILE *out);

#endif
