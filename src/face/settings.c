/* Owns the order in which a machine's settings count. Enter at settings_read(). */
#include "src/face/settings.h"
#include "src/face/preset.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

/* A saved machine is what it is: only what was said of it is compared with it. */
static bool is_loaded(const struct config *c, int argc, char **argv)
{
    return options_peek(verbs[VERB_RUN].options, "load", argc, argv) || (c && config_value(c, "load"));
}

static int preset_read(struct run_args *a, const struct config *c, int argc, char **argv, struct vm_error *err)
{
    const struct opt *table = verbs[VERB_RUN].options;
    const char *name = options_peek(table, "for", argc, argv), *title;
    if (!name && c) name = config_value(c, "for");
    if (!name || is_loaded(c, argc, argv)) return 0;
    for (unsigned i = 0; preset_name(i, &title); i++)
        if (!strcmp(preset_name(i, &title), name)) return preset_apply(name, table, a, err);
    return 0; /* what is wrong with it is said where it stands */
}

int settings_read(struct run_args *a, struct config **config, int argc, char **argv, const char *folder,
                  const struct opt **asked, struct vm_error *err)
{
    const struct opt *table = verbs[VERB_RUN].options;
    const char *file = options_peek(table, "config", argc, argv);
    *config = NULL;
    int rc = file ? config_load(config, file, err) : 0;
    if (*config) config_set_folder(*config, folder);
    if (!rc) rc = preset_read(a, *config, argc, argv, err);
    if (!rc && *config) rc = config_apply(*config, table, a, err);
    return rc ? rc : options_parse(table, a, argc, argv, asked, err);
}

int settings_join(struct config **out, int argc, char **argv, struct vm_error *err)
{
    const struct opt *table = verbs[VERB_RUN].options;
    const char *file = options_peek(table, "config", argc, argv);
    *out = NULL;
    int rc = file ? config_load(out, file, err) : config_new(out, err);
    return rc ? rc : config_add_words(*out, table, argc, argv, err);
}

const char *settings_doubt(const struct run_args *a, unsigned i, char *text, size_t room)
{
    u64 most = a->preset ? preset_memory_most(a->preset) : 0;
    if (i || a->load || !most || a->cfg.memory <= most) return NULL;
    snprintf(text, room, "memory: %s is known not to start with more than %lluM", a->preset,
             (unsigned long long)(most >> 20));
    return text;
}
