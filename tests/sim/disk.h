/* disk.h - a disk in memory that keeps what was synced.
 *
 *   disk.c   files, their names, what a power cut leaves of them
 *   vfs.c    the two doors to it: SQLite's VFS, and the calls of libc that
 *            the store makes beside it; faults and deaths strike there
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_SIM_DISK_H
#define TR_SIM_DISK_H

#include "base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIM_NAMES = 8,        /* the store has a file, a log, a journal, a lock */
    SIM_NAME_BYTES = 72,
    SIM_SECTOR = 512,     /* written whole or not at all */
    SIM_NO_FILE = -1
};

struct sim_bytes {
    unsigned char *p;
    size_t n, cap;
};

/* A change that nobody has synced. */
struct sim_late {
    size_t at;            /* of the data; the new size when there is none */
    struct sim_bytes data;
    bool cut;             /* it is a truncation */
};

struct sim_file {
    struct sim_bytes seen; /* what processes read */
    struct sim_bytes kept; /* what the medium holds for certain */
    struct sim_late *late;
    size_t late_n, late_cap;
    int users;            /* open handles */
    bool in_use;
    bool lied;            /* a sync failed: what is seen may not be kept */
};

/* A change of a name that no sync of the folder has followed. */
struct sim_entry {
    int file;             /* it stands for this one now, or for SIM_NO_FILE */
    int rename;           /* > 0: a half of this rename, which a power cut
                             leaves whole */
};

/* A name and the file behind it, then its changes since the folder was synced,
 * in their order. */
struct sim_name {
    char text[SIM_NAME_BYTES];
    int file, kept;       /* places, or SIM_NO_FILE */
    struct sim_entry *late;
    size_t late_n, late_cap;
};

struct sim_disk {
    struct sim_file *files;
    int file_n;
    struct sim_name names[SIM_NAMES];
    int name_n;
    int renames;
    uint64_t syncs;       /* what is kept has changed so often */
};

/* What a power cut did. */
struct sim_cut {
    int64_t lost, torn;   /* changes that are gone, or partly */
    int64_t names_lost, names_back;
};

void sim_disk_release(struct sim_disk *d);
/* A disk of its own, which nobody has open: with what processes see, or to be
 * cut from the power at once. */
void sim_disk_copy(struct sim_disk *out, const struct sim_disk *d, bool cut);
/* The file of that name or SIM_NO_FILE; create: makes one. */
int sim_disk_find(struct sim_disk *d, const char *name, bool create);
/* The file behind from stands behind to. */
void sim_disk_rename(struct sim_disk *d, const char *from, const char *to);
void sim_disk_unlink(struct sim_disk *d, const char *name);
/* What is left of names and files when the power goes now. rng NULL: nothing
 * that was not synced. */
void sim_disk_power_cut(struct sim_disk *d, struct tr_rng *rng,
                        struct sim_cut *cut);
/* Has a sync failed? Then memory may be short, and what is seen of such files
 * is read from the medium again. */
bool sim_disk_lied(const struct sim_disk *d);
void sim_disk_evict(struct sim_disk *d);
void sim_disk_sync_names(struct sim_disk *d);

void sim_file_write(struct sim_file *f, const void *data, size_t n, size_t at);
size_t sim_file_read(const struct sim_file *f, void *out, size_t n, size_t at);
void sim_file_truncate(struct sim_file *f, size_t n);
void sim_file_release(struct sim_file *f);
/* rng NULL: all of it is kept. Else the sync fails and the kernel calls the
 * pages clean all the same: what reached the medium is drawn. */
void sim_file_sync(struct sim_disk *d, struct sim_file *f, struct tr_rng *rng);

#endif
