/* sink.c - output that appears under its name only when complete.
 * SPDX-License-Identifier: MIT */
#include "rows/sink.h"

#include "base/bounds.h"
#include "base/dirs.h"
#include "base/mem.h"
#include "base/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static const char suffix[] = ".partial";
enum { LINKS_MAX = 40 }; /* as the kernel follows */

struct tr_sink {
    int fd;
    bool stream, regular;
    char *path;    /* as it was named: for sentences */
    char *target;  /* where that leads: the file that is replaced */
    char *partial; /* beside it; "" for a stream */
    char *bytes;   /* TR_SINK_BYTES */
    size_t from, n; /* what of them waits */
    bool failed;   /* a write went wrong: never write behind a hole */
    bool not_kept; /* no store has it as well */
};

static int cannot_create(const char *path, struct tr_err *err)
{
    const char *remedy = tr_errno_remedy(errno, "check the name");

    if (errno == ENOENT || errno == ENOTDIR)
        remedy = "create its folder first, or name another place with -o";
    else if (errno == EACCES || errno == EPERM || errno == EROFS)
        remedy = "name a place you may write to with -o";
    else if (errno == ENOSPC || errno == EDQUOT)
        remedy = "free space and run the same command again";
    return tr_fail(err, TR_CANTCREATE, "%s cannot be created: %s; %s", path,
                   strerror(errno), remedy);
}

static int write_failed(const struct tr_sink *sink, struct tr_err *err)
{
    const char *kept = tr_kept_words(!sink->not_kept);
    const char *remedy = "check the disk and run the same command again";

    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        remedy = "free space and run the same command again";
    else if (errno == EPIPE)
        return tr_fail(err, TR_IO,
                       "whoever read %s has stopped reading; run the same "
                       "command again to get the rest; %s",
                       sink->path, kept);
    return tr_fail(err, TR_IO, "%s cannot be written: %s; %s; %s", sink->path,
                   strerror(errno), tr_errno_remedy(errno, remedy), kept);
}

/* ---- opening ---------------------------------------------------------- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* A regular file that is also read would be lost or grow without end. */
static int refuse_read(const struct stat *st, const char *path,
                       const char *option, const char *const *reads,
                       size_t read_count, struct tr_err *err)
{
    if (!S_ISREG(st->st_mode))
        return TR_OK;
    for (size_t i = 0; i < read_count; i++) {
        bool standard = strcmp(reads[i], "-") == 0;
        struct stat in;

        if ((standard ? fstat(STDIN_FILENO, &in) : stat(reads[i], &in)) < 0)
            continue;
        if (same_file(st, &in))
            return tr_fail(err, TR_CANTCREATE,
                           "%s is the same file as %s, which this run reads; "
                           "name another file with %s",
                           path, standard ? "standard input" : reads[i],
                           option);
    }
    return TR_OK;
}

int tr_sink_refuse(const char *path, const char *option,
                   const char *const *reads, size_t read_count,
                   struct tr_err *err)
{
    struct stat st;

    return stat(path, &st) < 0
        ? TR_OK : refuse_read(&st, path, option, reads, read_count, err);
}

/* path, or the folder it is to be in, as the system knows it: links followed.
 * "-": standard output. What is no regular file may be written by many. */
struct place {
    struct stat st;
    const char *name; /* in the folder st; NULL: st is the file itself */
};

static bool find_place(const char *path, struct place *at)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];

    at->name = NULL;
    if ((strcmp(path, "-") == 0 ? fstat(STDOUT_FILENO, &at->st)
                                : stat(path, &at->st)) == 0)
        return S_ISREG(at->st.st_mode);
    at->name = slash ? slash + 1 : path;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 0,
             path);
    return stat(!slash ? "." : *folder ? folder : "/", &at->st) == 0;
}

bool tr_sink_same(const char *a, const char *b)
{
    struct place one, other;

    return find_place(a, &one) && find_place(b, &other) &&
           same_file(&one.st, &other.st) && !one.name == !other.name &&
           (!one.name || strcmp(one.name, other.name) == 0);
}

/* own: a descriptor of ours, or -1. It is written where it stands, as whoever
 * opened it wants; a file that is opened here begins anew. */
static int open_stream(struct tr_sink *sink, int own, const char *const *reads,
                       size_t read_count, struct tr_err *err)
{
    struct stat st;
    int rc;

    sink->stream = true;
    /* Emptied once it is known not to be one that is read. */
    sink->fd = own >= 0 ? fcntl(own, F_DUPFD_CLOEXEC, 3)
                        : open(sink->path,
                               O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    if (sink->fd < 0 || fstat(sink->fd, &st) < 0)
        return cannot_create(sink->path, err);
    sink->regular = S_ISREG(st.st_mode);
    rc = refuse_read(&st, sink->path, "-o", reads, read_count, err);
    if (rc == TR_OK && own < 0 && S_ISREG(st.st_mode) &&
        ftruncate(sink->fd, 0) < 0)
        rc = cannot_create(sink->path, err);
    return rc;
}

static int in_the_way(const struct tr_sink *sink, struct tr_err *err)
{
    return tr_fail(err, TR_CANTCREATE, "%s is in the way and is not a regular "
                   "file; remove it", sink->partial);
}

static int another_run(const struct tr_sink *sink, struct tr_err *err)
{
    return tr_fail(err, TR_CANTCREATE, "another run is writing %s; wait for it "
                   "or name another file with -o", sink->partial);
}

/* The lock is ours, and the name still stands for what it is on. */
static bool is_ours(const struct tr_sink *sink, int fd)
{
    struct stat st, named;

    return !(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) &&
           fstat(fd, &st) == 0 && lstat(sink->partial, &named) == 0 &&
           same_file(&st, &named);
}

/* What an earlier run left. It is never written to, as its name may be a
 * second one of some other file: it goes. *fd, -1 when there is none, keeps
 * other runs away until ours has a lock of its own. */
static int clear_the_way(struct tr_sink *sink, const char *const *reads,
                         size_t read_count, int *fd, struct tr_err *err)
{
    struct stat st;
    int rc;

    /* O_NONBLOCK: a planted FIFO must not stall. */
    *fd = open(sink->partial, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY |
                              O_NONBLOCK);
    if (*fd < 0 && errno == ENOENT)
        return TR_OK;
    if (*fd < 0 && (errno == ELOOP || errno == ENXIO))
        return in_the_way(sink, err);
    if (*fd < 0 || fstat(*fd, &st) < 0)
        return cannot_create(sink->partial, err);
    if (!S_ISREG(st.st_mode))
        return in_the_way(sink, err);
    if (st.st_uid != geteuid())
        return tr_fail(err, TR_CANTCREATE, "%s is in the way and belongs to "
                       "another user, who could read what is written there; "
                       "remove it", sink->partial);
    rc = refuse_read(&st, sink->partial, "-o", reads, read_count, err);
    if (rc != TR_OK)
        return rc;
    if (!is_ours(sink, *fd))
        return another_run(sink, err);
    return unlink(sink->partial) == 0 || errno == ENOENT
        ? TR_OK : cannot_create(sink->partial, err);
}

/* before: what is replaced. Who may not read that may not read this either,
 * not even while it grows. */
static int open_partial(struct tr_sink *sink, const struct stat *before,
                        const char *const *reads, size_t read_count,
                        struct tr_err *err)
{
    mode_t mode = before->st_mode ? before->st_mode & 0777 : 0666;
    int lock, rc;

    TRY(clear_the_way(sink, reads, read_count, &lock, err));
    sink->fd = open(sink->partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
                                   O_CLOEXEC | O_NOCTTY, mode);
    if (sink->fd < 0 && errno != EEXIST)
        rc = cannot_create(sink->partial, err);
    else if (sink->fd < 0 || !is_ours(sink, sink->fd))
        rc = another_run(sink, err);
    else if (before->st_mode) /* failing leaves it narrower, as the umask has */
        (void)fchmod(sink->fd, mode);
out:
    if (lock >= 0)
        close(lock);
    return rc;
}

/* What the system shows as a link to an open file: /dev/stdout leads there.
 * Another process has it open, and would not see a new one of its name. */
static bool is_descriptor(const char *link)
{
    enum { PROC = 0x9fa0 }; /* of linux/magic.h */
    char folder[PATH_MAX];
    const char *slash = strrchr(link, '/');
    struct statfs fs;

    if (!slash || (size_t)(slash - link) >= sizeof folder)
        return false;
    snprintf(folder, sizeof folder, "%.*s/", (int)(slash - link), link);
    return statfs(folder, &fs) == 0 && fs.f_type == PROC;
}

/* Which descriptor of ours that link leads to, or -1: to another process's. */
static int own_descriptor(const char *link)
{
    const char *name = strrchr(link, '/') + 1;
    struct stat ours, theirs;
    char *end;
    long n = strtol(name, &end, 10);

    return end > name && !*end && n >= 0 && n <= INT_MAX &&
           fstat((int)n, &ours) == 0 && stat(link, &theirs) == 0 &&
           same_file(&ours, &theirs) ? (int)n : -1;
}

/* One symbolic link on from *path, which is replaced. */
static int follow(char **path, struct tr_err *err)
{
    char to[PATH_MAX], *next;
    const char *slash = strrchr(*path, '/');
    size_t folder = slash ? (size_t)(slash - *path) + 1 : 0;
    ssize_t n = readlink(*path, to, sizeof to);

    if (n < 0 || n == (ssize_t)sizeof to) {
        errno = n < 0 ? errno : ENAMETOOLONG;
        return cannot_create(*path, err);
    }
    if (to[0] == '/')
        folder = 0;
    next = tr_alloc(folder + (size_t)n + 1);
    if (!next)
        return tr_fail(err, TR_NOMEM, "no memory to write %s", *path);
    memcpy(next, *path, folder);
    memcpy(next + folder, to, (size_t)n);
    tr_free(*path);
    *path = next;
    return TR_OK;
}

/* Where the name leads, and what is there: mode 0 for nothing. The links of
 * another user are not followed, as the kernel would not in a folder like
 * /tmp. */
static int find_target(struct tr_sink *sink, struct stat *st,
                       struct tr_err *err)
{
    int rc;

    for (int links = 0; ; links++) {
        if (lstat(sink->target, st) < 0) {
            *st = (struct stat){0};
            return errno == ENOENT ? TR_OK : cannot_create(sink->path, err);
        }
        if (!S_ISLNK(st->st_mode) || is_descriptor(sink->target))
            return TR_OK;
        if (st->st_uid != geteuid() && st->st_uid != 0)
            return tr_fail(err, TR_CANTCREATE, "%s is a link of another user, "
                           "who could lead it to any file of yours; name the "
                           "file itself with -o", sink->target);
        if (links == LINKS_MAX) {
            errno = ELOOP;
            return cannot_create(sink->path, err);
        }
        rc = follow(&sink->target, err);
        if (rc != TR_OK)
            return rc;
    }
}

static int open_descriptor(struct tr_sink *sink, const char *const *reads,
                           size_t read_count, struct tr_err *err)
{
    int own = own_descriptor(sink->target);

    if (own >= 0 && (fcntl(own, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        errno = EACCES;
        return cannot_create(sink->path, err);
    }
    return open_stream(sink, own, reads, read_count, err);
}

static int open_named(struct tr_sink *sink, const char *const *reads,
                      size_t read_count, struct tr_err *err)
{
    struct stat st;
    size_t n;
    int rc = TR_OK;

    TRY(find_target(sink, &st, err));
    if (S_ISDIR(st.st_mode))
        TRY(tr_fail(err, TR_CANTCREATE, "%s is a folder; name a file in it "
                    "with -o", sink->path));
    if (S_ISLNK(st.st_mode))
        return open_descriptor(sink, reads, read_count, err);
    if (st.st_mode && !S_ISREG(st.st_mode))
        return open_stream(sink, -1, reads, read_count, err);
    TRY(refuse_read(&st, sink->path, "-o", reads, read_count, err));
    if (st.st_mode && !(st.st_mode & S_IWUSR)) { /* a rename would not ask */
        errno = EACCES;
        return cannot_create(sink->path, err);
    }
    n = strlen(sink->target);
    sink->partial = tr_alloc(n + sizeof suffix);
    if (!sink->partial)
        return tr_fail(err, TR_NOMEM, "no memory to write %s", sink->path);
    memcpy(sink->partial, sink->target, n);
    memcpy(sink->partial + n, suffix, sizeof suffix);
    rc = open_partial(sink, &st, reads, read_count, err);
out:
    return rc;
}

int tr_sink_open(struct tr_sink **out, const char *path,
                 const char *const *reads, size_t read_count,
                 struct tr_err *err)
{
    bool standard = !path || strcmp(path, "-") == 0;
    struct tr_sink *sink = tr_alloc(sizeof *sink);
    size_t n;
    int rc;

    *out = NULL;
    if (standard)
        path = "standard output";
    if (!sink)
        return tr_fail(err, TR_NOMEM, "no memory to write %s", path);
    n = strlen(path);
    sink->fd = -1;
    sink->path = tr_dup(path, n);
    sink->target = tr_dup(path, n);
    sink->bytes = tr_alloc(TR_SINK_BYTES);
    if (!sink->path || !sink->target || !sink->bytes) {
        rc = tr_fail(err, TR_NOMEM, "no memory to write %s", path);
    } else if (standard) {
        rc = open_stream(sink, STDOUT_FILENO, reads, read_count, err);
    } else if (!n) {
        rc = tr_fail(err, TR_CANTCREATE, "the output has no name; name a file "
                                         "with -o");
    } else {
        rc = open_named(sink, reads, read_count, err);
    }
    if (rc == TR_OK) {
        *out = sink;
        return TR_OK;
    }
    sink->failed = true;
    tr_sink_close(sink);
    return rc;
}

/* ---- writing ---------------------------------------------------------- */

static int write_all(struct tr_sink *sink, const char *p, size_t n,
                     struct tr_err *err)
{
    while (n) {
        ssize_t done = tr_pipe_write(sink->fd, p, n);

        if (done >= 0) {
            p += done;
            n -= (size_t)done;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd to = {.fd = sink->fd, .events = POLLOUT};

            poll(&to, 1, -1);
        } else if (errno != EINTR) {
            sink->failed = true;
            return write_failed(sink, err);
        }
    }
    return TR_OK;
}

static int failed_before(const struct tr_sink *sink, struct tr_err *err)
{
    return tr_fail(err, TR_IO,
                   "%s could not be written before; run the same command "
                   "again; %s",
                   sink->path, tr_kept_words(!sink->not_kept));
}

int tr_sink_flush(struct tr_sink *sink, struct tr_err *err)
{
    size_t from = sink->from, n = sink->n - from;

    if (sink->failed)
        return failed_before(sink, err);
    sink->from = sink->n = 0;
    return write_all(sink, sink->bytes + from, n, err);
}

bool tr_sink_has_room(const struct tr_sink *sink, size_t n)
{
    return n <= TR_SINK_BYTES - sink->n;
}

/* A pipe that is ready takes PIPE_BUF bytes at once. O_NONBLOCK would be
 * simpler, but it holds for everybody who has the same pipe or terminal. */
int tr_sink_drain(struct tr_sink *sink, struct tr_err *err)
{
    if (sink->failed)
        return failed_before(sink, err);
    while (sink->from < sink->n) {
        size_t n = sink->n - sink->from;
        struct pollfd to = {.fd = sink->fd, .events = POLLOUT};
        int rc;

        if (!sink->regular && n > PIPE_BUF)
            n = PIPE_BUF;
        if (!sink->regular && poll(&to, 1, 0) <= 0)
            return 0;
        rc = write_all(sink, sink->bytes + sink->from, n, err);
        if (rc != TR_OK)
            return rc;
        sink->from += n;
    }
    sink->from = sink->n = 0;
    return 1;
}

int tr_sink_fd(const struct tr_sink *sink)
{
    return sink->fd;
}

int tr_sink_write(struct tr_sink *sink, struct tr_str bytes,
                  struct tr_err *err)
{
    if (bytes.n > TR_SINK_BYTES - sink->n) {
        int rc = tr_sink_flush(sink, err);

        if (rc != TR_OK)
            return rc;
        if (bytes.n >= TR_SINK_BYTES)
            return write_all(sink, bytes.p, bytes.n, err);
    }
    if (bytes.n)
        memcpy(sink->bytes + sink->n, bytes.p, bytes.n);
    sink->n += bytes.n;
    return TR_OK;
}

/* ---- the end ---------------------------------------------------------- */

int tr_sink_finish(struct tr_sink *sink, struct tr_err *err)
{
    int fd, rc;

    TRY(tr_sink_flush(sink, err));
    if (sink->stream)
        goto out;
    if (fsync(sink->fd) < 0) {
        rc = write_failed(sink, err);
        goto out;
    }
    if (rename(sink->partial, sink->target) < 0) {
        rc = tr_fail(err, TR_CANTCREATE,
                     "%s is complete but cannot be renamed to %s: %s; rename "
                     "it yourself",
                     sink->partial, sink->target, strerror(errno));
        goto out;
    }
    sink->partial[0] = '\0';
    errno = tr_dirs_sync(sink->target);
    if (errno)
        rc = write_failed(sink, err);
    /* Network file systems report late errors at close. */
    fd = sink->fd;
    sink->fd = -1;
    if (close(fd) < 0 && errno != EINTR && rc == TR_OK)
        rc = write_failed(sink, err);
out:
    sink->failed |= rc != TR_OK;
    return rc;
}

void tr_sink_not_kept(struct tr_sink *sink)
{
    sink->not_kept = true;
}

bool tr_sink_is_stream(const struct tr_sink *sink)
{
    return sink->stream;
}

const char *tr_sink_partial(const struct tr_sink *sink)
{
    return sink->partial ? sink->partial : "";
}

void tr_sink_close(struct tr_sink *sink)
{
    if (!sink)
        return;
    if (sink->fd >= 0 && !sink->failed)
        (void)(sink->stream ? tr_sink_drain : tr_sink_flush)(sink, NULL);
    if (sink->partial && sink->fd >= 0) /* a child may have it, too */
        flock(sink->fd, LOCK_UN);
    if (sink->fd >= 0)
        close(sink->fd);
    tr_free(sink->path);
    tr_free(sink->target);
    tr_free(sink->partial);
    tr_free(sink->bytes);
    tr_free(sink);
}
