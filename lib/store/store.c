/* store.c - one store: opened, changed by commits, mended after a crash.
 *
 * Whatever is added between two commits stands in one open transaction. What
 * a commit holds is in known.c (verdicts and who said them) and attempt.c
 * (intents, outcomes, money); books.c stands above it (jobs and batches), and
 * sql.c below, with the statements of all. layout.c holds the file to its
 * tables, rescue.c keeps what comes after a commit that failed.
 *
 * SPDX-License-Identifier: MIT */
#include "store/sql.h"

#include "base/bounds.h"
#include "base/dirs.h"
#include "base/mem.h"
#include "store/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- small values ----------------------------------------------------- */

int tr_store_get(struct tr_store *st, const char *name, struct tr_buf *out,
                 bool *found, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_VALUE_GET];
    int rc;

    tr_sql_bind_text(st, S_VALUE_GET, 1, tr_str_c(name));
    rc = tr_sql_step(st, S_VALUE_GET, found, err);
    if (*found) {
        tr_buf_add(out, sqlite3_column_blob(s, 0),
                   (size_t)sqlite3_column_bytes(s, 0));
        if (!tr_buf_ok(out))
            rc = tr_fail(err, TR_NOMEM, "store: out of memory");
    }
    sqlite3_reset(s);
    return rc;
}

int tr_store_set(struct tr_store *st, const char *name, struct tr_str value,
                 struct tr_err *err)
{
    int rc = TR_OK;

    TRY(tr_sql_begin(st, err));
    tr_sql_bind_text(st, S_VALUE_SET, 1, tr_str_c(name));
    sqlite3_bind_blob64(st->stmts[S_VALUE_SET], 2, value.n ? value.p : "",
                        value.n, SQLITE_STATIC);
    TRY(tr_sql_run(st, S_VALUE_SET, err));
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

/* ---- one commit ------------------------------------------------------- */

/* Somebody moved or removed the file: what we commit there, no later run
 * would find. */
static int check_file(struct tr_store *st, struct tr_err *err)
{
    struct stat sb;

    if (!st->path[0] || (stat(st->path, &sb) == 0 && sb.st_ino == st->inode &&
                         sb.st_dev == st->device))
        return TR_OK;
    return tr_fail(err, TR_IO, "%s was moved or removed while in use: put it "
                   "back and run the same command again", st->path);
}

/* The number tells the next run when commits are missing (tr_layout_whole()).
 * And there is something to sync, whatever else the commit changes. */
static int count_commit(struct tr_store *st, struct tr_err *err)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, st->commits + 1);

    return tr_store_set(st, "commits", tr_str(text, (size_t)n), err);
}

int tr_store_commit(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_intent *intents,
                    size_t intent_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err)
{
    bool first = intent_count && st->path[0] && !st->in_use;
    int rc = TR_OK;

    if (!put_count && !intent_count && !out_count && !st->in_transaction &&
        !st->unsynced && !st->failed.code)
        return TR_OK;
    if (intent_count && st->path[0] && !st->failed.code)
        TRY(tr_rescue_reserve(&st->rescue, st->path, err));
    TRY(tr_sql_begin(st, err));
    TRY(check_file(st, err));
    TRY(count_commit(st, err));
    if (first)
        TRY(tr_store_set(st, TR_IN_USE, TR_STR("1"), err));
    TRY(tr_known_take(st, puts, put_count, err));
    TRY(tr_known_merge(st, err));
    TRY(tr_attempt_intend(st, intents, intent_count, err));
    TRY(tr_attempt_settle(st, outs, out_count, err));
    TRY(tr_sql_end(st, err));
    st->commits++;
    if (st->path[0])
        tr_lock_count(st->lock_fd, st->commits);
    if (first) /* into the file itself, before anything leaves */
        TRY(tr_sql_exec(st, "PRAGMA wal_checkpoint = PASSIVE", err));
    st->in_use |= first;
    st->unsynced = false;
    st->saved_count = 0;
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

int64_t tr_store_commits(const struct tr_store *st)
{
    return st->commits;
}

int tr_store_save(struct tr_store *st, const struct tr_store_put *puts,
                  size_t put_count, const struct tr_store_outcome *outs,
                  size_t out_count, struct tr_err *err)
{
    int rc = TR_OK;

    /* What other calls left pending is meant for a sync; a temporary store
     * never syncs. */
    if (st->in_transaction || (st->temporary && !st->simulated) ||
        st->put_count + put_count > TR_STAGED_MAX)
        return tr_store_commit(st, puts, put_count, NULL, 0, outs, out_count,
                               err);
    TRY(tr_sql_begin_with(st, false, err));
    TRY(check_file(st, err));
    TRY(tr_known_stage(st, puts, put_count, err));
    TRY(tr_attempt_settle(st, outs, out_count, err));
    TRY(tr_sql_end(st, err));
    st->unsynced = true;
    st->saved_count = st->put_count;
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

/* What was saved stands in the log and was never synced: a disk that failed
 * once may not keep it. The last ones, where there are more than half of the
 * room holds: the other half is for what is under way. */
static void rescue_saved(struct tr_store *st, size_t put_count)
{
    enum { FIT = TR_RESCUE_BYTES / 2 / TR_RESCUE_PUT_BYTES };
    size_t n = put_count < FIT ? FIT - put_count : 0;

    for (size_t i = st->saved_count > n ? st->saved_count - n : 0;
         i < st->saved_count; i++)
        tr_rescue_put(&st->rescue, &st->puts[i]);
}

int tr_store_rescue(struct tr_store *st, const struct tr_store_put *puts,
                    size_t put_count, const struct tr_store_outcome *outs,
                    size_t out_count, struct tr_err *err)
{
    int rc;

    for (size_t i = st->origins_kept; i < st->origin_count; i++)
        tr_rescue_origin(&st->rescue, (uint32_t)i, &st->origins[i]);
    for (size_t i = st->sets_kept; i < st->set_count; i++)
        tr_rescue_set(&st->rescue, (uint32_t)i, st->sets[i - st->sets_kept]);
    rescue_saved(st, put_count); /* before later answers to the same texts */
    for (size_t i = 0; i < put_count; i++)
        tr_rescue_put(&st->rescue, &puts[i]);
    for (size_t i = 0; i < out_count; i++)
        tr_rescue_outcome(&st->rescue, &outs[i]);
    rc = tr_rescue_write(&st->rescue, err);
    if (rc == TR_OK) {
        tr_sql_lists_kept(st);
        st->saved_count = 0;
    }
    return rc;
}

int tr_store_commit_pending(struct tr_store *st, struct tr_err *err)
{
    return tr_store_commit(st, NULL, 0, NULL, 0, NULL, 0, err);
}

/* ---- after a crash ---------------------------------------------------- */

/* An item of the rescue file, where it belongs. A reader only counts. What
 * names things that are neither here nor listed before it is meant for another
 * store, and waits for that. */
static int take_rescued(void *ctx, const struct tr_rescued *item,
                        struct tr_err *err)
{
    struct tr_store *st = ctx;
    struct tr_store_outcome outcome = item->outcome;
    int rc = TR_OK;

    if (!st->read_only)
        TRY(tr_sql_begin(st, err));
    switch (item->kind) {
    case TR_RESCUED_ORIGIN:
        if (item->index > st->origin_count)
            TRY(tr_rescue_foreign(st->path, err));
        if (item->index < st->origin_count) /* it was in the file after all */
            break;
        TRY(tr_known_add_origin(st, &item->origin, !st->read_only, err));
        break;
    case TR_RESCUED_SET:
        if (item->index > st->set_count)
            TRY(tr_rescue_foreign(st->path, err));
        if (item->index < st->set_count)
            break;
        TRY(tr_known_add_set(st, item->names, !st->read_only, err));
        break;
    case TR_RESCUED_PUT:
        if (!tr_known_origin(st, item->put.verdict.origin))
            TRY(tr_rescue_foreign(st->path, err));
        if (st->put_count < 2 * TR_STAGED_MAX)
            TRY(tr_known_take(st, &item->put, 1, err));
        break;
    case TR_RESCUED_OUTCOME:
        /* No job has begun yet. What was written before the sync failed may
         * be in the file as well: an attempt is counted once. */
        outcome.of_other = true;
        if (!st->read_only)
            TRY(tr_attempt_settle(st, &outcome, 1, err));
        break;
    }
out:
    return rc;
}

/* A process died between a save and the next commit, or its store failed. */
static int recover(struct tr_store *st, struct tr_err *err)
{
    bool rescued = false;
    int rc = TR_OK;

    TRY(tr_known_load_staged(st, err));
    if (st->path[0])
        TRY(tr_rescue_read(st->path, take_rescued, st, &rescued, err));
    if (st->read_only)
        return tr_known_count_staged(st, err);
    if (st->staged || rescued) {
        TRY(tr_sql_begin(st, err));
        TRY(tr_known_merge(st, err));
        TRY(tr_sql_end(st, err));
    }
    if (st->path[0])
        TRY(tr_rescue_clear(st->path, err));
out:
    return rc == TR_OK ? rc : tr_sql_give_up(st, rc, err);
}

/* Memory as the committed file has it. */
static int load(struct tr_store *st, struct tr_err *err)
{
    int rc = tr_known_load(st, err);

    return rc == TR_OK ? tr_attempt_load(st, err) : rc;
}

/* ---- opening ---------------------------------------------------------- */

/* Everything about a connection that was just opened. */
static int set_up(struct tr_store *st, struct tr_err *err)
{
    int64_t any;
    int rc = TR_OK;

    TRY(tr_layout_configure(st, err));
    TRY(tr_layout_whole(st, err));
    TRY(tr_layout_merge(st, err));
    TRY(tr_layout_check(st, err));
    TRY(tr_sql_prepare(st, err));
    TRY(load(st, err));
    TRY(recover(st, err));
    TRY(tr_sql_number(st, "SELECT EXISTS(SELECT 1 FROM answer)", &any, err));
    if (!any && !st->read_only)
        st->filter = tr_alloc(TR_FILTER_BYTES); /* without it: only slower */
out:
    return rc;
}

static int make_folder(const char *folder, struct tr_err *err)
{
    struct stat sb;
    int bad;

    if (strlen(folder) >= 4096 - 40)
        return tr_fail(err, TR_CANTCREATE, "--store: the path is too long");
    bad = tr_dirs_make(folder);
    if (bad)
        return tr_fail(err, TR_CANTCREATE, "%s: the folder for the store "
                       "cannot be made (%s): make it, or choose another with "
                       "--store", folder, strerror(bad));
    /* SQLite opens by name what we looked at by descriptor. */
    if (stat(folder, &sb) == 0 && (sb.st_mode & S_IWOTH) &&
        !(sb.st_mode & S_ISVTX))
        return tr_fail(err, TR_CANTCREATE, "%s: everybody may put other files "
                       "in the place of ours there; run chmod o-w on it, or "
                       "choose another with --store", folder);
    return TR_OK;
}

static int without_store(void *ctx, const struct tr_rescued *item,
                         struct tr_err *err)
{
    const struct tr_store *st = ctx;

    (void)item;
    return tr_rescue_foreign(st->path, err);
}

/* Made with its mode before SQLite sees it: never readable by others, not
 * even for a moment. SQLite gives its other files the same mode. */
static int open_file(struct tr_store *st, int *fd, struct tr_err *err)
{
    /* O_NONBLOCK: a planted FIFO must not stall. */
    int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                (st->read_only ? O_RDONLY : O_RDWR);
    int rc = TR_OK;
    bool any;

    *fd = open(st->path, flags, 0600);
    if (*fd < 0 && errno == ENOENT && !st->read_only) {
        TRY(tr_rescue_read(st->path, without_store, st, &any, err));
        /* Somebody took it away to begin anew. What a power cut leaves of the
         * new one must not be taken for the old one, emptied. */
        if (st->was_made)
            TRY(tr_lock_mark(st->lock_fd, false, st->path, err));
        st->was_made = false;
        *fd = open(st->path, flags | O_CREAT, 0600);
    }
    if (*fd < 0)
        rc = tr_fail(err, !st->read_only ? TR_CANTCREATE
                     : errno == ENOENT ? TR_NOINPUT : TR_IO,
                     "%s: %s; %s", st->path, strerror(errno),
                     tr_errno_remedy(errno, "choose another folder with "
                                            "--store"));
out:
    return rc;
}

static int no_disk(const char *path, struct tr_err *err)
{
    return tr_fail(err, TR_IO, "%s: %s; check the disk and run the same "
                   "command again", path, strerror(errno));
}

/* Bytes of a file, -1 where there is none; that nobody can say is no "none". */
static int size_of(const char *path, int64_t *n, struct tr_err *err)
{
    struct stat sb;
    bool found = stat(path, &sb) == 0;

    *n = found ? sb.st_size : -1;
    return found || errno == ENOENT ? TR_OK : no_disk(path, err);
}

/* What an earlier run left beside the file. */
static int look_beside(struct tr_store *st, bool empty, struct tr_err *err)
{
    char wal[4200], journal[4200];
    int64_t log, made;
    int rc = TR_OK;

    snprintf(wal, sizeof wal, "%s-wal", st->path);
    snprintf(journal, sizeof journal, "%s-journal", st->path);
    TRY(size_of(wal, &log, err));
    TRY(size_of(journal, &made, err));
    st->had_log = log >= 0;
    if (!empty)
        return TR_OK;
    /* SQLite would take an empty file for a new one: all would be paid again,
     * and what the file beside it still holds be thrown away. A rollback
     * journal is there only until the file is made: nothing was ever kept in
     * it. */
    if (st->was_made || (log > 0 && made <= 0))
        return tr_sql_damaged(st, "its content", err);
    /* SQLite removes both, the journal first: a log that is left would look
     * like one that holds something. */
    if (log > 0 && !st->read_only) {
        st->had_log = false;
        if (unlink(wal) < 0)
            return no_disk(wal, err);
    }
out:
    return rc;
}

static int make_file(struct tr_store *st, struct tr_err *err)
{
    int fd, rc = open_file(st, &fd, err);
    struct stat sb;

    if (rc != TR_OK)
        return rc;
    st->had_log = true; /* until we know: an empty one is not ours to remove */
    if (fstat(fd, &sb) != 0)
        rc = no_disk(st->path, err);
    else if (!S_ISREG(sb.st_mode))
        rc = tr_fail(err, TR_CONFIG, "%s is no regular file: remove it, or "
                     "choose another folder with --store", st->path);
    else if (sb.st_uid != geteuid())
        rc = tr_fail(err, TR_CONFIG, "%s belongs to another user, who may "
                     "have made up its answers: choose another folder with "
                     "--store", st->path);
    else if (sb.st_nlink > 1 && !st->read_only)
        rc = tr_fail(err, TR_CONFIG, "%s has a second name (hard link), under "
                     "which another run would not know of this one: remove "
                     "that name, or put a copy of the file in the place of "
                     "this one", st->path);
    else
        rc = look_beside(st, !sb.st_size, err);
    st->device = sb.st_dev;
    st->inode = sb.st_ino;
    if (rc == TR_OK && !sb.st_size && !st->read_only) {
        fchmod(fd, 0600); /* whatever the umask */
        tr_dirs_sync(st->path); /* SQLite syncs what matters */
    }
    close(fd); /* before SQLite locks it: closing would drop its locks */
    return rc;
}

static int open_files(struct tr_store *st, const struct tr_store_opts *o,
                      struct tr_err *err)
{
    char hex[33];
    int rc = TR_OK;

    if (!o->read_only)
        TRY(make_folder(o->folder, err));
    tr_key_hex(&o->task, 16, hex);
    if ((size_t)snprintf(st->path, sizeof st->path - 8, "%s/%s.db", o->folder,
                         hex) >= sizeof st->path - 8)
        TRY(tr_fail(err, TR_CANTCREATE, "--store: the path is too long"));
    if (o->read_only) {
        struct tr_holder who;

        if (!tr_lock_share(st->path, &st->lock_fd, &who))
            TRY(tr_lock_held(st->path, &who, false, err));
    } else {
        TRY(tr_lock_take(st->path, o->task_name, o->waits, &st->lock_fd,
                         err));
    }
    st->was_made = tr_lock_is_marked(st->lock_fd);
    TRY(make_file(st, err));
out:
    return rc;
}

/* SQLite follows no link that took the file's place since we looked at it,
 * and for that wants a folder without links in it. */
static int open_db(struct tr_store *st, const char *name, struct tr_err *err)
{
    char folder[PATH_MAX], real[2 * PATH_MAX];
    const char *slash = strrchr(name, '/');
    int flags = st->read_only ? SQLITE_OPEN_READONLY
                              : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    int rc;

    if (slash && st->path[0]) {
        snprintf(real, sizeof real, "%.*s/", (int)(slash - name), name);
        if (realpath(real, folder)) {
            snprintf(real, sizeof real, "%s%s", folder, slash);
            name = real;
        }
    }
    rc = sqlite3_open_v2(name, &st->db, flags | SQLITE_OPEN_NOMUTEX |
                                        SQLITE_OPEN_NOFOLLOW, NULL);
    if (!st->db)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    return rc == SQLITE_OK ? set_up(st, err) : tr_sql_fail(st, err, "opening");
}

static struct tr_store *fresh_store(void)
{
    struct tr_store *st = tr_alloc(sizeof *st);

    if (st) {
        st->lock_fd = -1;
        tr_rescue_init(&st->rescue);
    }
    return st;
}

int tr_store_open(struct tr_store **out, const struct tr_store_opts *o,
                  struct tr_err *err)
{
    struct tr_store *st = fresh_store();
    int rc = TR_OK;

    *out = NULL;
    if (!st)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->read_only = o->read_only;
    st->temporary = !o->folder;
    if (o->folder)
        TRY(open_files(st, o, err));
    TRY(open_db(st, st->path, err)); /* "": SQLite's own unlinked file */
    /* Now the tables are on the disk, and nothing was paid for yet. */
    if (o->folder && !o->read_only && !st->was_made)
        TRY(tr_lock_mark(st->lock_fd, true, st->path, err));
    if (o->task_name && !o->read_only)
        TRY(tr_store_set(st, "task", tr_str_c(o->task_name), err));
    st->opened = true;
    *out = st; /* handed over */
    st = NULL;
out:
    tr_store_close(st);
    return rc;
}

static bool read_hex(const char *hex, struct tr_key *key)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < 2 * sizeof key->b; i++) {
        const char *at = hex[i] ? strchr(digits, hex[i]) : NULL;

        if (!at)
            return false;
        key->b[i / 2] = (unsigned char)(key->b[i / 2] << 4 | (at - digits));
    }
    return true;
}

int tr_store_open_path(struct tr_store **out, const char *path, bool read_only,
                       struct tr_err *err)
{
    struct tr_store_opts o = {.read_only = read_only};
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char folder[4096] = ".";

    *out = NULL;
    if (slash)
        snprintf(folder, sizeof folder, "%.*s",
                 slash == path ? 1 : (int)(slash - path), path);
    if (!read_hex(name, &o.task) || access(path, F_OK) != 0)
        return tr_fail(err, TR_NOINPUT, "%s: no such store", path);
    o.folder = folder;
    return tr_store_open(out, &o, err);
}

int tr_store_open_memory(struct tr_store **out, struct tr_err *err)
{
    struct tr_store *st = fresh_store();
    int rc = TR_OK;

    *out = NULL;
    if (!st)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->temporary = st->simulated = true;
    TRY(open_db(st, ":memory:", err));
    *out = st;
    st = NULL;
out:
    tr_store_close(st);
    return rc;
}

int tr_store_crash(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    if (st->in_transaction)
        rc = tr_sql_exec(st, "ROLLBACK", err);
    st->in_transaction = false;
    st->failed.code = 0;
    st->job = st->round = 0;
    if (rc == TR_OK)
        rc = load(st, err);
    return rc == TR_OK ? recover(st, err) : rc;
}

/* In good order the log is merged and goes. Of a store that failed or was not
 * found whole it stays as after a kill: it is all there is. */
static void end_use(struct tr_store *st)
{
    struct tr_err ignored;

    if (st->in_transaction)
        sqlite3_exec(st->db, "ROLLBACK", NULL, NULL, NULL);
    st->in_transaction = false;
    if (st->in_use && !st->failed.code &&
        tr_store_set(st, TR_IN_USE, TR_STR("0"), &ignored) == TR_OK &&
        tr_store_commit_pending(st, &ignored) == TR_OK)
        st->in_use = false;
    if (!st->in_use && !st->failed.code)
        sqlite3_db_config(st->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
}

/* SQLite made an empty log while it opened what we then refused. With it the
 * file would look as if it had been there all the time. */
static void leave_no_log(const struct tr_store *st)
{
    char wal[sizeof st->path + 4];
    struct stat sb;

    snprintf(wal, sizeof wal, "%s-wal", st->path);
    if (!st->had_log && stat(wal, &sb) == 0 && sb.st_size == 0)
        unlink(wal);
}

void tr_store_close(struct tr_store *st)
{
    if (!st)
        return;
    if (st->opened && st->path[0] && !st->read_only)
        end_use(st);
    for (int i = 0; i < S_COUNT; i++)
        sqlite3_finalize(st->stmts[i]);
    sqlite3_close(st->db); /* rolls an open transaction back */
    if (st->db && st->path[0] && !st->opened)
        leave_no_log(st);
    tr_rescue_close(&st->rescue, st->path);
    tr_lock_drop(st->lock_fd);
    tr_known_forget(st);
    tr_free(st->origins);
    tr_free(st->tallies);
    tr_free(st->sets);
    tr_free(st->puts);
    tr_free(st->sorted);
    tr_free(st->blob);
    tr_free(st->lookups);
    tr_free(st->filter);
    tr_free(st);
}

const char *tr_store_path(const struct tr_store *st)
{
    return st->path;
}
