/* A guest's symbols: names of its addresses, from a file. */
#ifndef SRC_FACE_SYMBOLS_H
#define SRC_FACE_SYMBOLS_H
#include "core/types.h"
#include "transvisor/vm.h"

struct symbols;

/* FILE[,slide=NUMBER]: a System.map, what /proc/kallsyms has, or an ELF file with a symbol table. slide is added to all
 * addresses, as by a kernel that has chosen another place at boot. 0 or -errno, with *err. */
MUST_CHECK int symbols_open(struct symbols **out, const char *spec, struct vm_error *err);
void symbols_close(struct symbols *s); /* NULL is fine, here and below: there are none then */
/* The address of a name, or of NAME+NUMBER. */
bool symbols_find(const struct symbols *s, const char *name, u32 *address);
/* The function that address is in, going by where the next one begins, and how far; NULL: it is in none. */
const char *symbols_at(const struct symbols *s, u32 address, u32 *offset);
/* The same as text: NAME+0xOFFSET, or "" */
const char *symbols_text(const struct symbols *s, u32 address, char *text, size_t room);
/* A list of words with a comma between them, with addresses in place of names in at=FROM[-TO]. 0 or -EINVAL. */
MUST_CHECK int symbols_words(const struct symbols *s, const char *words, char *out, size_t room, struct vm_error *err);

#endif
