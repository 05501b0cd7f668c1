/* known.c - what is known: verdicts, who said them, label sets they name.
 *
 * Keys are digests, so the rows of a commit fall anywhere in the tree: they
 * are sorted first, and so are the keys of a look-up. Answers that are only
 * saved wait in the table `fresh`, one row for each save, and the next commit
 * puts them where they belong: a save writes a page or two instead of one for
 * each answer.
 *
 * The file may have been damaged. So every verdict and label set carries a
 * check of its own bits: a changed bit is an error, and a wrong label only
 * where the 13 bits of a verdict's check fit by chance.
 *
 * SPDX-License-Identifier: MIT */
#include "store/sql.h"

#include "base/bounds.h"
#include "base/mem.h"
#include "store/verdict.h"

#include <stdio.h>

/* ---- keys certainly not there ----------------------------------------- */

/* A Bloom filter, four bits in one 64-byte line: a store that was empty when
 * it was opened answers "unknown" without touching the tree. */
static unsigned char *line_of(const struct tr_store *st,
                              const struct tr_key *key)
{
    uint32_t h;

    memcpy(&h, key->b, sizeof h);
    return st->filter + (size_t)(h % (TR_FILTER_BYTES / 64)) * 64;
}

static bool filter_has(const struct tr_store *st, const struct tr_key *key)
{
    const unsigned char *line;

    if (!st->filter)
        return true;
    line = line_of(st, key);
    for (int i = 4; i < 12; i += 2) {
        unsigned bit = (key->b[i] | (unsigned)key->b[i + 1] << 8) & 511;

        if (!(line[bit / 8] >> (bit & 7) & 1))
            return false;
    }
    return true;
}

static void filter_add(struct tr_store *st, const struct tr_key *key)
{
    unsigned char *line;

    if (!st->filter)
        return;
    line = line_of(st, key);
    for (int i = 4; i < 12; i += 2) {
        unsigned bit = (key->b[i] | (unsigned)key->b[i + 1] << 8) & 511;

        line[bit / 8] |= (unsigned char)(1u << (bit & 7));
    }
}

/* ---- origins and label sets, in memory -------------------------------- */

/* Slot 0 is for verdicts without origin. */
static size_t slot_of(uint16_t origin)
{
    return origin == TR_NO_ORIGIN ? 0 : (size_t)origin + 1;
}

/* Room for one more origin and its tally. */
static int origin_room(struct tr_store *st, struct tr_err *err)
{
    int rc = tr_sql_room((void **)&st->origins, &st->origin_cap,
                         st->origin_count + 1, sizeof *st->origins, err);

    if (rc == TR_OK)
        rc = tr_sql_room((void **)&st->tallies, &st->tally_cap,
                         st->origin_count + 2, sizeof *st->tallies, err);
    if (rc == TR_OK)
        st->tallies[st->origin_count + 1] = (struct tally){0};
    return rc;
}

static int remember_set(struct tr_store *st, struct tr_str names,
                        struct tr_err *err)
{
    char *copy;
    size_t waiting = st->set_count - st->sets_kept;
    int rc = tr_sql_room((void **)&st->sets, &st->set_cap, waiting + 1,
                         sizeof *st->sets, err);

    if (rc != TR_OK)
        return rc;
    copy = tr_dup(names.n ? names.p : "", names.n);
    if (!copy)
        return tr_fail(err, TR_NOMEM, "store: out of memory");
    st->sets[waiting] = tr_str(copy, names.n);
    st->set_count++;
    return TR_OK;
}

void tr_known_forget(struct tr_store *st)
{
    tr_sql_lists_kept(st);
    st->origin_count = st->origins_kept = 0;
    st->set_count = st->sets_kept = 0;
}

/* ---- as the file has them --------------------------------------------- */

static int load_origins(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_ORIGINS];
    bool row;
    int rc = TR_OK;

    for (;;) {
        struct tr_origin *o;

        TRY(tr_sql_step(st, S_ORIGINS, &row, err));
        if (!row)
            break;
        TRY(origin_room(st, err));
        o = &st->origins[st->origin_count];
        *o = (struct tr_origin){
            .prompt_version = sqlite3_column_int(s, 4),
            .run_at = sqlite3_column_int64(s, 5),
        };
        if (sqlite3_column_int64(s, 0) != (int64_t)st->origin_count ||
            st->origin_count >= TR_NO_ORIGIN ||
            !tr_sql_copy(o->by, sizeof o->by, tr_sql_text(s, 1)) ||
            !tr_sql_copy(o->served, sizeof o->served, tr_sql_text(s, 2)) ||
            !tr_sql_copy(o->effort, sizeof o->effort, tr_sql_text(s, 3)))
            TRY(tr_sql_damaged(st, "the list of models", err));
        st->origin_count++;
    }
out:
    sqlite3_reset(s);
    return rc;
}

/* A set's names and its number, in one checkable integer. */
static int64_t set_digest(struct tr_str names, size_t number)
{
    struct tr_key key = tr_digest(NULL, names);

    return (int64_t)(tr_little_endian(key.b) + number);
}

int tr_store_sets(struct tr_store *st,
                  int (*each)(void *ctx, struct tr_str names,
                              struct tr_err *err),
                  void *ctx, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_SETS];
    bool row;
    int rc = TR_OK;

    for (size_t i = 0;; i++) {
        struct tr_str names;

        TRY(tr_sql_step(st, S_SETS, &row, err));
        if (!row)
            break;
        names = tr_sql_text(s, 1);
        if (sqlite3_column_int64(s, 0) != (int64_t)i ||
            sqlite3_column_int64(s, 2) != set_digest(names, i))
            TRY(tr_sql_damaged(st, "the list of label sets", err));
        TRY(each(ctx, names, err));
    }
out:
    sqlite3_reset(s);
    return rc;
}

static int count_set(void *ctx, struct tr_str names, struct tr_err *err)
{
    struct tr_store *st = ctx;

    (void)names;
    (void)err;
    st->sets_kept = ++st->set_count;
    return TR_OK;
}

static int load_tallies(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_TALLIES];
    bool row;
    int rc = TR_OK;

    for (;;) {
        int64_t slot;

        TRY(tr_sql_step(st, S_TALLIES, &row, err));
        if (!row)
            break;
        slot = sqlite3_column_int64(s, 0);
        if (slot < 0 || slot > (int64_t)st->origin_count)
            TRY(tr_sql_damaged(st, "the count of answers", err));
        st->tallies[slot] = (struct tally){sqlite3_column_int64(s, 1),
                                           sqlite3_column_int64(s, 2), false};
    }
out:
    sqlite3_reset(s);
    return rc;
}

int tr_known_load(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    tr_known_forget(st);
    TRY(tr_sql_room((void **)&st->tallies, &st->tally_cap, 1,
                    sizeof *st->tallies, err));
    st->tallies[0] = (struct tally){0};
    TRY(load_origins(st, err));
    TRY(tr_store_sets(st, count_set, st, err));
    st->origins_kept = st->origin_count;
    TRY(load_tallies(st, err));
out:
    return rc;
}

/* ---- one more --------------------------------------------------------- */

static bool same_origin(const struct tr_origin *a, const struct tr_origin *b)
{
    return a->run_at == b->run_at && a->prompt_version == b->prompt_version &&
           strcmp(a->by, b->by) == 0 && strcmp(a->served, b->served) == 0 &&
           strcmp(a->effort, b->effort) == 0;
}

/* The store has failed, but what comes now has a place to go. */
static bool rescues(const struct tr_store *st)
{
    return st->failed.code && st->rescue.fd >= 0;
}

/* The change of a list that finds the store failing: an answer waits for it
 * that is paid for, so it is made for the rescue alone; the next commit
 * fails. */
static bool goes_on(struct tr_store *st, int rc, const struct tr_err *err)
{
    tr_sql_give_up(st, rc, err);
    return rc != TR_NOMEM && rescues(st);
}

static int write_origin(struct tr_store *st, const struct tr_origin *o,
                        struct tr_err *err)
{
    int rc = tr_sql_begin(st, err);

    if (rc != TR_OK)
        return rc;
    tr_sql_bind_text(st, S_ORIGIN, 2, tr_str_c(o->by));
    tr_sql_bind_text(st, S_ORIGIN, 3, tr_str_c(o->served));
    tr_sql_bind_text(st, S_ORIGIN, 4, tr_str_c(o->effort));
    sqlite3_bind_int(st->stmts[S_ORIGIN], 5, o->prompt_version);
    sqlite3_bind_int64(st->stmts[S_ORIGIN], 6, o->run_at);
    return RUN(st, S_ORIGIN, err, (int64_t)st->origin_count);
}

int tr_known_add_origin(struct tr_store *st, const struct tr_origin *o,
                        bool write, struct tr_err *err)
{
    int rc = TR_OK;

    TRY(origin_room(st, err));
    if (write)
        TRY(write_origin(st, o, err));
    st->origins[st->origin_count++] = *o;
out:
    return rc;
}

bool tr_store_origins_scarce(const struct tr_store *st)
{
    return st->origin_count + TR_ORIGINS_LEAST > TR_NO_ORIGIN;
}

/* The last of those that asked the same model in the same way, if the same one
 * answered. An earlier one will not do: it would look as if the model that
 * answers had changed back. */
static const struct tr_origin *last_alike(const struct tr_store *st,
                                          const struct tr_origin *o,
                                          int64_t since)
{
    bool scarce = tr_store_origins_scarce(st);
    const struct tr_origin *found = NULL;
    int64_t last = since;

    for (size_t i = 0; i < st->origin_count; i++) {
        const struct tr_origin *old = &st->origins[i];

        if (old->run_at < last || old->prompt_version != o->prompt_version ||
            strcmp(old->by, o->by) != 0 || strcmp(old->effort, o->effort) != 0)
            continue;
        if (old->run_at > last)
            found = NULL;
        last = old->run_at;
        if (strcmp(old->served, o->served) == 0 || (scarce && !found))
            found = old;
    }
    return found;
}

static const struct tr_origin *find_origin(const struct tr_store *st,
                                           const struct tr_origin *o,
                                           int64_t since)
{
    for (size_t i = st->origin_count; i-- > 0; )
        if (same_origin(&st->origins[i], o))
            return &st->origins[i];
    return st->origin_count < TR_ORIGINS_OWN ? NULL : last_alike(st, o, since);
}

int tr_store_origin(struct tr_store *st, const struct tr_origin *o,
                    int64_t since, uint16_t *index, struct tr_err *err)
{
    const struct tr_origin *old = find_origin(st, o, since);
    int rc;

    if (old) {
        *index = (uint16_t)(old - st->origins);
        return TR_OK;
    }
    if (st->origin_count >= TR_NO_ORIGIN)
        return tr_fail(err, TR_CONFIG, "%s: %u runs have answers in this "
                       "store, and there is no number for another: leave "
                       "--fresh out, or begin a new store with --store",
                       tr_sql_name(st), TR_NO_ORIGIN);
    rc = tr_known_add_origin(st, o, !rescues(st), err);
    if (rc != TR_OK && goes_on(st, rc, err))
        rc = tr_known_add_origin(st, o, false, err);
    if (rc == TR_OK)
        *index = (uint16_t)(st->origin_count - 1);
    return rc;
}

const struct tr_origin *tr_store_origin_at(const struct tr_store *st,
                                           uint16_t index)
{
    return index < st->origin_count ? &st->origins[index] : NULL;
}

static int write_set(struct tr_store *st, struct tr_str names,
                     struct tr_err *err)
{
    int rc = tr_sql_begin(st, err);

    if (rc != TR_OK)
        return rc;
    tr_sql_bind_text(st, S_SET, 2, names);
    sqlite3_bind_int64(st->stmts[S_SET], 3, set_digest(names, st->set_count));
    return RUN(st, S_SET, err, (int64_t)st->set_count);
}

int tr_known_add_set(struct tr_store *st, struct tr_str names, bool write,
                     struct tr_err *err)
{
    int rc = TR_OK;

    if (write)
        TRY(write_set(st, names, err));
    TRY(remember_set(st, names, err));
out:
    return rc;
}

int tr_store_set_add(struct tr_store *st, struct tr_str names,
                     struct tr_err *err)
{
    int rc = tr_known_add_set(st, names, !rescues(st), err);

    if (rc != TR_OK && goes_on(st, rc, err))
        rc = tr_known_add_set(st, names, false, err);
    return rc;
}

/* ---- looking up ------------------------------------------------------- */

static void bind_key(struct tr_store *st, enum stmt which,
                     const struct tr_key *key)
{
    sqlite3_bind_blob(st->stmts[which], 1, key->b, sizeof key->b,
                      SQLITE_STATIC);
}

static int by_key(const void *a, const void *b)
{
    return tr_key_cmp(&((const struct lookup *)a)->key,
                      &((const struct lookup *)b)->key);
}

static bool counts(const struct tr_store *st, const struct tr_store_find *how,
                   const struct tr_verdict *v)
{
    const struct tr_origin *o = tr_store_origin_at(st, v->origin);
    int64_t at = o ? o->run_at : 0;

    /* 0 means no bound: a clock may show a year before 1970. */
    return (!how->not_before || at >= how->not_before) &&
           (v->why == TR_WHY_NONE || !how->failures_not_before ||
            at >= how->failures_not_before) &&
           (!o || o->prompt_version >= how->min_prompt);
}

bool tr_known_origin(const struct tr_store *st, uint16_t origin)
{
    return origin == TR_NO_ORIGIN || origin < st->origin_count;
}

static int find_one(struct tr_store *st, const struct tr_key *key,
                    struct tr_verdict *out, bool *found, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_FIND];
    int rc;

    bind_key(st, S_FIND, key);
    rc = tr_sql_step(st, S_FIND, found, err);
    if (*found &&
        (!tr_verdict_unpack(key, sqlite3_column_int64(s, 0),
                         sqlite3_column_int64(s, 1), out) ||
         !tr_known_origin(st, out->origin)))
        rc = tr_sql_damaged(st, "an answer", err);
    sqlite3_reset(s);
    return rc;
}

int tr_store_find(struct tr_store *st, const struct tr_store_find *how,
                  const struct tr_key *keys, size_t n,
                  struct tr_verdict *out, bool *found, struct tr_err *err)
{
    uint32_t asked = 0;
    bool held;
    int rc = tr_sql_room((void **)&st->lookups, &st->lookup_cap, n,
                         sizeof *st->lookups, err);

    if (rc != TR_OK)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        found[i] = false;
        if (filter_has(st, &keys[i]))
            st->lookups[asked++] = (struct lookup){keys[i], i};
    }
    if (!asked)
        return TR_OK;
    qsort(st->lookups, asked, sizeof *st->lookups, by_key);
    /* One read transaction for all of them, not one each: a row of it that
     * is not reset holds it open. */
    rc = tr_sql_step(st, S_HOLD, &held, err);
    for (uint32_t j = 0; j < asked && rc == TR_OK; j++) {
        uint32_t i = st->lookups[j].at;

        rc = find_one(st, &keys[i], &out[i], &found[i], err);
        found[i] = rc == TR_OK && found[i] && counts(st, how, &out[i]);
    }
    sqlite3_reset(st->stmts[S_HOLD]);
    return rc;
}

int64_t tr_store_count(const struct tr_store *st)
{
    int64_t n = 0;

    for (size_t i = 0; i <= st->origin_count; i++)
        n += st->tallies[i].answers;
    return n;
}

void tr_store_origins(const struct tr_store *st,
                      void (*each)(void *ctx, const struct tr_origin *o,
                                   int64_t verdicts),
                      void *ctx)
{
    for (size_t i = 0; i <= st->origin_count; i++)
        if (st->tallies[i].answers)
            each(ctx, i ? &st->origins[i - 1] : NULL, st->tallies[i].answers);
}

/* ---- putting ---------------------------------------------------------- */

/* By key; of equal ones the later put stands later, and stays. */
static int put_order(const void *a, const void *b)
{
    const struct tr_store_put *x = *(const struct tr_store_put *const *)a;
    const struct tr_store_put *y = *(const struct tr_store_put *const *)b;
    int order = tr_key_cmp(&x->key, &y->key);

    return order ? order : x < y ? -1 : 1;
}

static void tally(struct tr_store *st, const struct tr_verdict *v, int sign)
{
    struct tally *t = &st->tallies[slot_of(v->origin)];

    t->answers += sign;
    t->failures += v->why == TR_WHY_NONE ? 0 : sign;
    t->changed = true;
}

/* Most keys are new; one that is there is replaced. */
static int put_one(struct tr_store *st, const struct tr_store_put *put,
                   struct tr_err *err)
{
    struct tr_verdict old;
    enum stmt which = S_ADD;
    int64_t what, v;
    bool found;
    int rc = TR_OK;

    TR_ASSERT(tr_known_origin(st, put->verdict.origin));
    tr_verdict_pack(&put->key, &put->verdict, &what, &v);
    for (;;) {
        bind_key(st, which, &put->key);
        sqlite3_bind_int64(st->stmts[which], 2, what);
        sqlite3_bind_int64(st->stmts[which], 3, v);
        TRY(tr_sql_run(st, which, err));
        if (which == S_REPLACE || sqlite3_changes(st->db))
            break;
        TRY(find_one(st, &put->key, &old, &found, err));
        tally(st, &old, -1);
        which = S_REPLACE;
    }
    tally(st, &put->verdict, 1);
    filter_add(st, &put->key);
out:
    return rc;
}

/* A run that repeats an earlier one only reads, and has memory to spare; one
 * that asks needs it for its requests. */
static int shrink_cache(struct tr_store *st, struct tr_err *err)
{
    char pragma[60];
    int rc;

    if (st->cache_small)
        return TR_OK;
    snprintf(pragma, sizeof pragma, "PRAGMA cache_size = -%u",
             TR_STORE_CACHE_BYTES / 1024);
    rc = tr_sql_exec(st, pragma, err);
    sqlite3_db_release_memory(st->db);
    st->cache_small = rc == TR_OK;
    return rc;
}

int tr_known_take(struct tr_store *st, const struct tr_store_put *puts,
                  size_t n, struct tr_err *err)
{
    int rc = tr_sql_room((void **)&st->puts, &st->put_cap, st->put_count + n,
                         sizeof *st->puts, err);

    if (rc == TR_OK && n)
        memcpy(st->puts + st->put_count, puts, n * sizeof *puts);
    if (rc == TR_OK)
        st->put_count += n;
    return rc;
}

static int sort_puts(struct tr_store *st, struct tr_err *err)
{
    int rc = tr_sql_room((void **)&st->sorted, &st->sorted_cap, st->put_count,
                         sizeof *st->sorted, err);

    if (rc != TR_OK)
        return rc;
    for (size_t i = 0; i < st->put_count; i++)
        st->sorted[i] = &st->puts[i];
    qsort(st->sorted, st->put_count, sizeof *st->sorted, put_order);
    return TR_OK;
}

/* All puts go into `answer`. */
int tr_known_merge(struct tr_store *st, struct tr_err *err)
{
    int rc = TR_OK;

    if (!st->put_count)
        return TR_OK;
    TRY(shrink_cache(st, err));
    TRY(sort_puts(st, err));
    for (size_t i = 0; i < st->put_count; i++)
        TRY(put_one(st, st->sorted[i], err));
    for (size_t i = 0; i <= st->origin_count; i++) {
        struct tally *t = &st->tallies[i];

        if (t->changed)
            TRY(RUN(st, S_TALLY, err, (int64_t)i, t->answers, t->failures));
        t->changed = false;
    }
    if (st->staged)
        TRY(tr_sql_run(st, S_UNSTAGE, err));
    st->staged = false;
    st->put_count = 0;
out:
    return rc;
}

/* ---- saved and not yet put -------------------------------------------- */

/* A row of `fresh`: digest of what follows, then key, what and v (little-
 * endian) of each answer. */
enum { DIGEST_BYTES = sizeof(struct tr_key), STAGED_BYTES = 32 };

static struct tr_key digest_of(const unsigned char *answers, size_t n)
{
    return tr_digest(NULL, tr_str((const char *)answers, n));
}

static void write_integer(unsigned char *b, int64_t n)
{
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)((uint64_t)n >> 8 * i);
}

/* The puts become one row of `fresh`, and wait in memory. */
int tr_known_stage(struct tr_store *st, const struct tr_store_put *puts,
                   size_t n, struct tr_err *err)
{
    size_t size = n * STAGED_BYTES;
    struct tr_key digest;
    unsigned char *b;
    int rc = TR_OK;

    if (!n)
        return TR_OK;
    TRY(shrink_cache(st, err));
    TRY(tr_known_take(st, puts, n, err));
    TRY(tr_sql_room((void **)&st->blob, &st->blob_cap, DIGEST_BYTES + size, 1,
                    err));
    b = st->blob + DIGEST_BYTES;
    for (size_t i = 0; i < n; i++, b += STAGED_BYTES) {
        int64_t what, v;

        tr_verdict_pack(&puts[i].key, &puts[i].verdict, &what, &v);
        memcpy(b, puts[i].key.b, 16);
        write_integer(b + 16, what);
        write_integer(b + 24, v);
    }
    digest = digest_of(st->blob + DIGEST_BYTES, size);
    memcpy(st->blob, digest.b, DIGEST_BYTES);
    sqlite3_bind_blob64(st->stmts[S_STAGE], 1, st->blob, DIGEST_BYTES + size,
                        SQLITE_STATIC);
    TRY(tr_sql_run(st, S_STAGE, err));
    st->staged = true;
out:
    return rc;
}

/* One row of `fresh`, back into memory. */
static int unstage(struct tr_store *st, const unsigned char *blob, size_t n,
                   struct tr_err *err)
{
    static const char what_it_is[] = "the answers saved last";
    size_t count = (n - DIGEST_BYTES) / STAGED_BYTES;
    struct tr_key digest;
    int rc = TR_OK;

    if (n < DIGEST_BYTES || (n - DIGEST_BYTES) % STAGED_BYTES ||
        count > TR_STAGED_MAX - st->put_count)
        TRY(tr_sql_damaged(st, what_it_is, err));
    digest = digest_of(blob + DIGEST_BYTES, n - DIGEST_BYTES);
    if (memcmp(digest.b, blob, DIGEST_BYTES) != 0)
        TRY(tr_sql_damaged(st, what_it_is, err));
    for (size_t i = 0; i < count; i++) {
        const unsigned char *b = blob + DIGEST_BYTES + i * STAGED_BYTES;
        struct tr_store_put put;

        memcpy(put.key.b, b, sizeof put.key.b);
        if (!tr_verdict_unpack(&put.key, (int64_t)tr_little_endian(b + 16),
                            (int64_t)tr_little_endian(b + 24), &put.verdict) ||
            !tr_known_origin(st, put.verdict.origin))
            TRY(tr_sql_damaged(st, what_it_is, err));
        TRY(tr_known_take(st, &put, 1, err));
    }
out:
    return rc;
}

int tr_known_load_staged(struct tr_store *st, struct tr_err *err)
{
    sqlite3_stmt *s = st->stmts[S_STAGED];
    bool row;
    int rc = TR_OK;

    st->put_count = st->saved_count = 0;
    st->staged = false;
    for (;;) {
        TRY(tr_sql_step(st, S_STAGED, &row, err));
        if (!row)
            break;
        st->staged = true;
        TRY(unstage(st, sqlite3_column_blob(s, 0),
                    (size_t)sqlite3_column_bytes(s, 0), err));
    }
out:
    sqlite3_reset(s);
    return rc;
}

/* For a reader, who merges nothing. */
int tr_known_count_staged(struct tr_store *st, struct tr_err *err)
{
    int rc = st->put_count ? sort_puts(st, err) : TR_OK;

    for (size_t i = 0; i < st->put_count && rc == TR_OK; i++) {
        const struct tr_store_put *put = st->sorted[i];
        struct tr_verdict old;
        bool found;

        if (i + 1 < st->put_count &&
            tr_key_cmp(&put->key, &st->sorted[i + 1]->key) == 0)
            continue; /* replaced */
        rc = find_one(st, &put->key, &old, &found, err);
        if (rc == TR_OK && found)
            tally(st, &old, -1);
        tally(st, &put->verdict, 1);
    }
    return rc;
}
