/* Boots Linux with a shell on its serial port, and has a talk with it.
 *
 *   cc linux.c $(pkg-config --cflags --libs transvisor) -o linux && ./linux VMLINUZ INITRD
 *
 * INITRD's /init starts a shell on ttyS0, as busybox does. */
#include <stdio.h>
#include <string.h>
#include <transvisor/vm.h>

struct talk {
    struct vm *vm;
    char line[256]; /* what the guest has written since the last newline */
    size_t n;
    int asked, answered;
};

static void say(struct talk *t, const char *text) { vm_serial_send(t->vm, text, strlen(text)); }

/* The guest has written something; called in the thread that is in vm_run(). */
static void on_output(void *arg, const uint8_t *bytes, size_t n)
{
    struct talk *t = arg;
    fwrite(bytes, 1, n, stdout);
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n') t->n = 0;
        else if (t->n < sizeof t->line - 1) t->line[t->n++] = (char)bytes[i];
        t->line[t->n] = 0;
        if (!t->asked && strstr(t->line, "# ")) {
            t->asked = 1;
            say(t, "echo $((6 * 7)) is the answer; poweroff\n");
        }
        if (bytes[i] == 'r' && !strcmp(t->line, "42 is the answer")) t->answered = 1;
    }
}

int main(int argc, char **argv)
{
    struct talk talk = { .vm = NULL };
    const struct vm_config cfg = {
        .size = sizeof cfg,
        .kernel = argc > 1 ? argv[1] : "vmlinuz",
        .initrd = argc > 2 ? argv[2] : NULL,
        .cmdline = "console=ttyS0 quiet panic=-1",
        .memory = (uint64_t)128 << 20,
        .no_reboot = true,
        .serial_output = on_output,
        .serial_output_arg = &talk,
    };
    struct vm_error err = { "" };
    if (vm_create(&talk.vm, &cfg, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    enum vm_exit event = vm_run(talk.vm, &err);
    if (event == VM_EXIT_ERROR) fprintf(stderr, "%s\n", err.text);
    if (event == VM_EXIT_DIED) vm_diagnose(talk.vm, stderr);
    vm_free(talk.vm);
    return event == VM_EXIT_POWEROFF && talk.answered ? 0 : 1;
}
