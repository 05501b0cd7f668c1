/* lock.c - one writer a store, and a name for it.
 *
 * flock() and not fcntl(): its locks belong to the open file, so that closing
 * another descriptor of the same file does not drop them.
 *
 * SPDX-License-Identifier: MIT */
#include "store/lock.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LOCK_PATH = 4200,
    HOLDER_BYTES = 400,   /* who holds it; the mark stands behind */
    COUNT_AT = HOLDER_BYTES + 1, /* behind the mark, in the same sector */
    COUNT_BYTES = 32,     /* hexadecimal: the number, and all its bits turned */
    POLL_READER_MS = 10,  /* most readers are gone in a moment, ... */
    READER_MS = 2000      /* ... and who stays is told of */
};

static void lock_path(char *out, const char *db_path)
{
    snprintf(out, LOCK_PATH, "%.*slock", (int)strlen(db_path) - 2, db_path);
}

/* One line of text into out, cut at size; the rest of text. */
static const char *line(const char *text, char *out, size_t size)
{
    size_t n = strcspn(text, "\n");

    snprintf(out, size, "%.*s", (int)n, text);
    return text + n + (text[n] == '\n');
}

static void read_holder(int fd, struct tr_holder *who)
{
    char text[HOLDER_BYTES], pid[24];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);

    *who = (struct tr_holder){0};
    text[n > 0 ? n : 0] = '\0';
    line(line(line(text, pid, sizeof pid), who->since, sizeof who->since),
         who->task, sizeof who->task);
    who->pid = strtol(pid, NULL, 10);
}

/* In one piece and always as long, so that the mark behind it stays. */
static bool write_holder(int fd, const char *task)
{
    char text[HOLDER_BYTES], since[32] = "";
    time_t now = (time_t)tr_clock_wall_s();
    struct tm tm;
    int n;

    if (localtime_r(&now, &tm))
        strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S", &tm);
    n = snprintf(text, sizeof text, "%ld\n%s\n%.199s\n", (long)getpid(), since,
                 task ? task : "");
    memset(text + n, '\n', sizeof text - (size_t)n);
    return pwrite(fd, text, sizeof text, 0) == (ssize_t)sizeof text;
}

bool tr_lock_is_marked(int fd)
{
    char mark = 0;

    return fd >= 0 && pread(fd, &mark, 1, HOLDER_BYTES) == 1 && mark == 'm';
}

int tr_lock_mark(int fd, bool marked, const char *db_path, struct tr_err *err)
{
    if ((marked ? pwrite(fd, "m", 1, HOLDER_BYTES) == 1
                : ftruncate(fd, HOLDER_BYTES) == 0) && fsync(fd) == 0)
        return TR_OK;
    return tr_fail(err, TR_IO, "the lock of %s cannot be written: %s; check "
                   "the disk (full, or failing?) and run the same command "
                   "again", db_path, strerror(errno));
}

int64_t tr_lock_commits(int fd)
{
    char text[COUNT_BYTES + 1] = "";
    uint64_t n, turned;

    if (fd < 0 || pread(fd, text, COUNT_BYTES, COUNT_AT) != COUNT_BYTES ||
        sscanf(text, "%16" SCNx64 "%16" SCNx64, &n, &turned) != 2 ||
        n != ~turned || n > INT64_MAX)
        return -1;
    return (int64_t)n;
}

void tr_lock_count(int fd, int64_t commits)
{
    char text[COUNT_BYTES + 1];
    uint64_t n = (uint64_t)commits;

    snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, n, ~n);
    if (pwrite(fd, text, COUNT_BYTES, COUNT_AT) != COUNT_BYTES)
        return; /* what is there says less, or says nothing */
}

/* Whether fd is still the file of that name: rm may have taken it away
 * between our open() and our flock(). < 0: errno says why nobody knows. */
static int is_current(int fd, const char *name)
{
    struct stat ours, there;

    if (fstat(fd, &ours) != 0)
        return -1;
    if (stat(name, &there) != 0)
        return errno == ENOENT ? 0 : -1;
    return ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

int tr_lock_held(const char *db_path, const struct tr_holder *who, bool waits,
                 struct tr_err *err)
{
    char text[80] = "";

    if (who->pid)
        snprintf(text, sizeof text, " (process %ld, since %s)", who->pid,
                 who->since);
    return tr_fail(err, waits ? TR_LOCK_HELD : TR_STOPPED,
                   "another run of this task holds its store%s: %s; the store "
                   "is %s", text,
                   waits ? "waiting for it"
                         : "wait for it (classify does so with --wait-lock)",
                   db_path);
}

/* Shared by many, who leave no name. */
static int held_by_readers(const char *db_path, bool waits, struct tr_err *err)
{
    return tr_fail(err, waits ? TR_LOCK_HELD : TR_STOPPED,
                   "an estimate or a dry run of this task reads its store: %s; "
                   "the store is %s",
                   waits ? "waiting for it"
                         : "end it or let it end, and run the same command "
                           "again (classify waits with --wait-lock)",
                   db_path);
}

int tr_lock_take(const char *db_path, const char *task, bool waits, int *fd,
                 struct tr_err *err)
{
    char name[LOCK_PATH];
    int rc, waited_ms = 0;

    lock_path(name, db_path);
    for (;;) {
        struct timespec pause = {0, POLL_READER_MS * TR_MS};

        *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (*fd < 0)
            return tr_fail(err, TR_CANTCREATE, "%s: %s; %s", name,
                           strerror(errno),
                           tr_errno_remedy(errno, "name a folder that you may "
                                           "write to with --store"));
        if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
            int current = is_current(*fd, name);

            if (current == 0) {
                close(*fd);
                continue;
            }
            if (current < 0) { /* asking again would be asking for ever */
                rc = tr_fail(err, TR_IO, "%s: cannot be looked at: %s; check "
                             "the disk, or choose another folder with --store",
                             name, strerror(errno));
                break;
            }
            if (write_holder(*fd, task))
                return TR_OK;
            rc = tr_fail(err, TR_IO, "%s: cannot be written: %s; free space, "
                         "or choose another folder with --store", name,
                         strerror(errno));
            break;
        }
        if (errno == EINTR) { /* no answer */
            close(*fd);
            continue;
        }
        if (errno != EWOULDBLOCK) {
            rc = tr_fail(err, TR_IO, "%s: cannot be locked: %s; choose a "
                         "folder on a local disk with --store", name,
                         strerror(errno));
            break;
        }
        if (flock(*fd, LOCK_SH | LOCK_NB) != 0) {
            struct tr_holder who;

            read_holder(*fd, &who);
            rc = tr_lock_held(db_path, &who, waits, err);
            break;
        }
        /* Shared by others, so only read. */
        if (waits || waited_ms >= READER_MS) {
            rc = held_by_readers(db_path, waits, err);
            break;
        }
        tr_lock_drop(*fd);
        if (nanosleep(&pause, NULL) != 0) {
            *fd = -1;
            return tr_fail(err, TR_STOPPED, "stopped while waiting for who "
                           "reads %s", db_path);
        }
        waited_ms += POLL_READER_MS;
    }
    tr_lock_drop(*fd);
    *fd = -1;
    return rc;
}

void tr_lock_drop(int fd)
{
    if (fd < 0)
        return;
    flock(fd, LOCK_UN);
    close(fd);
}

bool tr_lock_share(const char *db_path, int *fd, struct tr_holder *who)
{
    char name[LOCK_PATH];

    *who = (struct tr_holder){0};
    lock_path(name, db_path);
    /* O_NONBLOCK: a planted FIFO must not stall. */
    *fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0 || flock(*fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return true;
    read_holder(*fd, who);
    close(*fd);
    *fd = -1;
    return false;
}
