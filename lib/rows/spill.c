/* spill.c - settled blocks that wait behind a stuck row, on disk.
 *
 * A block is written as its row structs followed by its bytes; only this
 * process ever reads them, so their layout needs no version.
 *
 * SPDX-License-Identifier: MIT */
#include "rows/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void tr_spill_init(struct tr_spill *s, const char *folder)
{
    *s = (struct tr_spill){.fd = -1, .folder = folder};
}

static int open_file(struct tr_spill *s, struct tr_err *err)
{
    const char *folder = s->folder ? s->folder : getenv("TMPDIR");
    char path[4096];
    int fd;

    if (!folder || !*folder)
        folder = "/tmp";
    if (snprintf(path, sizeof path, "%s/.trommel-spill-XXXXXX", folder) >=
        (int)sizeof path)
        return tr_fail(err, TR_IO, "%s: the path is too long for a temporary "
                       "file; set TMPDIR to a shorter one", folder);
    fd = mkstemp(path);
    if (fd < 0)
        return tr_fail(err, TR_IO, "%s: no temporary file for rows that wait "
                       "behind a slow one (%s); make the folder writable or "
                       "set TMPDIR, then run the same command again", folder,
                       strerror(errno));
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    unlink(path);
    s->fd = fd;
    return TR_OK;
}

static int transfer(int fd, bool out, char *p, size_t n, int64_t at,
                    struct tr_err *err)
{
    while (n) {
        ssize_t done = out ? pwrite(fd, p, n, at) : pread(fd, p, n, at);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return tr_fail(err, TR_IO, "temporary file: %s failed (%s); free "
                           "space or set TMPDIR to a larger disk, then run "
                           "the same command again",
                           out ? "writing" : "reading",
                           done ? strerror(errno) : "it ended early");
        p += done;
        n -= (size_t)done;
        at += done;
    }
    return TR_OK;
}

int tr_spill_put(struct tr_spill *s, struct tr_block *block,
                 struct tr_err *err)
{
    size_t rows = block->row_count * sizeof *block->rows;
    int rc = TR_OK;

    if (s->fd < 0)
        rc = open_file(s, err);
    if (rc == TR_OK)
        rc = transfer(s->fd, true, (char *)block->rows, rows, s->end, err);
    if (rc == TR_OK)
        rc = transfer(s->fd, true, block->bytes, block->bytes_n,
                      s->end + (int64_t)rows, err);
    if (rc != TR_OK)
        return rc;
    block->spilled_at = s->end;
    s->end += (int64_t)(rows + block->bytes_n);
    s->blocks++;
    return TR_OK;
}

int tr_spill_get(struct tr_spill *s, struct tr_block *block,
                 struct tr_err *err)
{
    size_t rows = block->row_count * sizeof *block->rows;
    int rc = transfer(s->fd, false, (char *)block->rows, rows,
                      block->spilled_at, err);

    if (rc == TR_OK)
        rc = transfer(s->fd, false, block->bytes, block->bytes_n,
                      block->spilled_at + (int64_t)rows, err);
    if (rc != TR_OK)
        return rc;
    if (--s->blocks == 0 && ftruncate(s->fd, 0) == 0)
        s->end = 0;
    return TR_OK;
}

void tr_spill_release(struct tr_spill *s)
{
    if (s->fd >= 0)
        close(s->fd);
    tr_spill_init(s, s->folder);
}
