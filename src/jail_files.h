/* Which files a thread may still open, by Landlock: a set of rules that a thread takes on for good. */
#ifndef SRC_JAIL_FILES_H
#define SRC_JAIL_FILES_H
#include "core/types.h"

/* What may be done with a file, or with everything below a folder: a set of these. */
enum jail_access {
    JAIL_READ = 1,
    JAIL_WRITE = 2,
    JAIL_MAKE = 4,   /* in a folder: new files and sockets */
    JAIL_REMOVE = 8, /* in a folder: the names of files */
    JAIL_LIST = 16,  /* folders */
    JAIL_TREE = 32,  /* in a folder: names of every kind come, go, and move from one folder below it to another */
};

/* Whether the host has Landlock, and which version of it; 0: none. */
int jail_files_version(void);

struct jail_files_config {
    bool tcp;     /* connections and ports, as ever; else none */
    bool signals; /* to any process of the user's; else to this one and its children, where the host can hold that */
};
/* A set with no files. A descriptor or -errno. */
MUST_CHECK int jail_files_new(const struct jail_files_config *cfg);
/* Adds path: a file that is not there, now, is none, and what has its name later is another. 0 or -errno. */
MUST_CHECK int jail_files_add(int set, const char *path, unsigned access);
/* The same for the folder that path is in. */
MUST_CHECK int jail_files_add_folder_of(int set, const char *path, unsigned access);
/* The calling thread and its children. Async-signal-safe. 0 or -errno. */
MUST_CHECK int jail_files_enter(int set);

#endif
