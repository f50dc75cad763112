/* All that says what a machine is to be, from the weakest to the strongest: its preset, its configuration file, and the
 * words that were typed. */
#ifndef SRC_SETTINGS_H
#define SRC_SETTINGS_H
#include "src/face/config.h"
#include "src/face/verbs.h"

/* Fills *a in. folder: what names of files in the configuration file are relative to; NULL: the current directory.
 * Returns as options_parse() does, or -errno if the file cannot be read. *config is what a's strings
 * borrow from; the caller frees it, also after a failure; or NULL. */
MUST_CHECK int settings_read(struct run_args *a, struct config **config, int argc, char **argv, const char *folder,
                             const struct opt **asked, struct vm_error *err);
/* The configuration file's settings and words together, for settings_read() to be given as one file. 0 or -errno. */
MUST_CHECK int settings_join(struct config **out, int argc, char **argv, struct vm_error *err);
/* One line for each thing that the guest is known not to bear, NULL past the last. */
const char *settings_doubt(const struct run_args *a, unsigned i, char *text, size_t room);

#endif
