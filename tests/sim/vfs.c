/* vfs.c - the two doors to the simulated disk.
 *
 * SQLite comes in by a VFS, which is the default one of this program; it does
 * what SQLite's own for Unix does, down to when it syncs a folder. The store's
 * own calls of libc come in because they are linked to the functions here; what
 * is not below SIM_FOLDER goes on to libc. At every call the process may die,
 * and every call may fail. A dead process changes nothing any more.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who comes in: a world's process, or a reader (w NULL), whom nothing hits. */
static struct {
    struct sim_disk *disk;
    struct sim *w;
} door;

void sim_vfs_enter(struct sim_disk *disk, struct sim *w)
{
    door.disk = disk;
    door.w = w;
}

/* ---- what may happen at a call ------------------------------- */

enum outcome { GOES, FAILS, DIES, DEAD };

/* A call about `name`, and two numbers for the history. */
static enum outcome call(struct sim *w, enum sim_site site, const char *name,
                         int64_t a, int64_t b)
{
    static const char *const verbs[] = {"open", "read", "write", "sync",
                                        "truncate", "delete", "access", "size",
                                        "lock"};

    if (!w)
        return GOES;
    if (w->dead)
        return DEAD;
    sim_trace(w, "disk: %s %s %" PRId64 " %" PRId64, verbs[site - D_OPEN], name,
              a, b);
    sim_event(w, 'd', (int64_t)site << 40 | a, b);
    w->disk_calls++;
    if (w->disk_crash_in && --w->disk_crash_in == 0) {
        w->dead = true;
        w->marks[M_DIED_IN + site - D_OPEN]++;
        sim_trace(w, "*** crash in the disk: %s", sim_site_name(site));
        return DIES;
    }
    if (!sim_strike(w, site, w->o.rate[site] * 10, 1))
        return GOES;
    w->disk_struck = true;
    sim_trace(w, "*** the disk: %s", sim_site_name(site));
    return FAILS;
}

/* What of n bytes is done when a write ends early. */
static size_t part(struct sim *w, size_t n)
{
    return (size_t)tr_rng_below(&w->disk_rng, n / SIM_SECTOR + 1) * SIM_SECTOR;
}

/* What is written is part of the history. */
static int64_t hash_of(const unsigned char *p, size_t n)
{
    uint64_t h = n, word;

    for (; n >= sizeof word; p += sizeof word, n -= sizeof word) {
        memcpy(&word, p, sizeof word);
        h = (h ^ word) * UINT64_C(0x9fb21c651e98df25);
        h ^= h >> 35;
    }
    for (; n; n--)
        h = (h ^ *p++) * UINT64_C(0x100000001b3);
    return (int64_t)h;
}

/* 0 or what errno is to be. */
static int write_at(struct sim *w, const char *name, struct sim_file *f,
                    const void *data, size_t n, size_t at)
{
    enum outcome o = call(w, D_WRITE, name, (int64_t)at,
                          w ? hash_of(data, n) : 0);
    bool full = false;

    if (o == DEAD)
        return EIO;
    if (o == GOES && w) {
        if (sim_strike(w, D_STAYS_FULL, w->o.rate[D_STAYS_FULL] * 10, 1))
            w->disk_full = full = true;
        full |= sim_strike(w, D_FULL, w->o.rate[D_FULL] * 10, 1) != 0;
        full |= w->disk_full && at + n > f->seen.n;
        w->disk_struck |= full;
    }
    if (w && (full || o != GOES))
        n = part(w, n);
    if (n)
        sim_file_write(f, data, n, at);
    return full ? ENOSPC : o == GOES ? 0 : EIO;
}

static int sync_file(struct sim *w, const char *name, struct sim_disk *disk,
                     struct sim_file *f)
{
    enum outcome o = call(w, D_SYNC, name, (int64_t)f->late_n, 0);

    if (o == DEAD || o == DIES)
        return EIO;
    if (w && w->o.disk_ms)
        w->now += (int64_t)(tr_rng_unit(&w->disk_rng) * w->o.disk_ms * TR_MS);
    if (!w || !w->o.disk_lies)
        sim_file_sync(disk, f, o == FAILS ? &w->disk_rng : NULL);
    return o == FAILS ? EIO : 0;
}

static int truncate_to(struct sim *w, const char *name, struct sim_file *f,
                       size_t n)
{
    enum outcome o = call(w, D_TRUNCATE, name, (int64_t)n, 0);

    if (o != GOES)
        return EIO;
    sim_file_truncate(f, n);
    return 0;
}

/* ---- SQLite's door: files ------------------------------- */

struct handle {
    sqlite3_file base;    /* first: the two are cast to each other */
    struct sim_disk *disk;
    struct sim *w;
    int file;
    bool sync_folder;     /* at the first sync: a journal or log */
    bool gone_at_close;
    char name[SIM_NAME_BYTES];
};

static struct handle *handle_of(sqlite3_file *f)
{
    return (struct handle *)f;
}

static struct sim_file *file_of(sqlite3_file *f)
{
    return &handle_of(f)->disk->files[handle_of(f)->file];
}

static int x_close(sqlite3_file *f)
{
    struct handle *h = handle_of(f);

    file_of(f)->users--;
    if (h->gone_at_close && !(h->w && h->w->dead))
        sim_disk_unlink(h->disk, h->name);
    return SQLITE_OK;
}

static int x_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
    size_t got;

    if (call(handle_of(f)->w, D_READ, handle_of(f)->name, at, n) != GOES)
        return SQLITE_IOERR_READ;
    got = sim_file_read(file_of(f), out, (size_t)n, (size_t)at);
    memset((char *)out + got, 0, (size_t)n - got);
    return got == (size_t)n ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int x_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at)
{
    int bad = write_at(handle_of(f)->w, handle_of(f)->name, file_of(f), data,
                       (size_t)n, (size_t)at);

    return bad == ENOSPC ? SQLITE_FULL : bad ? SQLITE_IOERR_WRITE : SQLITE_OK;
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    return truncate_to(handle_of(f)->w, handle_of(f)->name, file_of(f),
                       (size_t)n)
        ? SQLITE_IOERR_TRUNCATE : SQLITE_OK;
}

static int x_sync(sqlite3_file *f, int flags)
{
    struct handle *h = handle_of(f);
    (void)flags;

    if (sync_file(h->w, h->name, h->disk, file_of(f)))
        return SQLITE_IOERR_FSYNC;
    if (h->sync_folder)
        sim_disk_sync_names(h->disk);
    h->sync_folder = false;
    return SQLITE_OK;
}

static int x_size(sqlite3_file *f, sqlite3_int64 *n)
{
    if (call(handle_of(f)->w, D_SIZE, handle_of(f)->name, 0, 0) != GOES)
        return SQLITE_IOERR_FSTAT;
    *n = (sqlite3_int64)file_of(f)->seen.n;
    return SQLITE_OK;
}

static int x_lock(sqlite3_file *f, int level)
{
    (void)f;
    (void)level;
    return SQLITE_OK;
}

static int x_reserved(sqlite3_file *f, int *held)
{
    (void)f;
    *held = 0;
    return SQLITE_OK;
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
    (void)f;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int x_sector(sqlite3_file *f)
{
    (void)f;
    return 4096;
}

static int x_traits(sqlite3_file *f)
{
    (void)f;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE; /* as SQLite believes of Unix */
}

static const sqlite3_io_methods methods = {
    .iVersion = 1, /* no shared memory: the store must not ask for any */
    .xClose = x_close, .xRead = x_read, .xWrite = x_write,
    .xTruncate = x_truncate, .xSync = x_sync, .xFileSize = x_size,
    .xLock = x_lock, .xUnlock = x_lock, .xCheckReservedLock = x_reserved,
    .xFileControl = x_control, .xSectorSize = x_sector,
    .xDeviceCharacteristics = x_traits,
};

/* ---- SQLite's door: names ------------------------------- */

static const char *name_of(const char *path)
{
    size_t n = strlen(SIM_FOLDER);

    if (!path || strncmp(path, SIM_FOLDER, n) != 0)
        return NULL;
    return path[n] == '/' ? path + n + 1 : path + n;
}

static int x_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f,
                  int flags, int *flags_out)
{
    struct handle *h = handle_of(f);
    const char *name = name_of(path);
    (void)vfs;

    *h = (struct handle){.disk = door.disk, .w = door.w};
    if (!name || call(h->w, D_OPEN, name, 0, 0) != GOES)
        return SQLITE_CANTOPEN;
    h->file = sim_disk_find(h->disk, name, flags & SQLITE_OPEN_CREATE);
    if (h->file == SIM_NO_FILE)
        return SQLITE_CANTOPEN;
    snprintf(h->name, sizeof h->name, "%s", name);
    h->gone_at_close = flags & SQLITE_OPEN_DELETEONCLOSE;
    h->sync_folder = (flags & SQLITE_OPEN_CREATE) &&
                     (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL));
    h->disk->files[h->file].users++;
    h->base.pMethods = &methods;
    if (flags_out)
        *flags_out = flags;
    return SQLITE_OK;
}

static int x_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
    const char *name = name_of(path);
    (void)vfs;

    if (!name || sim_disk_find(door.disk, name, false) == SIM_NO_FILE)
        return SQLITE_IOERR_DELETE_NOENT;
    if (call(door.w, D_DELETE, name, 0, 0) != GOES)
        return SQLITE_IOERR_DELETE;
    sim_disk_unlink(door.disk, name);
    if (sync)
        sim_disk_sync_names(door.disk);
    return SQLITE_OK;
}

static int x_access(sqlite3_vfs *vfs, const char *path, int flags, int *yes)
{
    const char *name = name_of(path);
    int file;
    (void)vfs;

    if (!name || call(door.w, D_ACCESS, name, 0, 0) != GOES)
        return SQLITE_IOERR_ACCESS;
    file = sim_disk_find(door.disk, name, false);
    *yes = file != SIM_NO_FILE &&
           (flags != SQLITE_ACCESS_EXISTS || door.disk->files[file].seen.n);
    return SQLITE_OK;
}

static int x_full_path(sqlite3_vfs *vfs, const char *path, int n, char *out)
{
    (void)vfs;
    sqlite3_snprintf(n, out, "%s", path);
    return SQLITE_OK;
}

static int x_randomness(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    for (int i = 0; i < n; i++)
        out[i] = (char)(door.w ? tr_rng_next(&door.w->disk_rng) : 7);
    return n;
}

static int x_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    if (door.w)
        door.w->now += (int64_t)us * 1000;
    return us;
}

static int x_time(sqlite3_vfs *vfs, double *day)
{
    (void)vfs;
    *day = 2460000;
    return SQLITE_OK;
}

static int x_error(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    (void)n;
    (void)out;
    return 0;
}

void sim_vfs_init(void)
{
    static sqlite3_vfs vfs = {
        .iVersion = 1, .szOsFile = sizeof(struct handle), .mxPathname = 512,
        .zName = "sim", .xOpen = x_open, .xDelete = x_delete,
        .xAccess = x_access, .xFullPathname = x_full_path,
        .xRandomness = x_randomness, .xSleep = x_sleep,
        .xCurrentTime = x_time, .xGetLastError = x_error,
    };

    /* One thread, and nobody asks for its use of memory: a fifth less time. */
    sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_vfs_register(&vfs, 1);
}

/* ---- libc's door ------------------------------- */

enum { FD_FIRST = 1 << 20, FDS = 400 };

static struct fd {
    bool in_use;
    struct sim_disk *disk;
    struct sim *w;
    int file;              /* SIM_NO_FILE: the folder itself */
    struct sim_file *temp; /* instead: one without a name; owned */
    size_t at;             /* of the next read() or write() */
} fds[FDS];

static struct fd *fd_of(int fd)
{
    return fd >= FD_FIRST && fd < FD_FIRST + FDS ? &fds[fd - FD_FIRST] : NULL;
}

static struct sim_file *behind(const struct fd *f)
{
    return f->temp ? f->temp : &f->disk->files[f->file];
}

static void let_go(struct fd *f)
{
    if (f->temp)
        sim_file_release(f->temp);
    tr_free(f->temp);
    *f = (struct fd){.in_use = false};
}

static int free_fd(void)
{
    int i = 0;

    while (i < FDS && fds[i].in_use)
        i++;
    return i;
}

/* As libc reports it. */
static int answer(int bad)
{
    if (bad)
        errno = bad;
    return bad ? -1 : 0;
}

static int gate(struct sim *w, enum sim_site site, int bad)
{
    return answer(call(w, site, "", 1, 0) == GOES ? 0 : bad);
}

/* The function of libc by that name, for those who are linked to it. */
#define WRAP(type, name, args)                                                 \
    type __real_##name args;                                                   \
    type __wrap_##name args;                                                   \
    type __wrap_##name args

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    const char *name = name_of(path);
    mode_t mode = 0;
    int i, file = SIM_NO_FILE;

    if (flags & O_CREAT) {
        va_list ap;

        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (!name)
        return __real_open(path, flags, mode);
    if (gate(door.w, D_OPEN, EMFILE))
        return -1;
    if (*name && (flags & O_EXCL) &&
        sim_disk_find(door.disk, name, false) != SIM_NO_FILE)
        return answer(EEXIST);
    if (*name)
        file = sim_disk_find(door.disk, name, flags & O_CREAT);
    if (*name && file == SIM_NO_FILE)
        return answer(ENOENT);
    i = free_fd();
    if (i == FDS)
        return answer(EMFILE);
    fds[i] = (struct fd){true, door.disk, door.w, file, NULL, 0};
    if (file != SIM_NO_FILE)
        door.disk->files[file].users++;
    return FD_FIRST + i;
}

/* Where flags are not constant and there is no mode, a hardened libc comes in
 * here. */
WRAP(int, __open_2, (const char *path, int flags))
{
    return name_of(path) ? __wrap_open(path, flags)
                         : __real___open_2(path, flags);
}

WRAP(int, close, (int fd))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_close(fd);
    if (!f->temp && f->file != SIM_NO_FILE)
        f->disk->files[f->file].users--;
    let_go(f);
    return 0;
}

/* Files that are unlinked as soon as they are made: they end with their
 * process, and nobody ever finds them. */
WRAP(int, mkstemp, (char *path))
{
    struct fd *f;
    int i = free_fd();

    if (!name_of(path))
        return __real_mkstemp(path);
    if (gate(door.w, D_OPEN, EMFILE))
        return -1;
    if (i == FDS)
        return answer(EMFILE);
    f = &fds[i];
    *f = (struct fd){true, door.disk, door.w, SIM_NO_FILE,
                     tr_alloc(sizeof *f->temp), 0};
    return FD_FIRST + i;
}

WRAP(int, fcntl, (int fd, int how, ...))
{
    va_list ap;
    long what;

    va_start(ap, how);
    what = va_arg(ap, long);
    va_end(ap);
    return fd_of(fd) ? 0 : __real_fcntl(fd, how, what);
}

struct tr_str sim_temp_read(int fd)
{
    struct fd *f = fd_of(fd);

    return f && f->temp
        ? tr_str((const char *)f->temp->seen.p, f->temp->seen.n) : TR_STR("");
}

bool sim_temp_write(int fd, struct tr_str text)
{
    struct fd *f = fd_of(fd);

    if (!f || gate(f->w, D_WRITE, ENOSPC))
        return false;
    if (text.n)
        sim_file_write(f->temp, text.p, text.n, 0);
    return true;
}

static void describe(struct sim_disk *disk, int file, struct stat *sb)
{
    *sb = (struct stat){.st_mode = S_IFREG | 0600, .st_dev = 1, .st_nlink = 1,
                        .st_uid = geteuid(), .st_ino = (ino_t)file + 1};
    sb->st_size = (off_t)disk->files[file].seen.n;
}

/* The database is put somewhere else, for as long as we look. */
static bool moved(struct sim *w, const char *name)
{
    size_t n = strlen(name);
    bool is = w && !w->dead && n > 3 && strcmp(name + n - 3, ".db") == 0 &&
              sim_strike(w, D_MOVED, w->o.rate[D_MOVED] * 10, 1);

    if (is)
        w->disk_struck = true;
    return is;
}

WRAP(int, stat, (const char *restrict path, struct stat *restrict sb))
{
    const char *name = name_of(path);
    int file;

    if (!name)
        return __real_stat(path, sb);
    if (gate(door.w, D_SIZE, EIO))
        return -1;
    file = sim_disk_find(door.disk, name, false);
    if (file == SIM_NO_FILE || moved(door.w, name))
        return answer(ENOENT);
    describe(door.disk, file, sb);
    return 0;
}

WRAP(int, lstat, (const char *restrict path, struct stat *restrict sb))
{
    const char *name = name_of(path);
    int file;

    if (!name)
        return __real_lstat(path, sb);
    if (gate(door.w, D_SIZE, EIO))
        return -1;
    file = sim_disk_find(door.disk, name, false);
    if (file == SIM_NO_FILE)
        return answer(ENOENT);
    describe(door.disk, file, sb);
    return 0;
}

WRAP(int, fstat, (int fd, struct stat *sb))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_fstat(fd, sb);
    if (gate(f->w, D_SIZE, EIO))
        return -1;
    describe(f->disk, f->file, sb);
    return 0;
}

WRAP(int, fchmod, (int fd, mode_t mode))
{
    return fd_of(fd) ? 0 : __real_fchmod(fd, mode);
}

WRAP(int, fsync, (int fd))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_fsync(fd);
    if (f->file != SIM_NO_FILE)
        return answer(sync_file(f->w, "", f->disk,
                                &f->disk->files[f->file]));
    if (gate(f->w, D_SYNC, EIO))
        return -1;
    sim_disk_sync_names(f->disk);
    return 0;
}

WRAP(int, mkdir, (const char *path, mode_t mode))
{
    if (!name_of(path))
        return __real_mkdir(path, mode);
    return answer(EEXIST);
}

/* Nobody else is there: the lock is free, or cannot be had. */
WRAP(int, flock, (int fd, int how))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_flock(fd, how);
    if (f->w && sim_strike(f->w, D_INTERRUPT, f->w->o.rate[D_INTERRUPT] * 10,
                           1)) {
        f->w->disk_struck = true;
        return answer(EINTR);
    }
    return gate(f->w, D_LOCK, ENOLCK);
}

WRAP(int, ftruncate, (int fd, off_t n))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_ftruncate(fd, n);
    return answer(truncate_to(f->w, "", behind(f), (size_t)n));
}

/* Who holds the lock stands in its file, with the time and our number: what is
 * written there is no part of the history. */
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_pwrite(fd, data, n, at);
    if (gate(f->w, D_WRITE, ENOSPC))
        return -1;
    if (f->w && sim_strike(f->w, D_SHORT, f->w->o.rate[D_SHORT] * 10, 1)) {
        f->w->disk_struck = true;
        n /= 2;
    }
    sim_file_write(behind(f), data, n, (size_t)at);
    return (ssize_t)n;
}

WRAP(ssize_t, write, (int fd, const void *data, size_t n))
{
    struct fd *f = fd_of(fd);
    int bad;

    if (!f)
        return __real_write(fd, data, n);
    bad = write_at(f->w, "", behind(f), data, n, f->at);
    if (bad)
        return answer(bad);
    f->at += n;
    return (ssize_t)n;
}

WRAP(ssize_t, read, (int fd, void *out, size_t n))
{
    struct fd *f = fd_of(fd);
    size_t got;

    if (!f)
        return __real_read(fd, out, n);
    if (gate(f->w, D_READ, EIO))
        return -1;
    got = sim_file_read(behind(f), out, n, f->at);
    f->at += got;
    return (ssize_t)got;
}

/* Room is not data: what is written into it later finds the disk full no more
 * than the pwrite() above, and until then the file is as short as it was. */
WRAP(int, posix_fallocate, (int fd, off_t at, off_t n))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_posix_fallocate(fd, at, n);
    if (f->w && f->w->disk_full)
        return ENOSPC;
    return call(f->w, D_WRITE, "", (int64_t)n, 0) == GOES ? 0 : EIO;
}

WRAP(int, unlink, (const char *path))
{
    const char *name = name_of(path);

    if (!name)
        return __real_unlink(path);
    if (sim_disk_find(door.disk, name, false) == SIM_NO_FILE)
        return 0; /* of mkstemp() */
    if (gate(door.w, D_DELETE, EIO))
        return -1;
    sim_disk_unlink(door.disk, name);
    return 0;
}

WRAP(int, rename, (const char *from, const char *to))
{
    const char *old = name_of(from), *new = name_of(to);

    if (!old || !new)
        return __real_rename(from, to);
    if (gate(door.w, D_DELETE, EIO))
        return -1;
    if (sim_disk_find(door.disk, old, false) == SIM_NO_FILE)
        return answer(ENOENT);
    sim_disk_rename(door.disk, old, new);
    return 0;
}

WRAP(ssize_t, pread, (int fd, void *out, size_t n, off_t at))
{
    struct fd *f = fd_of(fd);

    if (!f)
        return __real_pread(fd, out, n, at);
    if (gate(f->w, D_READ, EIO))
        return -1;
    return (ssize_t)sim_file_read(behind(f), out, n, (size_t)at);
}

WRAP(int, nanosleep, (const struct timespec *want, struct timespec *left))
{
    if (!door.w)
        return __real_nanosleep(want, left);
    door.w->now += want->tv_sec * TR_S + want->tv_nsec;
    return 0;
}

/* The machine or the process is gone, and so are its handles. */
void sim_vfs_forget(struct sim_disk *disk)
{
    for (int i = 0; i < FDS; i++)
        if (fds[i].disk == disk)
            let_go(&fds[i]);
    for (int i = 0; i < disk->file_n; i++)
        disk->files[i].users = 0;
}
