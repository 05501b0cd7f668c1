/* dirs.c - a folder with all that lead to it.
 * SPDX-License-Identifier: MIT */
#include "base/dirs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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
