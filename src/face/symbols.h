/* A guest's symbols: names of its addresses, from a file. */
#ifndef SRC_FACE_SYMBOLS_H
#define SRC_FACE_SYMBOLS_H
#include "core/types.h"
#include "transvisor/vm.h"

struct symbols;

/* FILE[,slide=NUMBER|auto]: a System.map, what /proc/kallsyms has, or an ELF file with a symbol table. slide is added
 * to all addresses, as by a kernel that has chosen another place at boot; auto: see below. 0 or -errno, with *err. */
MUST_CHECK int symbols_open(struct symbols **out, const char *spec, struct vm_error *err);
void symbols_close(struct symbols *s); /* NULL is fine, here and below: there are none then */
/* Whether it is known what is added to the file's addresses. Until then there are no names. */
bool symbols_settled(const struct symbols *s);
#define SYMBOLS_HANDLERS_MAX 32
/* slide=auto: finds it from the offsets in the gates of the guest's IDT, of vectors 0 to n - 1 (2 to
 * SYMBOLS_HANDLERS_MAX), 0 where there is none: at one distance, a multiple of a page, the file has a function for
 * each. False: not there, or not yet. */
bool symbols_settle(struct symbols *s, const u32 *handler, size_t n);
/* The address of a name, or of NAME+NUMBER. */
bool symbols_find(const struct symbols *s, const char *name, u32 *address);
/* The function that address is in, going by where the next one begins, and how far; NULL: it is in none. */
const char *symbols_at(const struct symbols *s, u32 address, u32 *offset);
/* The same as text: NAME+0xOFFSET, or "" */
const char *symbols_text(const struct symbols *s, u32 address, char *text, size_t room);
/* A list of words with a comma between them, with addresses in place of names in at=FROM[-TO]. 0 or -EINVAL. */
MUST_CHECK int symbols_words(const struct symbols *s, const char *words, char *out, size_t room, struct vm_error *err);

#endif
