/* dirs.c - a folder with all that lead to it, and whose a file is.
 * SPDX-License-Identifier: MIT */
#include "base/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int tr_dirs_make(const char *folder)
{
    char path[4096];

    if (strlen(folder) >= sizeof path)
        return ENAMETOOLONG;
    snprintf(path, sizeof path, "%s", folder);
    for (char *p = path + 1; ; p++) {
        char c = *p;

        if (c && c != '/')
            continue;
        *p = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST && errno != EISDIR)
            return errno;
        *p = c;
        if (!c)
            return 0;
    }
}

int tr_dirs_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[4200] = ".";
    int fd, rc, bad = 0;

    if (slash)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    do
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return errno == EACCES ? 0 : errno;
    do
        rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno != EINVAL && errno != EROFS && errno != EOPNOTSUPP)
        bad = errno;
    close(fd);
    return bad;
}

/* Group-writable is how many systems make every file, with a group of one. */
const char *tr_distrust(int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return NULL; /* a pipe was opened by whoever runs us */
    if (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0)
        return "belongs to another user; make a copy of your own";
    if (st.st_mode & S_IWOTH)
        return "can be written by everybody; run chmod o-w on it";
    return NULL;
}

int tr_not_ours(int fd, const char **why)
{
    struct stat st;

    *why = NULL;
    if (fstat(fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        *why = "is no regular file";
    else if (st.st_uid != geteuid())
        *why = "belongs to another user";
    return 0;
}
