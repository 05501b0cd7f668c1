/* joint.c - a small file that several processes change, one at a time.
 *
 * The lock is a file of its own, because the file itself is replaced: written
 * beside, synced, renamed, and the folder synced.
 *
 * SPDX-License-Identifier: MIT */
#include "store/joint.h"

#include "base/clock.h"
#include "base/dirs.h"
#include "store/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    PAUSE_MS = 5,
    STUCK_S = 10 /* nothing is written for so long: its holder is stopped */
};

static int cannot(const char *path, const char *what, struct tr_err *err)
{
    return tr_fail(err, TR_IO, "%s cannot be %s: %s; without it the budget "
                   "cannot be kept over several runs", path, what,
                   strerror(errno));
}

static int read_all(const char *path, struct tr_buf *text, struct tr_err *err)
{
    /* O_NONBLOCK: a planted FIFO must not stall. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const char *planted;
    char part[4096];
    ssize_t n = 0;

    if (fd < 0)
        return errno == ENOENT ? TR_OK : cannot(path, "read", err);
    errno = tr_not_ours(fd, &planted);
    if (errno) {
        int rc = cannot(path, "read", err);

        close(fd);
        return rc;
    }
    if (planted) {
        close(fd);
        return tr_fail(err, TR_CONFIG, "%s %s, and is where the budget is "
                       "kept over several runs: remove it, or choose another "
                       "folder with --store", path, planted);
    }
    while ((n = read(fd, part, sizeof part)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0 && text->n <= TR_JOINT_BYTES_MAX)
            tr_buf_add(text, part, (size_t)n);
    close(fd);
    if (n < 0)
        return cannot(path, "read", err);
    return tr_buf_ok(text) ? TR_OK
                           : tr_fail(err, TR_NOMEM, "out of memory for %s",
                                     path);
}

/* While the file changes others have their turn, and ours comes. Pauses count
 * and not the time that passes: we may have been suspended together with the
 * holder. Its lock is not taken from it, as that of share/share.c is: what it
 * writes when it goes on is money. */
static int take_turn(const struct tr_joint *j, const char *lock,
                     struct tr_err *err)
{
    struct stat seen = {0}, now;
    int waited_ms = 0;

    while (flock(j->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        struct timespec pause = {0, PAUSE_MS * TR_MS};

        if (errno == EINTR) /* no answer */
            continue;
        if (errno != EWOULDBLOCK)
            return cannot(lock, "locked", err);
        if (stat(j->path, &now) == 0 && (now.st_ino != seen.st_ino ||
                                         now.st_mtime != seen.st_mtime)) {
            seen = now;
            waited_ms = 0;
        }
        if (waited_ms >= STUCK_S * 1000)
            return tr_fail(err, TR_STOPPED, "another run holds %s and has "
                           "done nothing for %d s: let it go on (it may be "
                           "suspended), or end it, and run the same command "
                           "again", lock, STUCK_S);
        while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
            ; /* who tells us to stop is heard when the step is over */
        waited_ms += PAUSE_MS;
    }
    return TR_OK;
}

int tr_joint_open(struct tr_joint *j, const char *folder, const char *name,
                  struct tr_buf *text, struct tr_err *err)
{
    char lock[4210];
    int rc;

    j->lock_fd = -1;
    if ((size_t)snprintf(j->path, sizeof j->path, "%s/%s", folder, name) >=
        sizeof j->path)
        return tr_fail(err, TR_CANTCREATE, "--store: the path is too long");
    snprintf(lock, sizeof lock, "%s.lock", j->path);
    j->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->lock_fd < 0)
        return cannot(lock, "made", err);
    rc = take_turn(j, lock, err);
    return rc == TR_OK ? read_all(j->path, text, err) : rc;
}

bool tr_joint_exists(const char *folder, const char *name)
{
    char path[4200];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static bool write_all(int fd, struct tr_str text)
{
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);

        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            text = tr_str(text.p + n, text.n - (size_t)n);
    }
    return true;
}

int tr_joint_write(struct tr_joint *j, struct tr_str text, struct tr_err *err)
{
    char next[4210];
    bool ok;
    int fd;

    snprintf(next, sizeof next, "%s.new", j->path);
    unlink(next); /* of a process that died while writing */
    fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cannot(next, "made", err);
    ok = write_all(fd, text) && fsync(fd) == 0;
    close(fd);
    if (!ok || rename(next, j->path) != 0)
        return cannot(next, "written", err);
    errno = tr_dirs_sync(j->path);
    return errno ? cannot(j->path, "written", err) : TR_OK;
}

void tr_joint_close(struct tr_joint *j)
{
    tr_lock_drop(j->lock_fd);
    j->lock_fd = -1;
}

bool tr_store_in_use(const char *folder, const struct tr_key *task)
{
    char path[4200], hex[33];
    struct tr_holder who;
    int fd = -1;
    bool is_free;

    tr_key_hex(task, 16, hex);
    snprintf(path, sizeof path, "%s/%s.db", folder, hex);
    is_free = tr_lock_share(path, &fd, &who);
    tr_lock_drop(fd);
    return !is_free;
}
