/* folder.c - the folder of stores: where it is, what lies in it.
 * SPDX-License-Identifier: MIT */
#include "store/store.h"

#include "base/mem.h"
#include "store/lock.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_HEX = 32 };

int tr_store_default_folder(struct tr_buf *out, struct tr_err *err)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");

    if (state && *state == '/') /* a relative one is to be ignored */
        tr_buf_addf(out, "%s/trommel", state);
    else if (home && *home == '/')
        tr_buf_addf(out, "%s/.local/state/trommel", home);
    else
        return tr_fail(err, TR_CANTCREATE, "no folder for the store: HOME is "
                       "not set; give --store DIR, or --store none");
    return tr_buf_ok(out) ? TR_OK : tr_fail(err, TR_NOMEM, "out of memory");
}

/* "0123…ef.db", as tr_store_open() names its files. */
static bool is_store_name(const char *name)
{
    return strlen(name) == NAME_HEX + 3 &&
           strspn(name, "0123456789abcdef") == NAME_HEX &&
           strcmp(name + NAME_HEX, ".db") == 0;
}

static void add_file(struct tr_store_info *info, const char *tail)
{
    char name[4200];
    struct stat sb;

    snprintf(name, sizeof name, "%s%s", info->path, tail);
    if (stat(name, &sb) != 0)
        return;
    info->bytes += (int64_t)sb.st_size;
    if ((int64_t)sb.st_mtime > info->last_at)
        info->last_at = (int64_t)sb.st_mtime;
}

void tr_store_describe(const char *path, struct tr_store_info *info)
{
    struct tr_holder who;
    struct tr_store *st = NULL;
    struct tr_err err;
    int fd = -1, rc;

    *info = (struct tr_store_info){0};
    snprintf(info->path, sizeof info->path, "%s", path);
    add_file(info, "");
    add_file(info, "-wal");
    if (!tr_lock_share(info->path, &fd, &who)) {
        info->in_use = true;
        info->pid = who.pid;
        snprintf(info->task_name, sizeof info->task_name, "%s", who.task);
        return;
    }
    rc = tr_store_open_path(&st, info->path, true, &err);
    if (rc == TR_OK)
        rc = tr_store_look(st, info, &err);
    if (rc != TR_OK)
        snprintf(info->trouble, sizeof info->trouble, "%.299s", err.text);
    tr_store_close(st);
    tr_lock_drop(fd);
}

static int last_used_first(const void *a, const void *b)
{
    const struct tr_store_info *x = a, *y = b;

    if (x->last_at != y->last_at)
        return x->last_at < y->last_at ? 1 : -1;
    return strcmp(x->path, y->path);
}

int tr_store_list(const char *folder, struct tr_store_info **list, size_t *n,
                  struct tr_err *err)
{
    DIR *dir = opendir(folder);
    struct dirent *e;
    size_t cap = 0;
    int rc = TR_OK;

    *list = NULL;
    *n = 0;
    if (!dir)
        return errno == ENOENT ? TR_OK
            : tr_fail(err, tr_errno_code(errno, TR_NOINPUT), "%s: %s", folder,
                      strerror(errno));
    for (;;) {
        char path[sizeof (*list)->path];

        errno = 0;
        e = readdir(dir);
        if (!e && errno)
            TRY(tr_fail(err, tr_errno_code(errno, TR_NOINPUT), "%s: cannot be "
                        "read to its end: %s", folder, strerror(errno)));
        if (!e)
            break;
        if (!is_store_name(e->d_name))
            continue;
        if (!tr_grow((void **)list, &cap, *n + 1, sizeof **list))
            TRY(tr_fail(err, TR_NOMEM, "%s: out of memory", folder));
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >=
            sizeof path)
            TRY(tr_fail(err, TR_NOINPUT, "--store: the path is too long"));
        tr_store_describe(path, &(*list)[(*n)++]);
    }
    if (*n)
        qsort(*list, *n, sizeof **list, last_used_first);
out:
    closedir(dir);
    if (rc != TR_OK) {
        tr_free(*list);
        *list = NULL;
        *n = 0;
    }
    return rc;
}

/* The write-ahead file goes before the file it belongs to, the lock last:
 * whoever waits for it finds that it is gone and makes a new one. */
int tr_store_remove(const char *path, struct tr_err *err)
{
    static const char *const tails[] = {"db-wal", "db-shm", "db", "rescue",
                                        "lock"};
    const char *slash = strrchr(path, '/');
    char name[4200];
    int fd, rc;

    if (!is_store_name(slash ? slash + 1 : path) || access(path, F_OK) != 0)
        return tr_fail(err, TR_NOINPUT, "%s: no such store", path);
    rc = tr_lock_take(path, "", false, &fd, err);
    if (rc != TR_OK)
        return rc;
    for (size_t i = 0; i < sizeof tails / sizeof *tails && rc == TR_OK; i++) {
        snprintf(name, sizeof name, "%.*s%s", (int)strlen(path) - 2, path,
                 tails[i]);
        if (unlink(name) != 0 && errno != ENOENT)
            rc = tr_fail(err, TR_IO, "%s: cannot be removed: %s", name,
                         strerror(errno));
    }
    close(fd);
    return rc;
}
