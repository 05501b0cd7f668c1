/* intake.c - the bytes of one input: file, pipe or standard input, unpacked.
 * SPDX-License-Identifier: MIT */
#include "rows/intake.h"

#include "base/mem.h"
#include "rows/inflate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)128 << 10)
#define MAGIC_BYTES 5

struct tr_intake {
    int fd;
    bool regular;
    bool begun;   /* the first bytes have been looked at */
    bool ended;   /* read() has said so */
    bool flushing; /* the unpacker may hold more without new bytes */
    size_t chunk;
    struct tr_inflate *unpack;
    char *bytes; /* packed bytes, or the first ones */
    size_t from, to;
    int64_t taken;
    off_t size; /* of a regular file when it was opened */
    char name[256]; /* for sentences */
};

static const struct {
    const char *start;
    size_t n;
    const char *what, *remedy;
    bool binary; /* what follows is a control byte: the start may be a text */
} foreign[] = {
    {"PK\x03\x04", 4, "an Excel workbook or a zip archive",
     "export it as CSV UTF-8, or unzip it", false},
    {"\xd0\xcf\x11\xe0", 4, "an old Excel workbook or another Office document",
     "export its table as CSV UTF-8", false},
    {"PAR1", 4, "a Parquet file",
     "convert it to CSV or JSON Lines, for example with duckdb", true},
    {"BZh", 3, "packed with bzip2", "unpack it with bunzip2", false},
    {"\xfd" "7zXZ", 5, "packed with xz", "unpack it with unxz", false},
    {"%PDF", 4, "a PDF document", "export its table as CSV UTF-8", false},
};

static int read_failed(const struct tr_intake *in, int code,
                       struct tr_err *err)
{
    if (errno == EISDIR)
        return tr_fail(err, TR_NOINPUT,
                       "%s is a folder; name the files in it", in->name);
    return tr_fail(err, code,
                   "%s cannot be read: %s; check the file and its disk, then "
                   "run the same command again",
                   in->name, strerror(errno));
}

int tr_intake_open(struct tr_intake **out, const char *path,
                   size_t chunk_bytes, struct tr_err *err)
{
    struct tr_intake *in = tr_alloc(sizeof *in);
    bool standard = strcmp(path, "-") == 0;
    struct stat st;
    int rc = TR_OK;

    *out = NULL;
    if (!in)
        return tr_fail(err, TR_NOMEM, "no memory to open %s", path);
    in->chunk = chunk_bytes ? chunk_bytes : CHUNK_BYTES;
    snprintf(in->name, sizeof in->name, "%s",
             standard ? "standard input" : path);
    /* A named pipe must not be waited for here: raw_read() polls. */
    in->fd = standard
                 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                 : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (in->fd < 0 && errno == EINTR) {
        rc = tr_fail(err, TR_STOPPED,
                     "stopped while opening %s; run the same command again",
                     in->name);
        goto out;
    }
    if (in->fd < 0) {
        rc = tr_fail(err, TR_NOINPUT,
                     "%s cannot be opened: %s; %s", in->name, strerror(errno),
                     tr_errno_remedy(errno,
                                     "check the name and its permissions"));
        goto out;
    }
    if (fstat(in->fd, &st) < 0) {
        rc = read_failed(in, TR_IO, err);
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        rc = tr_fail(err, TR_NOINPUT, "%s is a folder; name the files in it",
                     in->name);
        goto out;
    }
    in->regular = S_ISREG(st.st_mode);
    in->size = st.st_size;
    /* Only advice: reading works as well without it. */
    if (in->regular)
        (void)posix_fadvise(in->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    in->bytes = tr_alloc(in->chunk < MAGIC_BYTES ? MAGIC_BYTES : in->chunk);
    if (!in->bytes)
        rc = tr_fail(err, TR_NOMEM, "no memory to open %s", in->name);
out:
    if (rc != TR_OK)
        tr_intake_close(in);
    else
        *out = in;
    return rc;
}

/* Whoever writes a file anew empties it first, and its end of that moment is
 * not the end of what was to be read. One that has grown is read to its end. */
static int check_end(const struct tr_intake *in, struct tr_err *err)
{
    struct stat st;

    if (!in->regular || fstat(in->fd, &st) < 0 || st.st_size >= in->size)
        return TR_INTAKE_END;
    return tr_fail(err, TR_IO,
                   "%s became shorter while it was read, so rows of it are "
                   "missing; run the same command again when nothing writes "
                   "to it",
                   in->name);
}

/* What read() gives, without stalling on a pipe unless block. */
static int raw_read(struct tr_intake *in, char *to, size_t n, bool block,
                    size_t *got, struct tr_err *err)
{
    *got = 0;
    if (in->ended)
        return TR_INTAKE_END;
    for (;;) {
        ssize_t r;

        if (!in->regular) {
            struct pollfd p = {.fd = in->fd, .events = POLLIN};
            int ready = poll(&p, 1, block ? -1 : 0);

            if (ready < 0 && errno != EINTR)
                return read_failed(in, TR_IO, err);
            if (ready <= 0 && !block)
                return TR_INTAKE_WAIT;
            /* Whoever catches signals wants to act on this one: a wait for
             * the first bytes must not outlive Ctrl-C. */
            if (ready <= 0)
                return tr_fail(err, TR_STOPPED,
                               "stopped while waiting for the first bytes of "
                               "%s; run the same command again",
                               in->name);
        }
        r = read(in->fd, to, n);
        if (r > 0) {
            *got = (size_t)r;
            in->taken += r;
            return TR_INTAKE_SOME;
        }
        if (r == 0) {
            int end = check_end(in, err);

            in->ended = end == TR_INTAKE_END;
            return end;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!block)
                return TR_INTAKE_WAIT;
        } else if (errno != EINTR) {
            return read_failed(in, TR_IO, err);
        }
    }
}

static bool named(const struct tr_intake *in, const char *suffix)
{
    size_t n = strlen(in->name), m = strlen(suffix);

    return n > m && strcmp(in->name + n - m, suffix) == 0;
}

/* A control byte that no text has there. */
static bool control_at(struct tr_str start, size_t at)
{
    return at < start.n && (unsigned char)start.p[at] < 0x20 &&
           !memchr("\t\r\n", start.p[at], 3);
}

/* Decides from the first bytes how to go on. */
static int begin(struct tr_intake *in, bool block, struct tr_err *err)
{
    enum tr_packed kind;
    struct tr_str start;

    while (in->to < MAGIC_BYTES) {
        size_t n = in->chunk < MAGIC_BYTES - in->to ? in->chunk
                                                    : MAGIC_BYTES - in->to;
        size_t got;
        int rc = raw_read(in, in->bytes + in->to, n, block, &got, err);

        if (rc == TR_INTAKE_WAIT || rc < 0)
            return rc;
        if (rc == TR_INTAKE_END)
            break;
        in->to += got;
    }
    in->begun = true;
    start = tr_str(in->bytes, in->to);
    kind = tr_inflate_magic(start);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        size_t n = foreign[i].n < start.n ? foreign[i].n : start.n;

        if (n >= 3 && memcmp(start.p, foreign[i].start, n) == 0 &&
            (!foreign[i].binary || control_at(start, n)))
            return tr_fail(err, TR_DATA, "%s is %s; %s", in->name,
                           foreign[i].what, foreign[i].remedy);
    }
    if (kind == TR_PACKED_NOT) {
        if (start.n && (named(in, ".gz") || named(in, ".zst")))
            return tr_fail(err, TR_DATA,
                           "%s is not packed although its name says so; "
                           "rename it, or get it again",
                           in->name);
        return TR_INTAKE_SOME;
    }
    in->unpack = tr_inflate_new(kind);
    if (!in->unpack)
        return tr_fail(err, TR_NOMEM, "no memory to unpack %s", in->name);
    return TR_INTAKE_SOME;
}

static int unpacked(struct tr_intake *in, char *to, size_t n, bool block,
                    size_t *got, struct tr_err *err)
{
    for (;;) {
        struct tr_str packed = tr_str(in->bytes + in->from, in->to - in->from);
        const char *what;
        int rc;

        if (packed.n || in->flushing) {
            long given = tr_inflate_step(in->unpack, &packed, to, n, &what);

            if (given < 0 && !what)
                return tr_fail(err, TR_NOMEM, "no memory to unpack %s",
                               in->name);
            if (given < 0)
                return tr_fail(err, TR_DATA,
                               "%s %s; get it again, or unpack it yourself "
                               "and label the result",
                               in->name, what);
            in->from = in->to - packed.n;
            in->flushing = (size_t)given == n;
            if (given > 0) {
                *got = (size_t)given;
                return TR_INTAKE_SOME;
            }
        }
        in->from = in->to = 0;
        rc = raw_read(in, in->bytes, in->chunk, block, got, err);
        if (rc == TR_INTAKE_END && !tr_inflate_complete(in->unpack))
            return tr_fail(err, TR_DATA,
                           "%s ends in the middle of its packed data; it was "
                           "cut short: get it again",
                           in->name);
        if (rc != TR_INTAKE_SOME)
            return rc;
        in->to = *got;
    }
}

int tr_intake_read(struct tr_intake *in, char *to, size_t n, bool block,
                   size_t *got, struct tr_err *err)
{
    *got = 0;
    if (!in->begun) {
        int rc = begin(in, block, err);

        if (rc != TR_INTAKE_SOME)
            return rc;
    }
    if (in->unpack)
        return unpacked(in, to, n, block, got, err);
    if (in->from < in->to) {
        *got = in->to - in->from < n ? in->to - in->from : n;
        memcpy(to, in->bytes + in->from, *got);
        in->from += *got;
        return TR_INTAKE_SOME;
    }
    return raw_read(in, to, n < in->chunk ? n : in->chunk, block, got, err);
}

int tr_intake_fd(const struct tr_intake *in)
{
    return in->regular ? -1 : in->fd;
}

bool tr_intake_packed(const struct tr_intake *in)
{
    return in->unpack != NULL;
}

int64_t tr_intake_taken(const struct tr_intake *in)
{
    return in->taken;
}

void tr_intake_close(struct tr_intake *in)
{
    if (!in)
        return;
    if (in->fd >= 0)
        close(in->fd);
    tr_inflate_free(in->unpack);
    tr_free(in->bytes);
    tr_free(in);
}
