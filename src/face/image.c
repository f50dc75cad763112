/* Owns the table of signatures. Enter at image_probe(). */
#include "src/face/image.h"
#include "transvisor/vm.h"

#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOT_SIGNATURE 0x1fe
#define HEAD (36u << 10) /* an ISO image says what it is after 32 KiB */
#define DISK_MIN (64 << 10)

/* The first that matches counts: a Linux kernel begins with a boot sector, and an ISO image may. */
static const struct {
    u32 at;
    const char *bytes;
    u8 n;
    enum image_kind kind;
    const char *what;
} signatures[] = {
    { 0x202, "HdrS", 4, IMAGE_LINUX, NULL },
    { 0, "\177ELF", 4, IMAGE_ELF, NULL },
    { 0, "QFI\xfb", 4, IMAGE_DISK, "qcow2" },
    { 0, "KDMV", 4, IMAGE_DISK_FORMAT, "VMDK" },
    { 0, "# Disk Descriptor", 17, IMAGE_DISK_FORMAT, "VMDK" },
    { 0x40, "\x7f\x10\xda\xbe", 4, IMAGE_DISK_FORMAT, "VDI" },
    { 0, "conectix", 8, IMAGE_DISK_FORMAT, "VHD" },
    { 0, "vhdxfile", 8, IMAGE_DISK_FORMAT, "VHDX" },
    { 0x8001, "CD001", 5, IMAGE_CDROM, "ISO 9660" },
    { 0x200, "EFI PART", 8, IMAGE_DISK, "GPT" },
    { BOOT_SIGNATURE, "\x55\xaa", 2, IMAGE_DISK, "boot sector" },
    { 0x438, "\x53\xef", 2, IMAGE_DISK, "ext4" },
    { 0, "070701", 6, IMAGE_RAM_DISK, "cpio" },
    { 0, "\x1f\x8b\x08", 3, IMAGE_RAM_DISK, "gzip" },
    { 0,
      "\xfd"
      "7zXZ",
      5, IMAGE_RAM_DISK, "xz" },
    { 0, "\x28\xb5\x2f\xfd", 4, IMAGE_RAM_DISK, "zstd" },
};

static const struct {
    const char *ending;
    enum image_kind kind;
} endings[] = { { ".img", IMAGE_DISK },        { ".iso", IMAGE_CDROM },        { ".raw", IMAGE_DISK },
                { ".qcow2", IMAGE_DISK },      { ".vmdk", IMAGE_DISK_FORMAT }, { ".vdi", IMAGE_DISK_FORMAT },
                { ".vhd", IMAGE_DISK_FORMAT }, { ".vhdx", IMAGE_DISK_FORMAT } };

static enum image_kind by_name(const char *path, const char **what)
{
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < ARRAY_LEN(endings); i++) {
        if (strcasecmp(dot, endings[i].ending)) continue;
        *what = "by its name";
        return endings[i].kind;
    }
    return IMAGE_UNKNOWN;
}

/* The first n bytes at most; 0 if there is nothing to be read. *disk: its size could be a disk's, in whole sectors.
 * *floppy: it is a floppy disk's. */
static size_t read_head(const char *path, u8 *head, size_t n, bool *disk, bool *floppy)
{
    struct stat st;
    /* A FIFO is not even opened: its writer would take us for the reader that it waits for. */
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return 0;
    ssize_t got = !fstat(fd, &st) && S_ISREG(st.st_mode) ? pread(fd, head, n, 0) : 0;
    close(fd);
    *floppy = got > 0 && vm_floppy_size((u64)st.st_size);
    *disk = got > 0 && st.st_size >= DISK_MIN && st.st_size % 512 == 0;
    return got < 0 ? 0 : (size_t)got;
}

enum image_kind image_probe(const char *path, const char **what)
{
    u8 head[HEAD];
    bool disk = false, floppy = false;
    size_t n = read_head(path, head, sizeof head, &disk, &floppy);
    *what = NULL;
    if (!strncmp(path, "nbd:", 4) || !strncmp(path, "nbd+unix:", 9)) return IMAGE_DISK; /* a server's */
    for (size_t i = 0; i < ARRAY_LEN(signatures); i++) {
        if (signatures[i].at + signatures[i].n > n) continue;
        if (memcmp(head + signatures[i].at, signatures[i].bytes, signatures[i].n)) continue;
        if (signatures[i].at == BOOT_SIGNATURE && !disk) continue; /* the rest of a damaged kernel, say */
        *what = signatures[i].what;
        return signatures[i].at == BOOT_SIGNATURE && floppy ? IMAGE_FLOPPY : signatures[i].kind;
    }
    enum image_kind kind = by_name(path, what);
    return kind == IMAGE_DISK && floppy ? IMAGE_FLOPPY : kind;
}
