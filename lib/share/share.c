/* share.c - leases of the processes of this machine that use the same key.
 *
 * Every access is one short flock(): read all, decide, write one's own record.
 * The lock is the kernel's and goes with its process. A record has a check
 * value and lies within one page; one that is torn, foreign, forged or says
 * what cannot be is an empty place. The file's name holds the boot, because
 * the monotonic clock and thus every time in it means something only within
 * one boot of one machine.
 *
 * SPDX-License-Identifier: MIT */
#include "share/share.h"

#include "base/clock.h"
#include "base/dirs.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAME_HEX = 32,
    OLD_S = 2 * 24 * 3600,  /* a file nobody wrote to for so long is over */
    STUCK_S = 10,           /* a lock held so long: its owner is stopped */
    CLOSE_TRIES = 50
};
#define TAIL ".leases"
#define TIME_MAX (INT64_MAX / 4) /* seventy years of running, in ns */

/* 128 bytes: 32 of them in a page, none across two. */
struct record {
    struct tr_lease lease;  /* id 0: empty */
    int64_t pid;            /* for people who look */
    uint64_t check;
};
_Static_assert(sizeof(struct record) == 128, "records fill pages exactly");

struct tr_share {
    int folder, fd;         /* fd -1: not open */
    char path[4096];        /* the folder, for messages */
    char name[NAME_HEX + sizeof TAIL];
    uint64_t id;
    int slot;               /* ours in records, or -1 */
    int64_t busy_since;     /* first of the BUSY in a row, 0: none */
    int64_t stuck_ns;
    struct record records[TR_SHARE_SLOTS];
};

/* ---- names and checks ------------------------------- */

/* The same for every process until the machine starts again; "" where the
 * system does not tell. */
static void boot_name(char *out, size_t size)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : 0;

    out[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

static void choose_name(struct tr_share *s, const char *account)
{
    char boot[64], text[200];
    struct tr_key salt = tr_digest(NULL, tr_str_c("trommel leases 1")), key;

    boot_name(boot, sizeof boot);
    snprintf(text, sizeof text, "%s\n%s", account, boot);
    key = tr_digest(&salt, tr_str_c(text));
    tr_key_hex(&key, sizeof key.b, s->name);
    memcpy(s->name + NAME_HEX, TAIL, sizeof TAIL);
}

static uint64_t check_of(const struct record *r)
{
    struct tr_key key = tr_digest(NULL, tr_str((const char *)r,
                                               offsetof(struct record, check)));
    uint64_t check;

    memcpy(&check, key.b, sizeof check);
    return check;
}

/* A time far away, or what is no number, would spread through everything that
 * readers compute from it. */
static bool is_sane(const struct tr_lease *l)
{
    const int64_t times[] = {l->beat_at, l->rate_at, l->refused_at,
                             l->refused_sent_at, l->hold_until};
    bool sane = true;

    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        sane = sane && times[i] >= 0 && times[i] < TIME_MAX;
    for (int k = 0; k < TR_LIMIT_KINDS; k++)
        sane = sane && l->want[k] >= 0 && l->want[k] <= 1 &&
               l->part[k] >= 0 && l->part[k] <= 1 && l->rate[k] >= 0 &&
               l->rate[k] <= TR_LEASE_UNITS_MAX && l->sent[k] >= 0 &&
               l->sent[k] <= TR_LEASE_UNITS_MAX;
    return sane;
}

static bool is_whole(const struct record *r)
{
    return r->lease.id && r->check == check_of(r) && is_sane(&r->lease);
}

/* ---- the file ------------------------------- */

/* Files of earlier boots and forgotten accounts. */
static void sweep(const struct tr_share *s)
{
    int fd = dup(s->folder);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    struct stat sb;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return;
    }
    rewinddir(dir);
    while ((e = readdir(dir))) {
        size_t n = strlen(e->d_name);

        if (n == NAME_HEX + sizeof TAIL - 1 &&
            strcmp(e->d_name + NAME_HEX, TAIL) == 0 &&
            fstatat(s->folder, e->d_name, &sb, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(sb.st_mode) &&
            (int64_t)sb.st_mtime + OLD_S < tr_clock_wall_s())
            unlinkat(s->folder, e->d_name, 0);
    }
    closedir(dir);
}

static void drop(struct tr_share *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = s->slot = -1;
}

static int open_file(struct tr_share *s, struct tr_err *err)
{
    struct stat sb;
    int rc;

    s->fd = openat(s->folder, s->name,
                   O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                       O_NOCTTY, 0600);
    if (s->fd < 0 || fstat(s->fd, &sb) != 0)
        rc = tr_fail(err, TR_IO, "%s/%s: %s", s->path, s->name,
                     strerror(errno));
    else if (!S_ISREG(sb.st_mode) || sb.st_uid != geteuid() ||
             sb.st_nlink > 1)
        rc = tr_fail(err, TR_IO, "%s/%s: not a file of this user alone",
                     s->path, s->name);
    else
        rc = TR_OK;
    if (rc != TR_OK) {
        drop(s);
        return rc;
    }
    if (sb.st_mode & 077)
        fchmod(s->fd, 0600);
    if (!sb.st_size)
        sweep(s);
    return TR_OK;
}

/* Somebody may have removed or replaced the file under its name. */
static bool is_current(const struct tr_share *s)
{
    struct stat ours, there;

    return fstat(s->fd, &ours) == 0 &&
           fstatat(s->folder, s->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* A process that was stopped while it held the lock holds up nobody for ever:
 * the others take a new file, and it finds that when it goes on. */
static void leave_stuck(struct tr_share *s)
{
    int64_t now = tr_clock_mono_ns();

    if (!s->busy_since) {
        s->busy_since = now;
    } else if (now - s->busy_since > s->stuck_ns) {
        if (is_current(s))
            unlinkat(s->folder, s->name, 0);
        drop(s);
        s->busy_since = 0;
    }
}

static int lock(struct tr_share *s, struct tr_err *err)
{
    for (int tries = 0; tries < 3; tries++) {
        int rc = s->fd < 0 ? open_file(s, err) : TR_OK;

        if (rc != TR_OK)
            return rc;
        if (flock(s->fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK && errno != EINTR)
                return tr_fail(err, TR_IO, "%s/%s: cannot be locked: %s",
                               s->path, s->name, strerror(errno));
            leave_stuck(s);
            return TR_SHARE_BUSY;
        }
        s->busy_since = 0;
        if (is_current(s))
            return TR_OK;
        drop(s);
    }
    return TR_SHARE_BUSY;
}

static int write_record(struct tr_share *s, int slot, struct record *r,
                        struct tr_err *err)
{
    off_t at = (off_t)((size_t)slot * sizeof *r);

    r->check = check_of(r);
    if (pwrite(s->fd, r, sizeof *r, at) == (ssize_t)sizeof *r)
        return TR_OK;
    return tr_fail(err, TR_IO, "%s/%s: cannot be written: %s", s->path,
                   s->name, strerror(errno));
}

/* ---- open, get, put, close ------------------------------- */

int tr_share_open(struct tr_share **out, const struct tr_share_opts *opts,
                  struct tr_err *err)
{
    const char *folder = opts->folder;
    struct tr_share *s = tr_alloc(sizeof *s);
    struct stat sb;
    int rc = TR_OK, bad;

    *out = NULL;
    if (!s)
        return tr_fail(err, TR_NOMEM, "out of memory");
    s->folder = s->fd = s->slot = -1;
    snprintf(s->path, sizeof s->path, "%s", folder);
    s->stuck_ns = opts->stuck_ns ? opts->stuck_ns : STUCK_S * TR_S;
    choose_name(s, opts->account);
    do
        tr_random_fill(&s->id, sizeof s->id);
    while (!s->id);
    bad = tr_dirs_make(folder);
    if (bad)
        TRY(tr_fail(err, TR_IO, "%s: %s", folder, strerror(bad)));
    s->folder = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->folder < 0 || fstat(s->folder, &sb) != 0)
        TRY(tr_fail(err, TR_IO, "%s: %s", folder, strerror(errno)));
    if (sb.st_uid != geteuid() || (sb.st_mode & 022))
        TRY(tr_fail(err, TR_IO, "%s: others may write there", folder));
    TRY(open_file(s, err));
    *out = s;
    s = NULL;
out:
    tr_share_close(s);
    return rc;
}

uint64_t tr_share_id(const struct tr_share *s)
{
    return s->id;
}

int tr_share_get(struct tr_share *s, struct tr_lease *all, uint32_t *n,
                 struct tr_err *err)
{
    ssize_t got;
    int rc = lock(s, err);

    *n = 0;
    if (rc != TR_OK)
        return rc;
    memset(s->records, 0, sizeof s->records);
    got = pread(s->fd, s->records, sizeof s->records, 0);
    if (got < 0) {
        flock(s->fd, LOCK_UN);
        return tr_fail(err, TR_IO, "%s/%s: cannot be read: %s", s->path,
                       s->name, strerror(errno));
    }
    s->slot = -1;
    for (int i = 0; i < TR_SHARE_SLOTS; i++) {
        struct record *r = &s->records[i];

        if (!is_whole(r))
            *r = (struct record){0};
        else if (r->lease.id == s->id)
            s->slot = i;
        else
            all[(*n)++] = r->lease;
    }
    return TR_OK;
}

int tr_share_put(struct tr_share *s, const struct tr_lease *mine,
                 int64_t live_ns, bool *no_place, struct tr_err *err)
{
    struct record r = {.lease = *mine, .pid = getpid()};
    int rc = TR_OK;

    r.lease.id = s->id;
    for (int i = 0; i < TR_SHARE_SLOTS && s->slot < 0; i++) {
        const struct record *there = &s->records[i];
        int64_t age = mine->beat_at - there->lease.beat_at;

        if (!there->lease.id || age > live_ns || age < -live_ns)
            s->slot = i;
    }
    *no_place = s->slot < 0;
    if (!*no_place)
        rc = write_record(s, s->slot, &r, err);
    flock(s->fd, LOCK_UN);
    return rc;
}

/* What was learned stays readable; the lease itself is over. */
static void end_lease(struct tr_share *s)
{
    struct tr_lease *all = tr_array(TR_SHARE_SLOTS, sizeof *all);
    struct tr_err ignored;
    uint32_t n;
    int rc = TR_SHARE_BUSY;

    for (int i = 0; all && i < CLOSE_TRIES && rc == TR_SHARE_BUSY; i++) {
        rc = tr_share_get(s, all, &n, &ignored);
        if (rc == TR_SHARE_BUSY)
            usleep(1000);
    }
    if (rc == TR_OK && s->slot >= 0) {
        struct record r = s->records[s->slot];

        r.lease.beat_at = 0;
        write_record(s, s->slot, &r, &ignored);
    }
    if (rc == TR_OK)
        flock(s->fd, LOCK_UN);
    tr_free(all);
}

void tr_share_close(struct tr_share *s)
{
    if (!s)
        return;
    if (s->fd >= 0 && s->slot >= 0)
        end_lease(s);
    drop(s);
    if (s->folder >= 0)
        close(s->folder);
    tr_free(s);
}
