/* Owns what a user gives firmware beside the machine: option ROMs, and what SMBIOS tables say. Both are files of fw_cfg
 * that SeaBIOS looks for: genroms/NAME; smbios/fieldTYPE-OFFSET, which goes over a field of a table of its own
 * (SeaBIOS, docs/Runtime_config; DMTF DSP0134, types 0 and 1). Enter at firmware_option_rom(), firmware_smbios(). */
#include "src/board/firmware.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

#define TEXT_MAX 64u
#define UUID_LEN 16u

int firmware_option_rom(struct fw_cfg *f, const char *path, const struct wait_end *end, struct vm_error *err)
{
    struct firmware rom;
    char name[FW_CFG_NAME];
    const char *slash = strrchr(path, '/');
    int rc = firmware_open_option(&rom, path, end, err);
    if (rc) return rc;
    snprintf(name, sizeof name, "genroms/%s", slash ? slash + 1 : path);
    rc = fw_cfg_file(f, name, rom.data, rom.len);
    firmware_close(&rom);
    return rc ? vm_fail(err, rc, "option_rom %s: %s", path, strerror(-rc)) : 0;
}

/* ---- SMBIOS ---- */

/* QEMU's words, and where the field is in the table. */
static const struct field {
    const char *key;
    u8 type, at;
} fields[] = {
    { "vendor", 0, 4 },  { "version", 0, 5 }, { "date", 0, 8 }, { "manufacturer", 1, 4 }, { "product", 1, 5 },
    { "version", 1, 6 }, { "serial", 1, 7 },  { "uuid", 1, 8 }, { "sku", 1, 25 },         { "family", 1, 26 },
};

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The first three groups have their low byte first (DSP0134, 7.2.1). */
static bool uuid_parse(const char *s, u8 out[UUID_LEN])
{
    static const u8 place[UUID_LEN] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    for (unsigned i = 0; i < UUID_LEN; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *s++ != '-') return false;
        int high = hex(s[0]), low = high < 0 ? -1 : hex(s[1]);
        if (low < 0) return false;
        out[place[i]] = (u8)(high << 4 | low);
        s += 2;
    }
    return !*s;
}

/* One KEY=VALUE of a table. */
static int field_tell(struct fw_cfg *f, unsigned type, const char *word, struct vm_error *err)
{
    const char *value = strchr(word, '=');
    const struct field *field = NULL;
    char name[FW_CFG_NAME];
    u8 uuid[UUID_LEN];
    for (size_t i = 0; value && i < ARRAY_LEN(fields); i++)
        if (fields[i].type == type && strlen(fields[i].key) == (size_t)(value - word)
            && !memcmp(fields[i].key, word, (size_t)(value - word)))
            field = &fields[i];
    if (!field)
        return vm_fail(err, -EINVAL, "smbios: type %u has no '%.40s'; it has %s", type, word,
                       type ? "manufacturer, product, version, serial, uuid, sku, family" : "vendor, version, date");
    value++;
    bool is_uuid = !strcmp(field->key, "uuid");
    if (is_uuid && !uuid_parse(value, uuid))
        return vm_fail(err, -EINVAL, "smbios: '%.60s' is no UUID, as 01234567-89ab-cdef-0123-456789abcdef", value);
    if (!*value || strlen(value) > TEXT_MAX)
        return vm_fail(err, -EINVAL, "smbios: %s has 1 to %u characters", field->key, TEXT_MAX);
    snprintf(name, sizeof name, "smbios/field%u-%u", type, field->at);
    int rc = is_uuid ? fw_cfg_file(f, name, uuid, sizeof uuid) : fw_cfg_file(f, name, value, (u32)strlen(value) + 1);
    return rc ? vm_fail(err, rc, "smbios: %s", strerror(-rc)) : 0;
}

int firmware_smbios(struct fw_cfg *f, const char *spec, struct vm_error *err)
{
    char *words = strdup(spec), *next = words;
    int rc = words ? 0 : vm_fail(err, -ENOMEM, "smbios: out of memory");
    unsigned type = 2;
    while (!rc && next) {
        char *word = next, *comma = strchr(word, ',');
        if (comma) *comma = 0;
        next = comma ? comma + 1 : NULL;
        if (!strncmp(word, "type=", 5) && (!strcmp(word + 5, "0") || !strcmp(word + 5, "1"))) type = word[5] == '1';
        else if (type > 1) rc = vm_fail(err, -EINVAL, "smbios: '%.60s': begins with type=0 or type=1", spec);
        else rc = field_tell(f, type, word, err);
    }
    free(words);
    return rc;
}
