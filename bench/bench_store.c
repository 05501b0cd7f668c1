/* bench_store.c - durable rows/s, bytes a row and look-ups/s of the store.
 *
 *   cc -O2 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Ilib \
 *      bench/bench_store.c build/libtr_store.a build/libtr_base.a \
 *      -lsqlite3 -lsodium -o bench_store && ./bench_store [ROWS [GROUP]]
 *
 * ROWS (1,000,000) verdicts with random keys are committed in groups of GROUP
 * (2,000), each group with the intents and outcomes of packs of 32, and looked
 * up in another order after the store was closed and opened again. Rates of
 * the last tenth of the rows stand beside the mean, since a B-tree slows down
 * as it grows. The floor is the same work in a bare SQLite loop: one table,
 * one statement, one transaction a group, keys sorted, same durability.
 *
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "base/rng.h"
#include "store/store.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PACK = 32, LOOK = 512 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_store: %s\n", what);
    exit(1);
}

static struct tr_key key_of(uint64_t n)
{
    struct tr_rng rng = {n};
    struct tr_key key;
    uint64_t halves[2] = {tr_rng_next(&rng), tr_rng_next(&rng)};

    memcpy(key.b, halves, sizeof key.b);
    return key;
}

static double file_bytes(const char *path)
{
    struct stat sb;

    return stat(path, &sb) == 0 ? (double)sb.st_size : 0;
}

struct result {
    double put, put_last, bytes, find, find_none;
};

static void show(const char *name, const struct result *r)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    printf("%-6s %12.0f %12.0f %10.1f %12.0f %12.0f   peak %ld MB\n", name,
           r->put, r->put_last, r->bytes, r->find, r->find_none,
           u.ru_maxrss / 1024);
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct tr_key));
}

/* ---- the store -------------------------------------------------------- */

static struct tr_store *open_store(const char *folder)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(0),
                              .task_name = "bench"};
    struct tr_store *st;
    struct tr_err err;

    if (tr_store_open(&st, &o, &err) != TR_OK)
        die(err.text);
    return st;
}

static void put_group(struct tr_store *st, struct tr_store_put *puts,
                      struct tr_store_outcome *outs, size_t *out_count,
                      uint64_t first, size_t n, uint16_t origin)
{
    size_t packs = (n + PACK - 1) / PACK;
    struct tr_store_intent *intents = calloc(packs, sizeof *intents);
    struct tr_err err;

    for (size_t i = 0; i < n; i++)
        puts[i] = (struct tr_store_put){
            key_of(first + i),
            {.set = (uint32_t)((first + i) % 4), .origin = origin,
             .confidence = TR_NO_CONFIDENCE, .pack_size = PACK,
             .position = (uint16_t)(i % PACK)}};
    for (size_t i = 0; i < packs; i++)
        intents[i] = (struct tr_store_intent){
            tr_store_next_attempt(st), (uint64_t)i * 77, 1000, PACK};
    if (tr_store_commit(st, puts, n, intents, packs, outs, *out_count, &err))
        die(err.text);
    for (size_t i = 0; i < packs; i++)
        outs[i] = (struct tr_store_outcome){
            .attempt = intents[i].attempt, .spent_nano = 900,
            .tokens_in = 100, .tokens_out = 50};
    *out_count = packs;
    free(intents);
}

static double look(struct tr_store *st, uint64_t rows, uint64_t offset,
                   bool expected)
{
    static const struct tr_store_find any;
    struct tr_key keys[LOOK];
    struct tr_verdict verdicts[LOOK];
    bool found[LOOK];
    struct tr_rng rng = {42};
    double began = now();
    uint64_t n = rows < 1000000 ? rows : 1000000;

    for (uint64_t at = 0; at < n; at += LOOK) {
        struct tr_err err;

        for (int i = 0; i < LOOK; i++)
            keys[i] = key_of(offset + tr_rng_below(&rng, rows));
        if (tr_store_find(st, &any, keys, LOOK, verdicts, found, &err))
            die(err.text);
        for (int i = 0; i < LOOK; i++)
            if (found[i] != expected)
                die("a look-up is wrong");
    }
    return (double)n / (now() - began);
}

static void bench_ours(const char *folder, uint64_t rows, size_t group,
                       struct result *r)
{
    struct tr_store *st = open_store(folder);
    struct tr_store_put *puts = calloc(group, sizeof *puts);
    struct tr_store_outcome *outs = calloc(group, sizeof *outs);
    struct tr_origin o = {.by = "fake/x", .served = "x", .prompt_version = 1,
                          .run_at = 1};
    struct tr_job job;
    struct tr_err err;
    size_t out_count = 0;
    uint16_t origin;
    double began = now(), last = began;
    char path[4096];

    if (tr_store_job(st, "bench", 1, 0, &job, &err) ||
        tr_store_origin(st, &o, 0, &origin, &err))
        die(err.text);
    for (uint64_t at = 0; at < rows; at += group) {
        if (at <= rows / 10 * 9)
            last = now();
        put_group(st, puts, outs, &out_count, at,
                  rows - at < group ? rows - at : group, origin);
    }
    r->put = (double)rows / (now() - began);
    r->put_last = (double)rows / 10 / (now() - last);
    snprintf(path, sizeof path, "%s", tr_store_path(st));
    tr_store_close(st);
    r->bytes = file_bytes(path) / (double)rows;
    st = open_store(folder);
    look(st, rows, 0, true); /* once, to warm the caches */
    r->find = look(st, rows, 0, true);
    r->find_none = look(st, rows, rows, false);
    tr_store_close(st);
    free(puts);
    free(outs);
}

/* ---- bare SQLite ------------------------------------------------------ */

static void sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(db));
}

static double bare_look(sqlite3_stmt *s, uint64_t rows, uint64_t offset,
                        int expected)
{
    struct tr_key keys[LOOK];
    struct tr_rng rng = {42};
    double began = now();
    uint64_t n = rows < 1000000 ? rows : 1000000;

    for (uint64_t at = 0; at < n; at += LOOK) {
        for (int i = 0; i < LOOK; i++)
            keys[i] = key_of(offset + tr_rng_below(&rng, rows));
        qsort(keys, LOOK, sizeof *keys, by_key);
        for (int i = 0; i < LOOK; i++) {
            sqlite3_bind_blob(s, 1, keys[i].b, sizeof keys[i].b,
                              SQLITE_STATIC);
            if (sqlite3_step(s) != expected)
                die("a look-up of the bare loop is wrong");
            sqlite3_reset(s);
        }
    }
    return (double)n / (now() - began);
}

static void bench_bare(const char *folder, uint64_t rows, size_t group,
                       struct result *r)
{
    struct tr_key *keys = calloc(group, sizeof *keys);
    char path[4096], pragma[100];
    sqlite3_stmt *put, *find;
    sqlite3 *db;
    double began = now(), last = began;

    snprintf(path, sizeof path, "%s/bare.db", folder);
    if (sqlite3_open(path, &db) != SQLITE_OK)
        die(path);
    snprintf(pragma, sizeof pragma, "PRAGMA cache_size = -%u",
             TR_STORE_CACHE_BYTES / 1024);
    sql(db, pragma);
    sql(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
        "PRAGMA synchronous = FULL;"
        "CREATE TABLE t(k BLOB PRIMARY KEY, v INTEGER) WITHOUT ROWID");
    sqlite3_prepare_v2(db, "INSERT INTO t VALUES(?, ?)", -1, &put, NULL);
    sqlite3_prepare_v2(db, "SELECT v FROM t WHERE k = ?", -1, &find, NULL);
    for (uint64_t at = 0; at < rows; at += group) {
        size_t n = rows - at < group ? rows - at : group;

        if (at <= rows / 10 * 9)
            last = now();
        for (size_t i = 0; i < n; i++)
            keys[i] = key_of(at + i);
        qsort(keys, n, sizeof *keys, by_key);
        sql(db, "BEGIN");
        for (size_t i = 0; i < n; i++) {
            sqlite3_bind_blob(put, 1, keys[i].b, sizeof keys[i].b,
                              SQLITE_STATIC);
            sqlite3_bind_int(put, 2, (int)(i % 4));
            if (sqlite3_step(put) != SQLITE_DONE)
                die(sqlite3_errmsg(db));
            sqlite3_reset(put);
        }
        sql(db, "COMMIT");
    }
    r->put = (double)rows / (now() - began);
    r->put_last = (double)rows / 10 / (now() - last);
    bare_look(find, rows, 0, SQLITE_ROW);
    r->find = bare_look(find, rows, 0, SQLITE_ROW);
    r->find_none = bare_look(find, rows, rows, SQLITE_DONE);
    sqlite3_finalize(put);
    sqlite3_finalize(find);
    sqlite3_close(db);
    r->bytes = file_bytes(path) / (double)rows;
    free(keys);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    char folder[4000], command[4096];
    uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    size_t group = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
    struct result ours, bare;

    if (rows < 1000 || group < 1)
        die("usage: bench_store [ROWS [GROUP]]");
    snprintf(folder, sizeof folder, "%s/bench-store-XXXXXX",
             tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        die("no temporary folder");
    printf("%" PRIu64 " rows in groups of %zu\n", rows, group);
    printf("%-6s %12s %12s %10s %12s %12s\n", "", "rows/s", "last tenth",
           "bytes/row", "found/s", "not found/s");
    fflush(stdout);
    bench_ours(folder, rows, group, &ours);
    show("store", &ours);
    fflush(stdout);
    bench_bare(folder, rows, group, &bare);
    show("bare", &bare);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0;
}
