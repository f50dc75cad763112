/* Owns which names machines may have, and where their files are. Enter at machine_find(). */
#include "src/face/machine.h"
#include "src/error.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDING ".json"

static int too_long(struct vm_error *err, const char *path)
{
    return vm_fail(err, -ENAMETOOLONG, "%.200s..: the path is too long", path);
}

static int join(char *path, size_t room, const char *a, const char *b, const char *c, struct vm_error *err)
{
    int n = snprintf(path, room, "%s%s%s", a, b, c);
    return n < 0 || (size_t)n >= room ? too_long(err, path) : 0;
}

/* ---- names ---- */

static bool name_is_fine(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t n = strlen(name);
    return n && n <= MACHINE_NAME_MAX && strspn(name, letters) == n && name[0] != '.' && name[0] != '-';
}

/* ---- folders ---- */

/* $variable/transvisor, or its usual place below the home directory. A relative path is none (XDG). */
static int base_folder(char *path, size_t room, const char *variable, const char *usual, struct vm_error *err)
{
    const char *said = getenv(variable), *home = getenv("HOME");
    if (said && said[0] == '/') return join(path, room, said, "/transvisor", "", err);
    if (!home || home[0] != '/') {
        const struct passwd *user = getpwuid(geteuid());
        home = user ? user->pw_dir : NULL;
    }
    if (!home) return vm_fail(err, -ENOENT, "this user has no home directory: set HOME");
    return join(path, room, home, usual, "/transvisor", err);
}

/* With all that it is in. */
static int make_folder(const char *path, struct vm_error *err)
{
    char part[PATH_MAX];
    if (strlen(path) >= sizeof part) return too_long(err, path);
    for (size_t n = 1; n <= strlen(path); n++) {
        if (path[n] != '/' && path[n]) continue;
        memcpy(part, path, n);
        part[n] = 0;
        if (mkdir(part, 0700) && errno != EEXIST) return vm_fail(err, -errno, "%.300s: %s", part, strerror(errno));
    }
    return 0;
}

int machine_named(struct machine *m, const char *name, struct vm_error *err)
{
    char base[PATH_MAX];
    if (!name_is_fine(name)) {
        snprintf(m->name, sizeof m->name, "%s", name);
        for (char *p = m->name; *p; p++)
            if (*p < ' ' || *p == 0x7f) *p = '?';
        return vm_fail(err, -EINVAL, "'%s' is no name of a machine: it has 1 to %u letters, digits, - _ or .", m->name,
                       MACHINE_NAME_MAX);
    }
    snprintf(m->name, sizeof m->name, "%s", name);
    int rc = base_folder(base, sizeof base, "XDG_CONFIG_HOME", "/.config", err);
    if (!rc) rc = join(m->config, sizeof m->config, base, "/", name, err);
    if (!rc && strlen(m->config) + sizeof ENDING > sizeof m->config) rc = too_long(err, base);
    if (rc) return rc;
    strcat(m->config, ENDING);
    rc = base_folder(base, sizeof base, "XDG_DATA_HOME", "/.local/share", err);
    return rc ? rc : join(m->folder, sizeof m->folder, base, "/", name, err);
}

int machine_find(struct machine *m, const char *name, struct vm_error *err)
{
    int rc = machine_named(m, name, err);
    if (rc || !access(m->config, F_OK)) return rc;
    return vm_fail(err, -ENOENT, "there is no machine '%s'; transvisor list shows all, transvisor new makes one", name);
}

int machine_make_folders(const struct machine *m, struct vm_error *err)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", m->config);
    *strrchr(folder, '/') = 0;
    int rc = make_folder(folder, err);
    return rc ? rc : make_folder(m->folder, err);
}

int machine_file(const struct machine *m, const char *name, char *path, size_t room, struct vm_error *err)
{
    return join(path, room, m->folder, "/", name, err);
}

int machine_console(const struct machine *m, char *path, size_t room, struct vm_error *err)
{
    char folder[PATH_MAX], user[32];
    const char *said = getenv("XDG_RUNTIME_DIR");
    struct stat st;
    snprintf(user, sizeof user, "%u", geteuid());
    int rc = said && said[0] == '/' ? join(folder, sizeof folder, said, "/transvisor", "", err)
                                    : join(folder, sizeof folder, "/tmp/transvisor-", user, "", err);
    if (rc) return rc;
    /* Anybody may have made it in /tmp. */
    if (mkdir(folder, 0700) && errno != EEXIST) return vm_fail(err, -errno, "%.300s: %s", folder, strerror(errno));
    if (lstat(folder, &st)) return vm_fail(err, -errno, "%.300s: %s", folder, strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
        return vm_fail(err, -EPERM, "%.300s: is no directory of this user's alone (mode 0700)", folder);
    int n = snprintf(path, room, "%s/%s", folder, m->name);
    return n < 0 || (size_t)n >= room ? too_long(err, folder) : 0;
}

/* ---- all of them ---- */

static int is_config(const struct dirent *e)
{
    size_t n = strlen(e->d_name), ending = strlen(ENDING);
    char name[MACHINE_NAME_MAX + 1];
    if (n <= ending || n - ending > MACHINE_NAME_MAX || strcmp(e->d_name + n - ending, ENDING)) return 0;
    memcpy(name, e->d_name, n - ending);
    name[n - ending] = 0;
    return name_is_fine(name);
}

int machine_each(int (*fn)(void *arg, const char *name), void *arg, struct vm_error *err)
{
    char folder[PATH_MAX];
    struct dirent **all = NULL;
    int rc = base_folder(folder, sizeof folder, "XDG_CONFIG_HOME", "/.config", err);
    if (rc) return rc;
    int n = scandir(folder, &all, is_config, alphasort);
    if (n < 0) return errno == ENOENT ? 0 : vm_fail(err, -errno, "%.300s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        all[i]->d_name[strlen(all[i]->d_name) - strlen(ENDING)] = 0;
        if (!rc) rc = fn(arg, all[i]->d_name);
        free(all[i]);
    }
    free(all);
    return rc;
}
