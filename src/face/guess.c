/* Owns what is looked at in an image to tell what is on it. Nothing in it is trusted: it is copied, and cut.
 * Enter at guess_preset(). */
#include "src/face/guess.h"
#include "core/types.h"

#include <ctype.h>
#include <string.h>

#define SECTOR 512u
#define BOOT_SECTORS 16u /* NTFS's boot code is so long */
#define ISO_VOLUME 0x8000u
#define PARTITIONS_AT 446u

enum place { VOLUME, SYSTEM, PUBLISHER, BOOT, KERNEL };
static const struct {
    enum place place;
    const char *text, *preset;
} rows[] = {
#define GUESS(place, text, preset) { place, text, preset },
#include "src/face/guess.def"
#undef GUESS
};
static const struct {
    u8 type;
    const char *what, *preset;
} partitions[] = {
#define PARTITION(type, what, preset) { type, what, preset },
#include "src/face/partitions.def"
#undef PARTITION
};

/* ---- texts ---- */

static bool same(u8 a, char b, bool any_case) { return any_case ? toupper(a) == toupper((u8)b) : a == (u8)b; }

static bool holds(const u8 *bytes, size_t n, const char *text, bool any_case)
{
    size_t len = strlen(text);
    for (size_t i = 0; i + len <= n; i++) {
        size_t k = 0;
        while (k < len && same(bytes[i + k], text[k], any_case)) k++;
        if (k == len) return true;
    }
    return false;
}

/* What can be shown of them, without the blanks at their end. */
static const char *shown(const u8 *bytes, size_t n, char *text, size_t room)
{
    size_t i = 0;
    for (; i < n && i + 1 < room && bytes[i]; i++) text[i] = bytes[i] >= ' ' && bytes[i] < 0x7f ? (char)bytes[i] : '?';
    while (i && text[i - 1] == ' ') i--;
    text[i] = 0;
    return text;
}

/* The first row for that place whose text is in bytes; NULL: none. whole: they are what is shown as the reason. */
static bool look(enum place place, const u8 *bytes, size_t n, const char *what, bool whole, struct guess *out)
{
    char text[64];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].place != place || !holds(bytes, n, rows[i].text, place < BOOT)) continue;
        out->preset = rows[i].preset;
        if (whole) shown(bytes, n, text, sizeof text);
        else snprintf(text, sizeof text, "%s", rows[i].text);
        snprintf(out->why, sizeof out->why, "%s \"%s\"", what, text);
        return true;
    }
    return false;
}

/* ---- what there is to look at ---- */

static bool look_at_iso(const u8 *v, struct guess *out)
{
    static const struct {
        enum place place;
        u16 at, n;
        const char *what;
    } fields[] = {
        { VOLUME, 40, 32, "the CD is called" },
        { PUBLISHER, 318, 128, "the CD was published by" },
        { PUBLISHER, 446, 128, "the CD was made by" },
        { PUBLISHER, 574, 128, "the CD is for" },
        { SYSTEM, 8, 32, "the CD is for" },
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (look(fields[i].place, v + fields[i].at, fields[i].n, fields[i].what, true, out)) return true;
    return false;
}

/* The version is a text at the offset that the header has at 20Eh, from 200h on. */
static bool look_at_linux(const u8 *head, size_t n, struct guess *out)
{
    size_t at = 0x200 + (head[0x20e] | head[0x20f] << 8);
    const u8 *text = at + 64 <= n ? head + at : (const u8 *)"";
    char name[64];
    enum { START = 4 };
    shown(text, at + 64 <= n ? 63 : 0, name, sizeof name);
    name[strcspn(name, " ")] = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].place != KERNEL || strncmp(name, rows[i].text, strlen(rows[i].text))) continue;
        out->preset = rows[i].preset;
        snprintf(out->why, sizeof out->why, "it is a Linux kernel%s%s", *name ? ", " : "", name);
        return true;
    }
    return false;
}

static u32 word(const u8 *p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }

/* The partition that is booted, or else the first; its boot sector first, then its type. */
static bool look_at_partitions(const char *file, const u8 *mbr, struct guess *out, struct vm_error *err)
{
    const u8 *found = NULL;
    u8 boot[BOOT_SECTORS * SECTOR];
    for (unsigned i = 0; i < 4; i++) {
        const u8 *p = mbr + PARTITIONS_AT + 16 * i;
        if (p[0] & 0x7f) return false; /* no table: code stands there */
        if (p[4] && (!found || (p[0] && !found[0]))) found = p;
    }
    if (!found) return false;
    if (vm_image_read(file, VM_FORMAT_PROBE, (u64)word(found + 8) * SECTOR, boot, sizeof boot, err)) return false;
    if (look(BOOT, boot, sizeof boot, "the boot sector of its partition says", false, out)) return true;
    for (size_t i = 0; i < ARRAY_LEN(partitions); i++) {
        if (partitions[i].type != found[4]) continue;
        out->preset = partitions[i].preset;
        snprintf(out->why, sizeof out->why, "its partition is of type %02xh (%s)", found[4], partitions[i].what);
        return true;
    }
    return false;
}

static bool look_at_disk(const char *file, const u8 *head, struct guess *out, struct vm_error *err)
{
    static const u8 linux_data[16] = { 0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
                                       0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4 };
    bool signed_ = head[510] == 0x55 && head[511] == 0xaa;
    if (!memcmp(head + SECTOR, "EFI PART", 8)) {
        for (unsigned i = 0; i < 16; i++)
            if (!memcmp(head + 2 * SECTOR + 128 * i, linux_data, sizeof linux_data)) {
                out->preset = "linux";
                snprintf(out->why, sizeof out->why, "it has a GPT partition for Linux");
                return true;
            }
    } else if (signed_ && look_at_partitions(file, head, out, err)) {
        return true;
    }
    if (signed_ && look(BOOT, head, BOOT_SECTORS * SECTOR, "its boot sector says", false, out)) return true;
    if (word(head + SECTOR) == 0x82564557) {
        out->preset = "bsd";
        snprintf(out->why, sizeof out->why, "it has a BSD disk label");
        return true;
    }
    if (head[0x438] == 0x53 && head[0x439] == 0xef) {
        out->preset = "linux";
        snprintf(out->why, sizeof out->why, "it has an ext file system");
        return true;
    }
    return false;
}

int guess_preset(const char *file, struct guess *out, struct vm_error *err)
{
    u8 head[36 << 10];
    struct vm_error ignored;
    int rc = vm_image_read(file, VM_FORMAT_PROBE, 0, head, sizeof head, err);
    if (rc) return rc;
    *out = (struct guess){ .preset = "generic", .why = "nothing in it tells" };
    if (!memcmp(head + 0x202, "HdrS", 4)) look_at_linux(head, sizeof head, out);
    else if (!memcmp(head + ISO_VOLUME + 1, "CD001", 5)) look_at_iso(head + ISO_VOLUME, out);
    else if (!memcmp(head, "\177ELF", 4) && head[7] == 9)
        *out = (struct guess){ .preset = "bsd", .why = "it is an ELF file of FreeBSD's" };
    else look_at_disk(file, head, out, &ignored);
    return 0;
}
