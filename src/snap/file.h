/* The file a machine is saved in: named sections, each with a checksum that covers all before it. docs/snapshot.md has
 * the layout. Works on pipes: nothing is ever sought for.
 *
 * Failures come back as -errno; -EINVAL says that the file is not what it should be, and *why says what is wrong. */
#ifndef SRC_SNAP_FILE_H
#define SRC_SNAP_FILE_H
#include "core/types.h"

#define SNAP_FORMAT 1u
#define SNAP_NAME_MAX 31u           /* characters of a section's name */
#define SNAP_SECTION_MAX (4u << 20) /* bytes of a section's contents */

struct snap_writer;
/* Borrows fd and writes the file's head to it. 0 or -errno. */
MUST_CHECK int snap_writer_new(struct snap_writer **out, int fd);
MUST_CHECK int snap_write(struct snap_writer *w, const char *name, const void *data, size_t n);
MUST_CHECK int snap_write_end(struct snap_writer *w); /* without it the file is not whole */
void snap_writer_free(struct snap_writer *w);

struct snap_section {
    char name[SNAP_NAME_MAX + 1];
    const u8 *data; /* the reader's, until the next call */
    size_t len;
};
struct snap_reader;
MUST_CHECK int snap_reader_new(struct snap_reader **out, int fd, const char **why);
/* The next section, once its checksum has been found right. The one named "end" is the last. */
MUST_CHECK int snap_read(struct snap_reader *r, struct snap_section *out, const char **why);
void snap_reader_free(struct snap_reader *r);

/* RAM, as the memory file fd of size bytes, as sections "ram". Pages of zeroes cost nothing, holes not even a look. */
MUST_CHECK int snap_ram_save(struct snap_writer *w, int fd, u64 size);
/* One such section into RAM mapped at ram, which was all zeroes before the first. *next: 0 at first; holds the order.
 */
MUST_CHECK int snap_ram_load(const struct snap_section *s, u8 *ram, u64 size, u64 *next, const char **why);

#endif
