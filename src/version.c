/* What this program is made of. An object of its own, since it changes with every commit. */
#include "transvisor/vm.h"
#include <version.h> /* made by the build */

#include <gnu/libc-version.h>

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

const char *vm_version(void) { return VERSION; }

const char *vm_version_part(unsigned i, const char **what)
{
    static const char *const parts[][2] = {
        { "revision", REVISION }, { "compiler", COMPILER },     { "capstone", CAPSTONE_VERSION },
        { "lz4", LZ4_VERSION },   { "xxhash", XXHASH_VERSION },
    };
    enum { PARTS = sizeof parts / sizeof parts[0] };
    if (i < PARTS) {
        *what = parts[i][0];
        return parts[i][1];
    }
    *what = "libc";
    return i == PARTS ? gnu_get_libc_version() : NULL;
}
