/* Owns what a person at the human monitor sees, beside the line that is edited: greeting, and what comes of commands.
 *   I1  Lines end as terminals want it.                                                                       [say] */
#include "src/face/human.h"
#include "src/face/hmp.h"
#include "src/face/line_edit.h"

#include <stdlib.h>
#include <string.h>

struct human {
    void (*put)(void *arg, const char *bytes, size_t n);
    void *arg;
    struct session *session; /* NULL: nobody has come yet */
    struct line_edit *edit;
    bool files, greeted;
};

static void on_put(void *arg, const char *bytes, size_t n)
{
    const struct human *h = arg;
    h->put(h->arg, bytes, n);
}

static void say(struct human *h, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        on_put(h, text, n);
        text += n;
        if (!*text) break;
        on_put(h, "\r\n", 2);
        text++;
    }
}

static void on_done(void *arg, const char *line)
{
    struct human *h = arg;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (out) hmp_line(h->session, line, out);
    if (!out || fclose(out)) say(h, "out of memory\n");
    else say(h, text);
    free(text);
}

static void on_word(void *arg, const char *word) { line_words_add(arg, word); }

static void on_complete(void *arg, const char *before, struct line_words *words)
{
    const struct human *h = arg;
    hmp_complete(h->session, before, on_word, words);
}

void human_columns(struct human *h, unsigned columns) { line_edit_columns(h->edit, columns); }

void human_begins(struct human *h, struct session *s)
{
    h->session = s;
    say(h, "\n");
    if (!h->greeted) {
        say(h, "The machine's monitor: `help` lists its commands, Ctrl-A c goes back.\n");
        if (!h->files)
            say(h, "In its jail it opens the files of --save and --screenshot alone; --monitor or --no-jail: any.\n");
    }
    h->greeted = true;
    line_edit_show(h->edit);
}

void human_input(struct human *h, const u8 *bytes, size_t n) { line_edit_input(h->edit, bytes, n); }

struct human *human_new(bool files, void (*put)(void *arg, const char *bytes, size_t n), void *arg)
{
    struct human *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    const struct line_edit_host host = { .put = on_put, .done = on_done, .complete = on_complete, .arg = h };
    *h = (struct human){ .put = put, .arg = arg, .files = files, .edit = line_edit_new("(transvisor) ", &host) };
    if (h->edit) return h;
    free(h);
    return NULL;
}

void human_free(struct human *h)
{
    if (!h) return;
    line_edit_free(h->edit);
    free(h);
}
