/* Owns the loading of the host's sound libraries: they exist as shared libraries only, and a machine without sound is
 * to start without them. None is unloaded again: some leave threads behind. */
#include "src/back/audio.h"
#include "src/error.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int audio_library(const char *who, const char *file, const char *package, const struct audio_symbol *list, size_t n,
                  struct vm_error *err)
{
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return vm_fail(err, -ENOENT, "audio %s: %s cannot be loaded (Debian: apt-get install %s)", who, file, package);
    for (size_t i = 0; i < n; i++) {
        void *found = dlsym(handle, list[i].name);
        if (!found) return vm_fail(err, -ENOSYS, "audio %s: %s has no %s()", who, file, list[i].name);
        memcpy(list[i].at, &found, sizeof found);
    }
    return 0;
}
