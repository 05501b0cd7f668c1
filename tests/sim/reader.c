/* reader.c - a second reader of the store: plain SQL and the format, nothing
 * of lib/store.
 *
 * It works on a copy of the disk, as it is or as a power cut at this moment
 * may leave it: so it may look while a process lives, and changes nothing.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "base/digest.h"
#include "base/err.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { SETS_MAX = 256, ORIGINS_MAX = 256, STAGED_AT = 16, STAGED_BYTES = 32 };
#define COMBINED (INT64_C(1) << 32)

/* What stands in the tables that answers point to. */
struct lists {
    uint32_t sets[SETS_MAX];
    int set_count;
    int origins[ORIGINS_MAX]; /* the provider, -1: none of ours */
    int origin_count;
};

struct sim_key {
    struct tr_key key;
    int text, place;
};

static int bits_of(uint32_t mask)
{
    int n = 0;

    for (; mask; mask &= mask - 1)
        n++;
    return n;
}

/* Masks of two labels and more are numbered by how many they have, then by
 * their size. 0: there is none of that number. */
static uint32_t combination(const struct sim *w, int64_t number)
{
    for (int n = 2; n <= w->o.labels; n++)
        for (uint32_t mask = 0; mask < 1u << w->o.labels; mask++)
            if (bits_of(mask) == n && number-- == 0)
                return mask;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return memcmp(((const struct sim_key *)a)->key.b,
                  ((const struct sim_key *)b)->key.b, sizeof(struct tr_key));
}

struct tr_key sim_text_key(const struct sim *w, int place, int text)
{
    uint64_t party = sim_party(w, text);
    struct tr_key salt;
    char name[40];

    snprintf(name, sizeof name, "%s\n", sim_model(place));
    salt = tr_digest(NULL, tr_str_c(name));
    if (party)
        salt = tr_digest(&salt, tr_str((const char *)&party, sizeof party));
    return tr_digest(&salt, w->texts[text].text);
}

static void make_keys(struct sim *w)
{
    w->keys = tr_array((size_t)w->text_count * SIM_LANES + 1, sizeof *w->keys);
    for (int p = 0; p < w->o.lanes; p++)
        for (int i = 0; i < w->text_count; i++)
            w->keys[w->key_count++] = (struct sim_key){
                sim_text_key(w, p, i), i, p};
    qsort(w->keys, (size_t)w->key_count, sizeof *w->keys, by_key);
}

void sim_reader_release(struct sim *w)
{
    tr_free(w->keys);
    w->keys = NULL;
    w->key_count = 0;
}

static int64_t integer(const unsigned char *b)
{
    uint64_t n = 0;

    for (int i = 7; i >= 0; i--)
        n = n << 8 | b[i];
    return (int64_t)n;
}

static uint32_t mask_of(const struct sim *w, const char *names)
{
    uint32_t mask = 0;

    while (*names) {
        size_t n = strcspn(names, "|");

        for (int l = 0; l < w->o.labels; l++)
            if (strlen(w->label_names[l]) == n &&
                memcmp(w->label_names[l], names, n) == 0)
                mask |= 1u << l;
        names += n + (names[n] == '|');
    }
    return mask;
}

/* One answer: a label or set of labels (what > 0: the task's labels first, then
 * the table of sets; from 2^32 on the combinations), none of them (0), or a
 * failure; bits 31 to 46 of v say who said it. */
static void take(struct sim *w, const struct lists *l, const unsigned char *key,
                 int64_t what, int64_t v)
{
    struct sim_key want = {.text = 0}, *k;
    int origin = (int)(v >> 31 & 0xffff);
    uint32_t mask = 0;

    memcpy(want.key.b, key, sizeof want.key.b);
    k = bsearch(&want, w->keys, (size_t)w->key_count, sizeof *k, by_key);
    w->stored.answers++;
    if (!k) {
        sim_fail(w, "store", "holds an answer to a text that no row has");
        return;
    }
    if (k->text >= SIM_TEXTS_MAX)
        return;
    if (what < 0) {
        w->stored.said[k->text][k->place] = 0;
        return;
    }
    if (what > COMBINED)
        mask = combination(w, what - 1 - COMBINED);
    if ((what > w->o.labels + l->set_count && !mask) ||
        origin >= l->origin_count) {
        sim_fail(w, "store", "an answer names set %lld of %d, origin %d of %d",
                 (long long)what, w->o.labels + l->set_count, origin,
                 l->origin_count);
        return;
    }
    if (what && !mask)
        mask = what <= w->o.labels ? 1u << (what - 1)
                                   : l->sets[what - 1 - w->o.labels];
    if (l->origins[origin] != k->place)
        sim_fail(w, "I7", "text %d: what provider %d said is stored under %d",
                 k->text, l->origins[origin], k->place);
    w->stored.said[k->text][k->place] = mask + 1;
}

static void row(struct sim *w, struct lists *l, char table, sqlite3_stmt *s)
{
    const unsigned char *blob = sqlite3_column_blob(s, 0);
    int n = sqlite3_column_bytes(s, 0);

    switch (table) {
    case 's':
        if (l->set_count < SETS_MAX)
            l->sets[l->set_count++] =
                mask_of(w, (const char *)sqlite3_column_text(s, 0));
        break;
    case 'o':
        if (l->origin_count == ORIGINS_MAX)
            break;
        l->origins[l->origin_count] = -1;
        for (int p = 0; p < w->o.lanes; p++)
            if (strcmp((const char *)sqlite3_column_text(s, 0),
                       sim_model(p)) == 0)
                l->origins[l->origin_count] = p;
        l->origin_count++;
        break;
    case 'a':
        if (n != 16)
            sim_fail(w, "store", "a key of %d bytes", n);
        else
            take(w, l, blob, sqlite3_column_int64(s, 1),
                 sqlite3_column_int64(s, 2));
        break;
    case 'f':
        for (int at = STAGED_AT; at + STAGED_BYTES <= n; at += STAGED_BYTES)
            take(w, l, blob + at, integer(blob + at + 16),
                 integer(blob + at + 24));
        break;
    case 'i':
        if (w->stored.attempt_count < SIM_ATTEMPTS_MAX)
            w->stored.attempts[w->stored.attempt_count++] =
                (uint64_t)sqlite3_column_int64(s, 0);
        break;
    case 'j':
        n = strcmp((const char *)sqlite3_column_text(s, 1), "sim") != 0;
        w->stored.job[n] = true;
        w->stored.under_way[n] = sqlite3_column_int(s, 0);
        break;
    case 'b':
        for (int i = 0; i < 2 && w->stored.batch_count < SIM_BATCHES_MAX; i++)
            snprintf(w->stored.batches[w->stored.batch_count][i],
                     sizeof w->stored.batches[0][0], "%s",
                     (const char *)sqlite3_column_text(s, i));
        w->stored.batch_count += w->stored.batch_count < SIM_BATCHES_MAX;
        break;
    case 'r':
        if (w->stored.in_batch_count < SIM_ATTEMPTS_MAX)
            w->stored.in_batch[w->stored.in_batch_count++] =
                (uint64_t)sqlite3_column_int64(s, 0);
        break;
    case 'c':
        if (strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0)
            sim_fail(w, "store", "the file is damaged: %s",
                     (const char *)sqlite3_column_text(s, 0));
        break;
    }
}

/* Sets and origins before what points to them, the check of all before that. */
static const struct {
    char table;
    const char *sql;
} queries[] = {
    {'c', "PRAGMA integrity_check(1)"},
    {'s', "SELECT names FROM label_set ORDER BY id"},
    {'o', "SELECT by FROM origin ORDER BY id"},
    {'a', "SELECT key, what, v FROM answer"},
    {'f', "SELECT answers FROM fresh ORDER BY id"},
    {'i', "SELECT id FROM attempt WHERE unknown = 0"},
    {'j', "SELECT under_way, name FROM job"},
    {'b', "SELECT mark, name FROM batch"},
    {'r', "SELECT attempt FROM in_batch WHERE of_batch <> 0"},
};

static void read_all(struct sim *w, sqlite3 *db)
{
    struct lists l = {.set_count = 0};
    sqlite3_stmt *s = NULL;
    bool made = false;

    /* exclusive, else the log would need shared memory */
    if (sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) ||
        sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_master WHERE "
                           "name = 'in_batch'", -1, &s, NULL) ||
        (made = sqlite3_step(s) == SQLITE_ROW,
         sqlite3_finalize(s) != SQLITE_OK)) {
        sim_fail(w, "store", "an image cannot be read: %s", sqlite3_errmsg(db));
        return;
    }
    for (size_t i = 0; made && i < sizeof queries / sizeof *queries; i++) {
        int rc = sqlite3_prepare_v2(db, queries[i].sql, -1, &s, NULL);

        while (rc == SQLITE_OK || rc == SQLITE_ROW) {
            rc = sqlite3_step(s);
            if (rc == SQLITE_ROW)
                row(w, &l, queries[i].table, s);
        }
        sqlite3_finalize(s);
        if (rc != SQLITE_DONE)
            sim_fail(w, "store", "an image cannot be read: %s: %s",
                     queries[i].sql, sqlite3_errmsg(db));
    }
}

bool sim_read_store(struct sim *w, bool power)
{
    struct sim_disk image;
    struct sim_cut cut = {0};
    char path[120] = "";
    sqlite3 *db = NULL;

    if (!w->keys)
        make_keys(w);
    w->stored = (struct sim_stored){.read = true};
    sim_disk_copy(&image, &w->disk, power);
    if (power)
        sim_disk_power_cut(&image, tr_rng_below(&w->disk_rng, 2)
                                       ? &w->disk_rng : NULL, &cut);
    for (int i = 0; i < image.name_n; i++)
        if (image.names[i].file != SIM_NO_FILE &&
            strstr(image.names[i].text, ".db") &&
            !strchr(image.names[i].text, '-'))
            snprintf(path, sizeof path, SIM_FOLDER "/%s",
                     image.names[i].text);
    sim_vfs_enter(&image, NULL);
    if (path[0]) {
        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE |
                            SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
            sim_fail(w, "store", "an image cannot be opened");
        else
            read_all(w, db);
        sqlite3_close(db);
    }
    sim_vfs_enter(&w->disk, w);
    sim_disk_release(&image);
    w->stored_syncs = w->disk.syncs;
    return !w->failure[0];
}
