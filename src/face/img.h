/* `transvisor img`: what is done to disk images as files. The words are those of qemu-img. */
#ifndef SRC_IMG_H
#define SRC_IMG_H
#include "src/face/verbs.h"

struct img_args {
    const char *file, *to;                     /* to: convert's second file */
    int format, output_format, backing_format; /* enum vm_format, less 1; -1: not said */
    struct vm_image how;
    bool json, repair, quiet;
    int json_choice, repair_choice; /* as qemu-img spells them: 1: json; -1: none */
};
void img_args_init(struct img_args *a);
extern const struct opt img_create_options[], img_info_options[], img_convert_options[], img_check_options[],
    img_commit_options[];

/* Does it and prints what came of it. Returns the exit status, or -errno with *err set. */
MUST_CHECK int img_run(enum verb_id id, struct img_args *a, struct vm_error *err);

#endif
