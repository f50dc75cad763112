/* Owns one client's side of QMP (QEMU's docs/interop/qmp-spec): which bytes are a request, what its arguments must be,
 * and what is answered.
 *   I1  text[] holds the bytes of the object that is being received; depth says how many braces and brackets are
 *       open.
 *       What is no object is left out up to the end of its line, and answered once.                       [byte]
 *   I2  Until qmp_capabilities nothing else is done, and no event is told.                                [execute]
 *   I3  A command finds its arguments as its row in commands[] has them: those, of that type.            [arguments] */
#define _GNU_SOURCE /* gettid */
#include "src/face/qmp.h"
#include "src/face/hmp.h"
#include "src/face/json.h"
#include "src/face/session_actions.h"
#include "src/error.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX (1u << 20)
#define DEPTH_MAX 64u

struct qmp {
    struct session *session;
    void (*send)(void *arg, const void *bytes, size_t n);
    void *arg;
    bool known; /* the client has negotiated */
    char *text;
    size_t n, room;
    unsigned depth;
    bool quoted, escaped, junk; /* junk: bytes are left out, up to the end of the line */
};

/* ---- out ---- */

/* Takes j. */
static void say(struct qmp *q, json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    if (text) {
        q->send(q->arg, text, strlen(text));
        q->send(q->arg, "\r\n", 2);
    }
    free(text);
    json_decref(j);
}

/* id: the request's, or NULL. */
static void say_error(struct qmp *q, json_t *id, const char *class, const char *text)
{
    json_t *j = json_pack("{s:{s:s, s:o}}", "error", "class", class, "desc", json_text(text, strlen(text)));
    if (j && id) json_object_set(j, "id", id);
    say(q, j);
}

static json_t *version(void)
{
    unsigned major = 0, minor = 0, micro = 0;
    (void)sscanf(vm_version(), "%u.%u.%u", &major, &minor, &micro);
    return json_pack("{s:{s:i, s:i, s:i}, s:s+}", "qemu", "major", (int)major, "minor", (int)minor, "micro", (int)micro,
                     "package", "transvisor ", vm_version());
}

static json_t *timestamp(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return json_pack("{s:I, s:i}", "seconds", (json_int_t)t.tv_sec, "microseconds", (int)(t.tv_nsec / 1000));
}

void qmp_event(struct qmp *q, enum qmp_event event, bool guest, const char *reason)
{
    static const char *const names[] = { [QMP_STOP] = "STOP",
                                         [QMP_RESUME] = "RESUME",
                                         [QMP_RESET] = "RESET",
                                         [QMP_SHUTDOWN] = "SHUTDOWN",
                                         [QMP_POWERDOWN] = "POWERDOWN" };
    if (!q->known) return;
    json_t *j = json_pack("{s:s, s:o}", "event", names[event], "timestamp", timestamp());
    if (j && reason) json_object_set_new(j, "data", json_pack("{s:b, s:s}", "guest", guest, "reason", reason));
    say(q, j);
}

void qmp_disk_failed(struct qmp *q, const struct session_failure *f)
{
    char name[24];
    struct vm_drive d;
    if (!q->known || !action_drive_name(q->session->vm, f->drive, name, &d)) return;
    bool shortage = f->err == ENOSPC || f->err == EDQUOT || f->err == EFBIG;
    say(q, json_pack("{s:s, s:o, s:{s:s, s:s, s:s, s:b, s:s}}", "event", "BLOCK_IO_ERROR", "timestamp", timestamp(),
                     "data", "device", name, "operation", f->write ? "write" : "read", "action",
                     f->stops ? "stop" : "report", "nospace", (int)shortage, "reason", strerror(f->err)));
}

/* ---- commands: what each does; NULL: err says why it could not ---- */

#define ARGS struct qmp *q UNUSED, json_t *args UNUSED, struct vm_error *err UNUSED
static struct vm *vm_of(const struct qmp *q) { return q->session->vm; }
static json_t *done(int rc) { return rc ? NULL : json_object(); }
static const char *text_of(const json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

static json_t *do_capabilities(ARGS)
{
    q->known = true;
    return json_object();
}
static json_t *do_version(ARGS) { return version(); }
static json_t *do_name(ARGS) { return json_object(); }
static json_t *do_kvm(ARGS) { return json_pack("{s:b, s:b}", "enabled", 0, "present", 0); }
static json_t *do_target(ARGS) { return json_pack("{s:s}", "arch", "i386"); }

static json_t *do_status(ARGS)
{
    const struct session *s = q->session;
    return json_pack("{s:b, s:b, s:s}", "running", s->state == SESSION_RUNS, "singlestep", 0, "status",
                     action_status(s));
}

static json_t *do_cpus(ARGS)
{
    return json_pack("[{s:i, s:s, s:i, s:s, s:{}}]", "cpu-index", 0, "qom-path", "/machine/cpu[0]", "thread-id",
                     (int)gettid(), "target", "i386", "props");
}

static json_t *file_name(const struct vm_drive *d) { return json_text(d->disk.file, strlen(d->disk.file)); }

static json_t *drive(const char *name, const struct vm_drive *d)
{
    static const char *const formats[] = {
        [VM_FORMAT_PROBE] = "raw", [VM_FORMAT_RAW] = "raw", [VM_FORMAT_QCOW2] = "qcow2"
    };
    bool empty = !d->disk.file || !*d->disk.file;
    json_t *j = json_pack("{s:s, s:s, s:b, s:b, s:s}", "device", name, "qdev", name, "locked", d->locked, "removable",
                          d->removable, "type", "unknown");
    if (j && d->removable) json_object_set_new(j, "tray_open", json_boolean(d->tray_open));
    if (j && !empty)
        json_object_set_new(j, "inserted",
                            json_pack("{s:o, s:b, s:s, s:b, s:{s:o, s:s}}", "file", file_name(d), "ro",
                                      d->disk.readonly || d->disk.cdrom, "drv", formats[d->disk.format], "encrypted", 0,
                                      "image", "filename", file_name(d), "format", formats[d->disk.format]));
    return j;
}
static json_t *do_block(ARGS)
{
    char name[24];
    struct vm_drive d;
    json_t *list = json_array();
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (action_drive_name(vm_of(q), i, name, &d)) json_array_append_new(list, drive(name, &d));
    return list;
}

static json_t *do_stop(ARGS)
{
    session_stop(q->session);
    return json_object();
}
static json_t *do_cont(ARGS)
{
    session_go(q->session);
    return json_object();
}
static json_t *do_quit(ARGS)
{
    session_quit(q->session);
    return json_object();
}
static json_t *do_reset(ARGS) { return done(action_reset(q->session, err)); }
static json_t *do_powerdown(ARGS)
{
    int rc = vm_power_button(vm_of(q));
    if (rc) return vm_fail(err, rc, "out of memory"), NULL;
    qmp_event(q, QMP_POWERDOWN, false, NULL);
    return json_object();
}

static json_t *do_screendump(ARGS) { return done(vm_screenshot(vm_of(q), text_of(args, "filename"), err)); }
static json_t *do_save(ARGS) { return done(vm_save_file(vm_of(q), text_of(args, "filename"), err)); }

static json_t *memory_to_file(struct qmp *q, bool physical, json_t *args, struct vm_error *err)
{
    json_int_t at = json_integer_value(json_object_get(args, "val")),
               n = json_integer_value(json_object_get(args, "size"));
    if (at < 0 || n < 0) return vm_fail(err, -EINVAL, "an address or a size is negative"), NULL;
    return done(action_memory(vm_of(q), physical, (u64)at, (u64)n, text_of(args, "filename"), err));
}
static json_t *do_memsave(ARGS) { return memory_to_file(q, false, args, err); }
static json_t *do_pmemsave(ARGS) { return memory_to_file(q, true, args, err); }

static json_t *do_human(ARGS)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out) return vm_fail(err, -ENOMEM, "out of memory"), NULL;
    hmp_line(q->session, text_of(args, "command-line"), out);
    json_t *j = fclose(out) ? NULL : json_text(text, n);
    free(text);
    return j ? j : (vm_fail(err, -ENOMEM, "out of memory"), NULL);
}

/* ---- keys and mouse ---- */

/* A KeyValue: of type qcode; numbers are scan codes of set 1, which nobody needs who has names. */
static const char *key_name(const json_t *key)
{
    const char *type = text_of(key, "type"), *name = text_of(key, "data");
    return type && !strcmp(type, "qcode") ? name : NULL;
}

static json_t *do_send_key(ARGS)
{
    char text[256] = "<";
    size_t i, n = 1;
    json_t *key;
    json_array_foreach(json_object_get(args, "keys"), i, key)
    {
        const char *name = key_name(key);
        if (!name) return vm_fail(err, -EINVAL, "Parameter 'keys' has what is no key of type 'qcode'"), NULL;
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", i ? "-" : "", name);
        if (n >= sizeof text - 1) return vm_fail(err, -EINVAL, "too many keys"), NULL;
    }
    text[n++] = '>';
    text[n] = 0;
    return n == 2 ? json_object() : done(vm_type(vm_of(q), text, err));
}

static int button_of(const char *name)
{
    return !name ? 0 : !strcmp(name, "left") ? 1 : !strcmp(name, "right") ? 2 : !strcmp(name, "middle") ? 4 : 0;
}

/* An InputEvent. The mouse's buttons and way are gathered in *m. 0 or -EINVAL. */
struct mouse {
    int dx, dy, wheel;
    unsigned x, y, buttons; /* x, y: where it is, if placed */
    bool any, placed;
};
static int input_event(struct qmp *q, const json_t *e, struct mouse *m, bool only_check)
{
    const char *type = text_of(e, "type"), *name;
    const json_t *data = json_object_get(e, "data");
    bool down = json_is_true(json_object_get(data, "down"));
    if (!type || !json_is_object(data)) return -EINVAL;
    if (!strcmp(type, "key")) {
        name = key_name(json_object_get(data, "key"));
        if (!name || !json_is_boolean(json_object_get(data, "down"))) return -EINVAL;
        char chord[64];
        snprintf(chord, sizeof chord, "<%.60s>", name);
        return only_check ? vm_type_check(chord, NULL) : vm_key(vm_of(q), name, down);
    }
    if (!strcmp(type, "btn")) {
        name = text_of(data, "button");
        if (name && !strncmp(name, "wheel-", 6)) {
            if (down) m->wheel += !strcmp(name, "wheel-up") ? 1 : !strcmp(name, "wheel-down") ? -1 : 0;
        } else {
            unsigned bit = (unsigned)button_of(name);
            if (!bit) return -EINVAL;
            m->buttons = down ? m->buttons | bit : m->buttons & ~bit;
        }
        m->any = true;
        return 0;
    }
    const bool placed = !strcmp(type, "abs");
    if (!placed && strcmp(type, "rel")) return -EINVAL;
    name = text_of(data, "axis");
    const json_t *value = json_object_get(data, "value");
    json_int_t v = json_integer_value(value);
    if (!name || !json_is_integer(value) || v < (placed ? 0 : -32768) || v > 32767) return -EINVAL;
    if (placed && !strcmp(name, "x")) m->x = (unsigned)v;
    else if (placed && !strcmp(name, "y")) m->y = (unsigned)v;
    else if (placed) return -EINVAL;
    else if (!strcmp(name, "x")) m->dx += (int)v;
    else if (!strcmp(name, "y")) m->dy -= (int)v; /* QMP's y goes down */
    else return -EINVAL;
    m->any = true;
    m->placed |= placed;
    return 0;
}

/* All of them, or none. */
static json_t *do_input(ARGS)
{
    json_t *e;
    size_t i;
    for (int only_check = 1; only_check >= 0; only_check--) {
        struct mouse m = { .x = q->session->x, .y = q->session->y, .buttons = q->session->buttons };
        json_array_foreach(json_object_get(args, "events"), i, e)
        {
            if (input_event(q, e, &m, only_check)) {
                vm_fail(err, -EINVAL,
                        "Parameter 'events' has at %zu what is no key, btn, rel or abs event of this machine", i);
                return NULL;
            }
        }
        if (only_check || !m.any) continue;
        q->session->buttons = m.buttons;
        q->session->x = m.x;
        q->session->y = m.y;
        /* Who has said where the pointer is clicks there. */
        q->session->placed = m.placed || (q->session->placed && !m.dx && !m.dy);
        if (q->session->placed) vm_pointer_at(vm_of(q), m.x, m.y, m.wheel, m.buttons);
        else vm_pointer(vm_of(q), m.dx, m.dy, m.wheel, m.buttons);
    }
    return json_object();
}

/* ---- media ---- */

/* The drive that "device" or "id" names. -1: err says why. */
static int drive_of(struct qmp *q, const json_t *args, struct vm_error *err)
{
    const char *name = text_of(args, "id") ? text_of(args, "id") : text_of(args, "device");
    int i = name ? action_drive(vm_of(q), name) : -1;
    if (!name) vm_fail(err, -EINVAL, "Parameter 'device' is missing");
    else if (i < 0) vm_fail(err, -ENODEV, "Device '%.100s' not found", name);
    return i;
}

static json_t *do_eject(ARGS)
{
    int i = drive_of(q, args, err);
    if (i < 0) return NULL;
    return done(vm_change_medium(vm_of(q), (unsigned)i, NULL, json_is_true(json_object_get(args, "force")), err));
}

static json_t *do_change(ARGS)
{
    const char *format = text_of(args, "format"), *mode = text_of(args, "read-only-mode");
    struct vm_drive now;
    int i = drive_of(q, args, err);
    if (i < 0 || vm_get_drive(vm_of(q), (unsigned)i, &now)) return NULL;
    struct vm_disk disk = now.disk;
    disk.file = text_of(args, "filename");
    disk.format = VM_FORMAT_PROBE;
    if (format && !strcmp(format, "raw")) disk.format = VM_FORMAT_RAW;
    else if (format && !strcmp(format, "qcow2")) disk.format = VM_FORMAT_QCOW2;
    else if (format) return vm_fail(err, -EINVAL, "Unknown driver '%.100s'", format), NULL;
    if (mode && strcmp(mode, "retain")) disk.readonly = !strcmp(mode, "read-only");
    return done(vm_change_medium(vm_of(q), (unsigned)i, &disk, json_is_true(json_object_get(args, "force")), err));
}

/* ---- the balloon ---- */

static bool balloon_failed(int rc, struct vm_error *err)
{
    if (rc == -ENODEV) vm_fail(err, rc, "No balloon device has been activated");
    else if (rc) vm_fail(err, rc, "Parameter 'value' expects a positive size");
    return rc;
}
static json_t *do_balloon(ARGS)
{
    json_int_t bytes = json_integer_value(json_object_get(args, "value"));
    int rc = bytes > 0 ? vm_balloon(vm_of(q), (u64)bytes) : -EINVAL;
    return done(balloon_failed(rc, err));
}
/* As QEMU's property of that name of its device. */
static json_t *guest_stats(const struct vm_balloon_stats *s)
{
    json_t *stats = json_object();
    for (unsigned i = 0; i < VM_BALLOON_STATS; i++)
        if (s->said >> i & 1) json_object_set_new(stats, action_balloon_stat(i), json_integer((json_int_t)s->value[i]));
    const json_int_t at = (json_int_t)time(NULL) - (json_int_t)(s->age_ns / 1000000000);
    return json_pack("{s:I,s:o}", "last-update", at, "stats", stats);
}
static json_t *do_query_balloon(ARGS)
{
    u64 bytes;
    struct vm_balloon_stats s;
    if (balloon_failed(vm_get_balloon(vm_of(q), &bytes), err)) return NULL;
    json_t *answer = json_pack("{s:I}", "actual", (json_int_t)bytes);
    if (!vm_get_balloon_stats(vm_of(q), &s) && s.said) json_object_set_new(answer, "guest-stats", guest_stats(&s));
    return answer;
}

/* ---- the table ---- */

static json_t *do_commands(ARGS);

/* Arguments: NAME:TYPE, blank-separated; a ? before a name: it may be missing. Types: string, integer, boolean, array.
 */
static const struct command {
    const char *name, *args;
    json_t *(*run)(struct qmp *q, json_t *args, struct vm_error *err);
} commands[] = {
    /* clang-format off */
    { "qmp_capabilities", "?enable:a", do_capabilities },
    { "query-version", "", do_version }, { "query-commands", "", do_commands }, { "query-status", "", do_status },
    { "query-name", "", do_name }, { "query-kvm", "", do_kvm }, { "query-target", "", do_target },
    { "query-cpus-fast", "", do_cpus }, { "query-block", "", do_block },
    { "stop", "", do_stop }, { "cont", "", do_cont }, { "quit", "", do_quit },
    { "system_reset", "", do_reset }, { "system_powerdown", "", do_powerdown },
    { "screendump", "filename:s ?device:s ?head:i ?format:s", do_screendump },
    { "memsave", "val:i size:i filename:s ?cpu-index:i", do_memsave },
    { "pmemsave", "val:i size:i filename:s", do_pmemsave },
    { "send-key", "keys:a ?hold-time:i", do_send_key },
    { "input-send-event", "events:a ?device:s ?head:i", do_input },
    { "eject", "?device:s ?id:s ?force:b", do_eject },
    { "blockdev-change-medium", "?device:s ?id:s filename:s ?format:s ?force:b ?read-only-mode:s", do_change },
    { "balloon", "value:i", do_balloon }, { "query-balloon", "", do_query_balloon },
    { "human-monitor-command", "command-line:s ?cpu-index:i", do_human },
    { "__org.transvisor_save", "filename:s", do_save },
    /* clang-format on */
};

static json_t *do_commands(ARGS)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        json_array_append_new(list, json_pack("{s:s}", "name", commands[i].name));
    return list;
}

static bool is_of(const json_t *v, char type)
{
    switch (type) {
    case 's': return json_is_string(v);
    case 'i': return json_is_integer(v);
    case 'b': return json_is_boolean(v);
    default: return json_is_array(v);
    }
}

static const char *type_name(char type)
{
    return type == 's' ? "string" : type == 'i' ? "integer" : type == 'b' ? "boolean" : "array";
}

/* Whether the arguments are the command's. */
static bool arguments(const struct command *c, json_t *args, struct vm_error *err)
{
    size_t known = 0;
    for (const char *p = c->args; *p;) {
        char name[40];
        bool optional = *p == '?';
        p += optional;
        size_t n = strcspn(p, ":");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        char type = p[n + 1];
        p += n + 2;
        p += *p == ' ';
        const json_t *v = json_object_get(args, name);
        known += v != NULL;
        if (!v && !optional) return !vm_fail(err, 1, "Parameter '%s' is missing", name);
        if (v && !is_of(v, type))
            return !vm_fail(err, 1, "Invalid parameter type for '%s', expected: %s", name, type_name(type));
    }
    if (known == json_object_size(args)) return true;
    const char *key;
    json_t *v;
    json_object_foreach(args, key, v)
    {
        char named[128];
        snprintf(named, sizeof named, "%s:", key);
        const char *at = strstr(c->args, named);
        if (!at || (at > c->args && at[-1] != ' ' && at[-1] != '?'))
            return !vm_fail(err, 1, "Parameter '%.100s' is unexpected", key);
    }
    return true;
}

static void execute(struct qmp *q, json_t *request)
{
    json_t *id = json_object_get(request, "id"), *args = json_object_get(request, "arguments");
    const char *name = text_of(request, "execute");
    const struct command *c = NULL;
    struct vm_error err = { "" };
    if (!name) {
        say_error(q, id, "GenericError", "QMP input lacks member 'execute'");
        return;
    }
    if (args && !json_is_object(args)) {
        say_error(q, id, "GenericError", "QMP input member 'arguments' must be an object");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (!strcmp(commands[i].name, name)) c = &commands[i];
    bool first = c && c->run == do_capabilities;
    if (!c) vm_fail(&err, 0, "The command %.100s has not been found", name);
    else if (!q->known && !first) vm_fail(&err, 0, "Expecting capabilities negotiation with 'qmp_capabilities'");
    else if (q->known && first) vm_fail(&err, 0, "Capabilities negotiation is already complete, command ignored");
    if (*err.text) {
        say_error(q, id, "CommandNotFound", err.text);
        return;
    }
    json_t *result = arguments(c, args, &err) ? c->run(q, args, &err) : NULL;
    if (!result) {
        say_error(q, id, "GenericError", err.text);
        return;
    }
    json_t *answer = json_pack("{s:o}", "return", result);
    if (answer && id) json_object_set(answer, "id", id);
    say(q, answer);
}

/* ---- bytes ---- */

static void object_done(struct qmp *q)
{
    json_error_t why;
    json_t *request = json_loadb(q->text, q->n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (request) execute(q, request);
    else {
        char text[300];
        snprintf(text, sizeof text, "JSON parse error, %.200s", why.text);
        say_error(q, NULL, "GenericError", text);
    }
    json_decref(request);
}

static void junk_begins(struct qmp *q, const char *why)
{
    q->n = 0;
    q->depth = 0;
    q->quoted = q->escaped = false;
    q->junk = true;
    say_error(q, NULL, "GenericError", why);
}

static bool keep(struct qmp *q, u8 c)
{
    if (q->n == q->room) {
        size_t room = q->room ? 2 * q->room : 1024;
        char *more = room <= TEXT_MAX ? realloc(q->text, room) : NULL;
        if (!more) return false;
        q->text = more;
        q->room = room;
    }
    q->text[q->n++] = (char)c;
    return true;
}

static void byte(struct qmp *q, u8 c)
{
    bool space = c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (q->junk) {
        q->junk = c != '\n';
        return;
    }
    if (!q->depth && space) return;
    if (!q->depth && c != '{') {
        junk_begins(q, "JSON parse error, expecting an object");
        return;
    }
    if (!keep(q, c)) {
        junk_begins(q, "JSON token size limit exceeded");
        return;
    }
    if (q->quoted) {
        if (q->escaped) q->escaped = false;
        else if (c == '\\') q->escaped = true;
        else if (c == '"') q->quoted = false;
        return;
    }
    if (c == '"') q->quoted = true;
    else if (c == '{' || c == '[') q->depth++;
    else if (c == '}' || c == ']') q->depth--;
    if (q->depth > DEPTH_MAX) junk_begins(q, "JSON nesting depth limit exceeded");
    else if (!q->depth) {
        object_done(q);
        q->n = 0;
    }
}

void qmp_input(struct qmp *q, const u8 *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) byte(q, bytes[i]);
}

/* ---- life ---- */

struct qmp *qmp_new(struct session *s, void (*send)(void *arg, const void *bytes, size_t n), void *arg)
{
    struct qmp *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    q->session = s;
    q->send = send;
    q->arg = arg;
    say(q, json_pack("{s:{s:o, s:[]}}", "QMP", "version", version(), "capabilities"));
    return q;
}

void qmp_free(struct qmp *q)
{
    if (!q) return;
    free(q->text);
    free(q);
}
