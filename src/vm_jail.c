/* Owns the jail around a machine: which files it keeps, and the two threads that it is run by.
 *
 * The thread that made the machine keeps the rights to open files. The guest runs on another, which has no such rights,
 * and asks the first to do what it may not: an errand.
 *   I1  job and errand are set and cleared under lock; at most one of each is there.
 *   I2  While a job runs, the first thread waits for errands or its end.               [vm_confined_run] */
#include "src/vm_jail.h"
#include "core/thread.h"
#include "runtime/runtime.h"
#include "src/back/audio.h"
#include "src/error.h"
#include "src/jail.h"
#include "src/jail_files.h"
#include "src/back/share.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct task {
    void (*fn)(void *arg); /* NULL: none */
    void *arg;
};

struct vm_confined {
    struct jail *jail;
    struct rt *rt;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct task job, errand;
    bool ready, ending;
    int failed; /* -errno of going to jail, */
    const char *what;
};

/* ---- two threads ---- */

static void task_do(struct vm_confined *c, struct task *t)
{
    struct task now = *t;
    pthread_mutex_unlock(&c->lock);
    now.fn(now.arg);
    pthread_mutex_lock(&c->lock);
    t->fn = NULL;
    pthread_cond_broadcast(&c->changed);
}

static void task_give(struct vm_confined *c, struct task *t, void (*fn)(void *arg), void *arg)
{
    *t = (struct task){ fn, arg };
    pthread_cond_broadcast(&c->changed);
}

void vm_confined_run(struct vm_confined *c, void (*fn)(void *arg), void *arg)
{
    if (!c) {
        fn(arg);
        return;
    }
    pthread_mutex_lock(&c->lock);
    task_give(c, &c->job, fn, arg);
    while (c->job.fn) {
        if (c->errand.fn) task_do(c, &c->errand);
        else pthread_cond_wait(&c->changed, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

void vm_errand(struct vm_confined *c, void (*fn)(void *arg), void *arg)
{
    if (!c || !pthread_equal(pthread_self(), c->thread)) {
        fn(arg);
        return;
    }
    pthread_mutex_lock(&c->lock);
    task_give(c, &c->errand, fn, arg);
    while (c->errand.fn) pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

/* Files first: a process that is made for direct execution is to have no more of them than its tracer. */
static int go(struct vm_confined *c)
{
    c->what = "files";
    int rc = jail_enter_files(c->jail);
    if (!rc) rc = rt_confine(c->rt, &c->what);
    if (rc) return rc;
    c->what = "system calls";
    return jail_enter_calls(c->jail);
}

static void *vcpu_thread(void *arg)
{
    struct vm_confined *c = arg;
    int rc = go(c);
    pthread_mutex_lock(&c->lock);
    c->failed = rc;
    c->ready = true;
    pthread_cond_broadcast(&c->changed);
    while (!c->ending) {
        if (c->job.fn) task_do(c, &c->job);
        else pthread_cond_wait(&c->changed, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static int confined_new(struct vm_confined **out, struct jail *jail, struct rt *rt, const char **what)
{
    struct vm_confined *c = calloc(1, sizeof *c);
    *what = "vCPU thread (pthread_create)";
    if (!c) return -ENOMEM;
    c->jail = jail;
    c->rt = rt;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    int rc = thread_start(&c->thread, THREAD_VCPU, vcpu_thread, c);
    if (rc) {
        free(c);
        return rc;
    }
    pthread_mutex_lock(&c->lock);
    while (!c->ready) pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    *what = c->what;
    rc = c->failed;
    if (rc) vm_confined_free(c);
    else *out = c;
    return rc;
}

void vm_confined_free(struct vm_confined *c)
{
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->ending = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c);
}

/* ---- files ---- */

/* The files that `list` names, whose names end at one of `ends`. */
static int add_list(int set, const char *list, const char *ends, unsigned access)
{
    int rc = 0;
    char *copy = list ? strdup(list) : NULL, *rest = copy;
    if (list && !copy) return -ENOMEM;
    for (char *word; !rc && rest && (word = strsep(&rest, ",")); rc = jail_files_add(set, word, access))
        word[strcspn(word, ends)] = 0;
    free(copy);
    return rc;
}

/* What snapshot_to_file() does: a new file beside it, and its name; or what is there is written to. */
static int add_results(int set, const char *const *path)
{
    int rc = 0;
    for (; path && *path && !rc; path++) {
        struct stat st;
        bool plain = lstat(*path, &st) || S_ISREG(st.st_mode);
        rc = plain ? jail_files_add_folder_of(set, *path, JAIL_WRITE | JAIL_MAKE | JAIL_REMOVE | JAIL_LIST)
                   : jail_files_add(set, *path, JAIL_WRITE);
    }
    return rc;
}

/* A socket's name, and its lock's, come and go with machines on that wire. */
static int add_wire(int set, const char *net, unsigned access)
{
    static const char kind[] = "socket:unix:";
    if (!net || strncmp(net, kind, strlen(kind))) return 0;
    char *path = strndup(net + strlen(kind), strcspn(net + strlen(kind), ","));
    int rc = path ? jail_files_add_folder_of(set, path, access) : -ENOMEM;
    free(path);
    return rc;
}

static const char *net_of(const struct vm_config *cfg, unsigned i) { return i ? cfg->more_nets[i - 1] : cfg->net; }
#define NETS (1 + ARRAY_LEN(((struct vm_config *)0)->more_nets))

static int add_wires(int set, const struct vm_config *cfg, unsigned access)
{
    int rc = 0;
    for (unsigned i = 0; i < NETS && !rc; i++) rc = add_wire(set, net_of(cfg, i), access);
    return rc;
}

/* One that reaches the host's network. */
static bool has_user(const struct vm_config *cfg)
{
    bool user = false;
    for (unsigned i = 0; i < NETS; i++) user |= net_of(cfg, i) && !strncmp(net_of(cfg, i), "user", 4);
    return user;
}

static int main_files(int set, const struct vm_config *cfg, const struct vm_jail *j)
{
    static const char unix_line[] = "unix:";
    int rc = cfg->kernel ? jail_files_add(set, cfg->kernel, JAIL_READ) : 0;
    if (!rc) rc = add_list(set, cfg->initrd, " ", JAIL_READ);
    if (!rc && cfg->cache_dir)
        rc = jail_files_add(set, cfg->cache_dir, JAIL_READ | JAIL_WRITE | JAIL_MAKE | JAIL_REMOVE | JAIL_LIST);
    if (!rc) rc = add_results(set, j->saves);
    if (!rc) rc = add_results(set, j->screenshots);
    for (const char *const *path = j->sockets; !rc && path && *path; path++)
        rc = jail_files_add_folder_of(set, *path, JAIL_REMOVE);
    for (unsigned i = 0; i <= LINES && !rc; i++) {
        const char *line = i ? lines_spec(cfg, i - 1) : cfg->serial;
        if (line && !strncmp(line, unix_line, strlen(unix_line)))
            rc = jail_files_add_folder_of(set, line + strlen(unix_line), JAIL_REMOVE);
    }
    return rc ? rc : add_wires(set, cfg, JAIL_REMOVE);
}

/* The folder whose files `--net user` serves. */
static int add_tftp(int set, const char *net)
{
    static const char key[] = ",tftp=";
    const char *at = net ? strstr(net, key) : NULL;
    char *path = at ? strndup(at + strlen(key), strcspn(at + strlen(key), ",")) : NULL;
    int rc = !at ? 0 : path ? jail_files_add(set, path, JAIL_READ) : -ENOMEM;
    free(path);
    return rc;
}

static int net_files(int set, const struct vm_config *cfg)
{
    int rc = has_user(cfg) ? jail_files_add(set, "/etc/resolv.conf", JAIL_READ) : 0;
    for (unsigned i = 0; i < NETS && !rc; i++) rc = add_tftp(set, net_of(cfg, i));
    return rc ? rc : add_wires(set, cfg, JAIL_READ | JAIL_WRITE | JAIL_MAKE | JAIL_REMOVE);
}

/* Everything below the shared folders. */
static int share_files(int set, const struct vm_config *cfg)
{
    int rc = 0;
    for (unsigned i = 0; i < VM_SHARES_MAX && !rc; i++) {
        struct share_spec spec;
        struct vm_error why;
        if (!cfg->share[i]) continue;
        rc = share_parse(&spec, cfg->share[i], i, &why);
        if (rc) break;
        rc = jail_files_add(set, spec.dir, JAIL_READ | JAIL_LIST | (spec.readonly ? 0 : JAIL_WRITE | JAIL_TREE));
        free(spec.dir);
    }
    return rc;
}

/* A set for each role: most open nothing. */
static int files_make(int files[THREAD_ROLES], const struct vm_config *cfg, const struct vm_jail *j)
{
    bool user = has_user(cfg);
    int rc = 0;
    for (unsigned i = 0; i < THREAD_ROLES && !rc; i++) {
        if (i == THREAD_MAIN && j->any_file) continue;
        const struct jail_files_config how = { .tcp = user && i == THREAD_NET, .signals = i != THREAD_VCPU };
        files[i] = jail_files_new(&how);
        if (files[i] < 0) rc = files[i];
    }
    if (!rc && files[THREAD_MAIN] >= 0) rc = main_files(files[THREAD_MAIN], cfg, j);
    if (!rc) rc = net_files(files[THREAD_NET], cfg);
    if (!rc) rc = share_files(files[THREAD_SHARE], cfg);
    return rc;
}

/* ---- all of it ---- */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static void tell(const struct vm *vm, const char *text)
{
    if (vm->cfg.warn) vm->cfg.warn(vm->cfg.warn_arg, text);
}

static int enter(struct vm *vm, const struct jail_config *cfg, const char **what)
{
    struct jail *jail;
    *what = "system calls";
    int rc = jail_new(&jail, cfg);
    if (rc) return rc;
    *what = "prctl (PR_SET_DUMPABLE)";
    if ((rc = jail_process())) return rc;
    if ((rc = confined_new(&vm->confined, jail, vm->rt, what))) return rc;
    *what = "threads";
    if ((rc = jail_enter_others(jail))) return rc;
    if ((rc = jail_enter_files(jail))) return rc;
    return jail_enter_calls(jail);
}

int vm_jail(struct vm *vm, const struct vm_jail *asked, struct vm_error *err)
{
    struct vm_jail how = { 0 };
    memcpy(&how, asked, asked->size < sizeof how ? asked->size : sizeof how); /* fields came one by one */
    struct jail_config cfg = { .filters = jail_has_filters() };
    const char *what = "files";
    if (vm->running || vm->confined) return vm_fail(err, -EBUSY, "jail: the machine runs, or is there already");
    if (vm->cfg.audio && !audio_is_file(vm->cfg.audio))
        return vm_fail(err, -EINVAL, "jail: audio %.16s needs what it gives up", vm->cfg.audio);
    if (vm->cfg.engine == VM_ENGINE_KVM) return vm_fail(err, -EINVAL, "jail: KVM is asked for what a jail refuses");
    if (SANITIZED) return 0; /* sanitizers open files, and write into /proc, at any moment */
    for (unsigned i = 0; i < THREAD_ROLES; i++) cfg.files[i] = -1;
    int rc = 0;
    if (jail_files_version()) rc = files_make(cfg.files, &vm->cfg, &how);
    else tell(vm, "jail: the host has no Landlock (it is of Linux 5.13): files of yours could be opened from inside");
    if (!cfg.filters) tell(vm, "jail: the host filters no system calls (seccomp)");
    if (!rc) rc = enter(vm, &cfg, &what);
    for (unsigned i = 0; i < THREAD_ROLES; i++)
        if (cfg.files[i] >= 0) close(cfg.files[i]);
    return rc ? vm_fail(err, rc, "jail: %s: %s", what, strerror(-rc)) : 0;
}
