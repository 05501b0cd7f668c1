/* rescue.c - answers that came after the store had failed.
 *
 * A record: bytes that follow (4), digest of them (16), items. An item is a
 * letter and its fields; numbers are little-endian. Zeros, as in room that was
 * taken and not used, end the file.
 *
 * SPDX-License-Identifier: MIT */
#include "store/rescue.h"

#include "base/bounds.h"
#include "base/digest.h"
#include "base/dirs.h"
#include "base/mem.h"
#include "store/verdict.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 4200, HEAD_BYTES = 4 + sizeof(struct tr_key) };

static void rescue_path(char *out, const char *db_path)
{
    snprintf(out, PATH, "%.*srescue", (int)strlen(db_path) - 2, db_path);
}

static int fail(const char *path, const char *what, int errnum,
                struct tr_err *err)
{
    return tr_fail(err, TR_IO, "%s: %s: %s; %s", path, what, strerror(errnum),
                   tr_errno_remedy(errnum, "free space and run the same "
                                           "command again"));
}

/* Answers that somebody else may have made up, or could read. Closes what it
 * refuses. */
static int check_planted(int fd, const char *path, struct tr_err *err)
{
    const char *why;
    int bad = tr_not_ours(fd, &why);

    if (!bad && !why)
        return TR_OK;
    close(fd);
    if (bad)
        return fail(path, "cannot be looked at", bad, err);
    return tr_fail(err, TR_CONFIG, "%s %s, and is where answers are kept that "
                   "come after the store has failed: remove it, or choose "
                   "another folder with --store", path, why);
}

/* ---- writing ---------------------------------------------------------- */

void tr_rescue_init(struct tr_rescue *r)
{
    *r = (struct tr_rescue){.fd = -1};
    tr_buf_init(&r->record, TR_RESCUE_BYTES);
}

int tr_rescue_reserve(struct tr_rescue *r, const char *db_path,
                      struct tr_err *err)
{
    char path[PATH];
    int fd, bad, rc;

    if (r->fd >= 0)
        return TR_OK;
    rescue_path(path, db_path);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail(path, "cannot be made", errno, err);
    rc = check_planted(fd, path, err);
    if (rc != TR_OK)
        return rc;
    fchmod(fd, 0600); /* whatever the umask */
    do
        bad = posix_fallocate(fd, 0, TR_RESCUE_BYTES);
    while (bad == EINTR);
    if (bad == EINVAL || bad == EOPNOTSUPP) /* it cannot, so it may be full */
        bad = 0;
    if (bad == 0 && fsync(fd) != 0)
        bad = errno;
    if (bad == 0)
        bad = tr_dirs_sync(path);
    if (bad) {
        close(fd);
        unlink(path);
        return fail(path, "there is no room for answers that come after the "
                    "disk is full", bad, err);
    }
    r->fd = fd;
    r->at = 0;
    return TR_OK;
}

static void add_number(struct tr_buf *b, uint64_t n, int bytes)
{
    for (int i = 0; i < bytes; i++)
        tr_buf_addc(b, (char)(n >> 8 * i));
}

static void add_text(struct tr_buf *b, struct tr_str text)
{
    add_number(b, text.n, 4);
    tr_buf_adds(b, text);
}

static void begin(struct tr_rescue *r, char kind)
{
    static const char head[HEAD_BYTES]; /* filled in by write() */

    if (!r->record.n)
        tr_buf_add(&r->record, head, sizeof head);
    tr_buf_addc(&r->record, kind);
}

void tr_rescue_origin(struct tr_rescue *r, uint32_t index,
                      const struct tr_origin *o)
{
    begin(r, TR_RESCUED_ORIGIN);
    add_number(&r->record, index, 4);
    add_number(&r->record, (uint64_t)o->prompt_version, 4);
    add_number(&r->record, (uint64_t)o->run_at, 8);
    add_text(&r->record, tr_str_c(o->by));
    add_text(&r->record, tr_str_c(o->served));
    add_text(&r->record, tr_str_c(o->effort));
}

void tr_rescue_set(struct tr_rescue *r, uint32_t index, struct tr_str names)
{
    begin(r, TR_RESCUED_SET);
    add_number(&r->record, index, 4);
    add_text(&r->record, names);
}

void tr_rescue_put(struct tr_rescue *r, const struct tr_store_put *put)
{
    int64_t what, v;

    tr_verdict_pack(&put->key, &put->verdict, &what, &v);
    begin(r, TR_RESCUED_PUT);
    tr_buf_add(&r->record, put->key.b, sizeof put->key.b);
    add_number(&r->record, (uint64_t)what, 8);
    add_number(&r->record, (uint64_t)v, 8);
}

void tr_rescue_outcome(struct tr_rescue *r, const struct tr_store_outcome *o)
{
    const int64_t sums[] = {o->spent_nano, o->unknown_nano, o->tokens_in,
                            o->tokens_out, o->tokens_cached,
                            o->unknown_tokens};

    begin(r, TR_RESCUED_OUTCOME);
    add_number(&r->record, o->attempt, 8);
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        add_number(&r->record, (uint64_t)sums[i], 8);
    tr_buf_addc(&r->record, (char)(o->is_unknown | o->unsent << 1 |
                                   o->in_batch << 2));
}

int tr_rescue_write(struct tr_rescue *r, struct tr_err *err)
{
    struct tr_buf *b = &r->record;
    struct tr_key digest;
    size_t done = 0;
    int rc = TR_OK;

    if (r->fd < 0)
        TRY(tr_fail(err, TR_IO, "no room was taken for answers that come "
                    "after the store has failed"));
    if (!b->n)
        return TR_OK;
    if (!tr_buf_ok(b) || b->n > TR_RESCUE_BYTES - r->at)
        TRY(tr_fail(err, TR_IO, "there are more answers than room was taken "
                    "for (%u bytes)", TR_RESCUE_BYTES));
    for (int i = 0; i < 4; i++)
        b->p[i] = (char)((b->n - HEAD_BYTES) >> 8 * i);
    digest = tr_digest(NULL, tr_str(b->p + HEAD_BYTES, b->n - HEAD_BYTES));
    memcpy(b->p + 4, digest.b, sizeof digest.b);
    while (done < b->n) {
        ssize_t n = pwrite(r->fd, b->p + done, b->n - done,
                           (off_t)(r->at + done));

        if (n < 0 && errno != EINTR)
            TRY(tr_fail(err, TR_IO, "answers cannot be kept: %s",
                        strerror(errno)));
        done += n > 0 ? (size_t)n : 0;
    }
    if (fsync(r->fd) != 0)
        TRY(tr_fail(err, TR_IO, "answers cannot be kept: %s",
                    strerror(errno)));
    r->at += b->n;
out:
    tr_buf_clear(b);
    return rc;
}

void tr_rescue_close(struct tr_rescue *r, const char *db_path)
{
    char path[PATH];

    tr_buf_release(&r->record);
    if (r->fd < 0)
        return;
    close(r->fd);
    r->fd = -1;
    if (!r->at) {
        rescue_path(path, db_path);
        unlink(path);
    }
}

/* ---- reading ---------------------------------------------------------- */

/* What is left of a record; failed: something reached beyond it. */
struct reader {
    const unsigned char *p;
    size_t n;
    bool failed;
};

static const unsigned char *take(struct reader *r, size_t n)
{
    const unsigned char *at = r->p;

    if (r->failed || n > r->n) {
        r->failed = true;
        return NULL;
    }
    r->p += n;
    r->n -= n;
    return at;
}

static uint64_t number(struct reader *r, size_t bytes)
{
    const unsigned char *p = take(r, bytes);
    uint64_t n = 0;

    for (size_t i = 0; p && i < bytes; i++)
        n |= (uint64_t)p[i] << 8 * i;
    return n;
}

static struct tr_str text(struct reader *r)
{
    size_t n = number(r, 4);
    const unsigned char *p = take(r, n);

    return tr_str(p ? (const char *)p : "", p ? n : 0);
}

static void copy(struct reader *r, char *out, size_t size)
{
    struct tr_str s = text(r);

    if (s.n >= size || memchr(s.p, '\0', s.n)) {
        r->failed = true;
        return;
    }
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

static void read_outcome(struct reader *r, struct tr_store_outcome *o)
{
    int64_t *const sums[] = {&o->spent_nano, &o->unknown_nano, &o->tokens_in,
                             &o->tokens_out, &o->tokens_cached,
                             &o->unknown_tokens};
    uint64_t flags;

    o->attempt = number(r, 8);
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        *sums[i] = (int64_t)number(r, 8);
        r->failed |= *sums[i] < 0;
    }
    flags = number(r, 1);
    r->failed |= flags > 7;
    o->is_unknown = flags & 1;
    o->unsent = flags & 2;
    o->in_batch = flags & 4;
}

/* False: this is no item. */
static bool read_item(struct reader *r, struct tr_rescued *item)
{
    const unsigned char *key;
    uint64_t what, v;

    *item = (struct tr_rescued){.kind = (int)number(r, 1)};
    switch (item->kind) {
    case TR_RESCUED_ORIGIN:
        item->index = (uint32_t)number(r, 4);
        item->origin.prompt_version = (int32_t)number(r, 4);
        item->origin.run_at = (int64_t)number(r, 8);
        copy(r, item->origin.by, sizeof item->origin.by);
        copy(r, item->origin.served, sizeof item->origin.served);
        copy(r, item->origin.effort, sizeof item->origin.effort);
        break;
    case TR_RESCUED_SET:
        item->index = (uint32_t)number(r, 4);
        item->names = text(r);
        break;
    case TR_RESCUED_PUT:
        key = take(r, sizeof item->put.key.b);
        what = number(r, 8);
        v = number(r, 8);
        if (r->failed)
            return false;
        memcpy(item->put.key.b, key, sizeof item->put.key.b);
        return tr_verdict_unpack(&item->put.key, (int64_t)what, (int64_t)v,
                                 &item->put.verdict);
    case TR_RESCUED_OUTCOME:
        read_outcome(r, &item->outcome);
        break;
    default:
        return false;
    }
    return !r->failed;
}

/* The whole file in memory; n 0: there is none, or nothing in it. */
static int slurp(const char *path, unsigned char **out, size_t *n,
                 struct tr_err *err)
{
    /* O_NONBLOCK: a planted FIFO must not stall. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int bad = 0, rc;
    ssize_t got = 1;

    *n = 0;
    *out = NULL;
    if (fd < 0)
        return errno == ENOENT ? TR_OK
                               : fail(path, "cannot be read", errno, err);
    rc = check_planted(fd, path, err);
    if (rc != TR_OK)
        return rc;
    *out = tr_alloc(TR_RESCUE_BYTES);
    if (!*out) {
        close(fd);
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    }
    while (*n < TR_RESCUE_BYTES && got != 0) {
        got = pread(fd, *out + *n, TR_RESCUE_BYTES - *n, (off_t)*n);
        if (got < 0 && errno != EINTR) {
            bad = errno;
            break;
        }
        *n += got > 0 ? (size_t)got : 0;
        if (*n >= 4 && !memcmp(*out, "\0\0\0", 4))
            break; /* room, and nothing else */
    }
    close(fd);
    return bad ? fail(path, "cannot be read", bad, err) : TR_OK;
}

int tr_rescue_read(const char *db_path,
                   int (*each)(void *ctx, const struct tr_rescued *item,
                               struct tr_err *err),
                   void *ctx, bool *any, struct tr_err *err)
{
    struct reader file = {0};
    unsigned char *bytes;
    char path[PATH];
    int rc;

    *any = false;
    rescue_path(path, db_path);
    rc = slurp(path, &bytes, &file.n, err);
    file.p = bytes;
    while (rc == TR_OK) {
        size_t n = number(&file, 4);
        const unsigned char *digest = take(&file, sizeof(struct tr_key));
        struct reader record = {take(&file, n), n, false};
        struct tr_rescued item;
        struct tr_key is;

        if (file.failed || !n)
            break;
        is = tr_digest(NULL, tr_str((const char *)record.p, n));
        if (memcmp(is.b, digest, sizeof is.b) != 0)
            break;
        while (rc == TR_OK && record.n && read_item(&record, &item)) {
            *any = true;
            rc = each(ctx, &item, err);
        }
    }
    tr_free(bytes);
    return rc;
}

int tr_rescue_foreign(const char *db_path, struct tr_err *err)
{
    char path[PATH];

    rescue_path(path, db_path);
    return tr_fail(err, TR_CONFIG, "%s holds answers for a store that is not "
                   "here: put it back (with its -wal file, if it has one), or "
                   "remove that file (they would be paid again)", path);
}

int tr_rescue_clear(const char *db_path, struct tr_err *err)
{
    char path[PATH];
    int fd, bad = 0;

    rescue_path(path, db_path);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? TR_OK
                               : fail(path, "cannot be emptied", errno, err);
    if (ftruncate(fd, 0) != 0 || fsync(fd) != 0)
        bad = errno;
    close(fd);
    if (bad)
        return fail(path, "cannot be emptied", bad, err);
    unlink(path);
    return TR_OK;
}
