/* Clients of the monitor that lie, or speak nonsense (src/face/qmp.c, hmp.c). Requests are changed at random, cut and
 * joined. Nothing may crash, and what comes back is always JSON, an object a line.
 *
 *   fuzz_qmp [--seed N] [--count N] [--from N] [--seconds N]
 *
 * Built with -DLIBFUZZER by clang -fsanitize=fuzzer it is a libFuzzer target: an input is what a client sends. */
#include "src/face/qmp.h"
#include "tests/fuzz/fuzz_door.h"

#include <jansson.h>

static struct vm *vm;
static struct session session;
static u64 answers;

/* A line without its end. */
static void check(const char *line, size_t n)
{
    json_error_t why;
    json_t *j = json_loadb(line, n, 0, &why);
    answers++;
    if (!json_is_object(j)) {
        fprintf(stderr, "no line of JSON (%s): %.*s\n", why.text, (int)(n < 200 ? n : 200), line);
        abort();
    }
    json_decref(j);
}

/* It may come in pieces. */
static char out[1 << 20];
static size_t nout;
static void send(void *arg UNUSED, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = ((const char *)bytes)[i];
        BUG_ON(nout == sizeof out);
        out[nout++] = c;
        if (c != '\n') continue;
        check(out, nout);
        nout = 0;
    }
}

static struct qmp *client(void)
{
    if (!vm) {
        vm = door_machine();
        session_init(&session, vm, true);
    }
    session.state = SESSION_ASKED;
    session.end = session.quit = false;
    nout = 0;
    struct qmp *q = qmp_new(&session, send, NULL);
    BUG_ON(!q);
    return q;
}

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const u8 *data, size_t n);
int LLVMFuzzerTestOneInput(const u8 *data, size_t n)
{
    struct qmp *q = client();
    qmp_input(q, (const u8 *)"{\"execute\":\"qmp_capabilities\"}\n", 31);
    qmp_input(q, data, n);
    qmp_free(q);
    return 0;
}
#else
#define HUMAN(text) "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"" text "\"}}\n"
static const char *const requests[] = {
    "{\"execute\":\"qmp_capabilities\"}\n",
    "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\n",
    "{\"execute\":\"query-version\",\"id\":7}\n",
    "{\"execute\":\"query-commands\"}\n",
    "{\"execute\":\"query-status\",\"id\":{\"a\":[1,2,null]}}\n",
    "{\"execute\":\"query-block\"}\n",
    "{\"execute\":\"query-cpus-fast\"}\n",
    "{\"execute\":\"stop\"}\n",
    "{\"execute\":\"cont\"}\n",
    "{\"execute\":\"system_reset\"}\n",
    "{\"execute\":\"screendump\",\"arguments\":{\"filename\":\"shot\"}}\n",
    "{\"execute\":\"memsave\",\"arguments\":{\"val\":0,\"size\":16,\"filename\":\"mem\"}}\n",
    "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":-1,\"size\":1e3,\"filename\":\"mem\"}}\n",
    "{\"execute\":\"send-key\",\"arguments\":{\"keys\":[{\"type\":\"qcode\",\"data\":\"ret\"}]}}\n",
    "{\"execute\":\"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"rel\",\"data\":{\"axis\":\"x\",\"value\":"
    "5}},"
    "{\"type\":\"btn\",\"data\":{\"button\":\"left\",\"down\":true}}]}}\n",
    "{\"execute\":\"eject\",\"arguments\":{\"device\":\"ide1-cd0\",\"force\":true}}\n",
    "{\"execute\":\"blockdev-change-medium\",\"arguments\":{\"device\":\"x\",\"filename\":\"none\"}}\n",
    HUMAN("info registers"),
    HUMAN("help"),
    HUMAN("info block"),
    HUMAN("x 0"),
    HUMAN("sendkey ctrl-alt-delete"),
    HUMAN("info mem"),
    HUMAN("change ide1-cd0 none"),
    HUMAN("mouse_move 1 2"),
    HUMAN("screendump a"),
    HUMAN(""),
    "{\"execute\":\"no-such\",\"arguments\":{}}\n",
    "{\"exec\":1}\n",
    "[]\n",
    "{}\n",
    "\"\\ud800\"\n",
    "{\"execute\":\"stop\",\"arguments\":[]}\n",
    "{\"execute\":\"memsave\",\"arguments\":{\"val\":99999999999999999999,\"size\":\"\",\"filename\":null}}\n",
};

static void one(void)
{
    static char text[8192];
    struct qmp *q = client();
    if (rnd(4)) qmp_input(q, (const u8 *)requests[0], strlen(requests[0]));
    for (u64 n = 1 + rnd(12); n > 0; n--) {
        size_t len = nearly(requests, ARRAY_LEN(requests), text, sizeof text), first = rnd(len + 1);
        if (!rnd(40)) { /* a request that never ends */
            memset(text, rnd(2) ? '[' : 'x', sizeof text);
            for (unsigned i = 0; i < 200; i++) qmp_input(q, (const u8 *)text, sizeof text);
        }
        qmp_input(q, (const u8 *)text, first);
        qmp_input(q, (const u8 *)text + first, len - first);
        if (!rnd(5)) qmp_event(q, (enum qmp_event)rnd(5), rnd(2), "guest-reset");
    }
    qmp_free(q);
}

int main(int argc, char **argv)
{
    int status = door_main(argc, argv, one);
    if (vm) {
        vm_free(vm);
        door_clean();
    }
    printf("%llu answers\n", (unsigned long long)answers);
    return status || !answers;
}
#endif
