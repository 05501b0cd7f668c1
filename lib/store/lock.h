/* lock.h - who holds a store: an advisory lock beside its file.
 *
 * The writer holds it exclusively for as long as its store is open. Readers
 * share it: ls and show for a moment, estimates and dry runs for as long as
 * they read their input. The kernel lets go of the lock when the process dies,
 * however it dies.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_STORE_LOCK_H
#define TR_STORE_LOCK_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct tr_holder {
    long pid;        /* 0: unknown */
    char since[32];  /* local time, for people */
    char task[200];  /* the task it works on */
};

/* Takes the lock of the store at db_path ("….db" gets "….lock") and writes
 * into it who we are; tr_lock_drop() lets go. Held by another run:
 * TR_STOPPED, or for who waits TR_LOCK_HELD with the words for it: ask again
 * from time to time. By readers: the same, but who does not wait gives them
 * two seconds, or until a signal comes. */
enum { TR_LOCK_HELD = 1 };
int tr_lock_take(const char *db_path, const char *task, bool waits, int *fd,
                 struct tr_err *err);
/* Whether there was a store once: durable when TR_OK comes back, and kept from
 * one holder to the next. Without an open lock (-1): not marked. */
bool tr_lock_is_marked(int fd);
int tr_lock_mark(int fd, bool marked, const char *db_path, struct tr_err *err);
/* How many commits of the store were durable at least, as its holders counted
 * them: one that has fewer has lost some. -1: nobody counted, or without an
 * open lock. Neither is durable itself: a power cut may leave an older number.
 * What a cut leaves of two is none. */
int64_t tr_lock_commits(int fd);
void tr_lock_count(int fd, int64_t commits);
/* For readers: false and who when a run holds it; else true, and *fd (-1 when
 * there is no lock file) keeps writers waiting until it is dropped. */
bool tr_lock_share(const char *db_path, int *fd, struct tr_holder *who);
/* Unlocks and closes; accepts -1. Closing alone would leave the lock to a child
 * that somebody made by fork() meanwhile, for as long as it lives. */
void tr_lock_drop(int fd);
/* TR_STOPPED, or TR_LOCK_HELD for who waits, with the sentence that names the
 * holder. */
int tr_lock_held(const char *db_path, const struct tr_holder *who, bool waits,
                 struct tr_err *err);

#endif
