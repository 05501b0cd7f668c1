/* The store: durability, money of unknown outcomes, locks, foreign files.
 * SPDX-License-Identifier: MIT */
#include "store/store.h"

#include "base/rng.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/trommel-store-XXXXXX";
static const struct tr_store_find any = {0};

static struct tr_key key_of(uint64_t n)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)n);

    return tr_digest(NULL, tr_str(text, (size_t)len));
}

static struct tr_store *open_task(uint64_t task)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(task),
                              .task_name = "a,b"};
    struct tr_store *st;
    struct tr_err err = {0};

    if (tr_store_open(&st, &o, &err) != TR_OK)
        fail_msg("%s", err.text);
    return st;
}

static struct tr_store_put put_of(uint64_t n, uint16_t origin)
{
    return (struct tr_store_put){
        key_of(n),
        {.set = (uint32_t)(n % 5), .origin = origin, .pack_size = 16,
         .position = (uint16_t)(n % 16), .confidence = TR_NO_CONFIDENCE},
    };
}

static uint16_t origin_at(struct tr_store *st, int64_t run_at)
{
    struct tr_origin o = {.by = "openai/x", .served = "x-2026", .effort = "",
                          .prompt_version = 1, .run_at = run_at};
    struct tr_err err;
    uint16_t index;

    assert_int_equal(tr_store_origin(st, &o, &index, &err), TR_OK);
    return index;
}

static bool has(struct tr_store *st, uint64_t n,
                const struct tr_store_find *how, struct tr_verdict *v)
{
    struct tr_key key = key_of(n);
    struct tr_err err;
    bool found;

    assert_int_equal(tr_store_find(st, how, &key, 1, v, &found, &err), TR_OK);
    return found;
}

static int commit(struct tr_store *st, const struct tr_store_put *puts,
                  size_t n)
{
    struct tr_err err;

    return tr_store_commit(st, puts, n, NULL, 0, NULL, 0, &err);
}

static void every_kind_of_verdict_comes_back(void **state)
{
    static const struct tr_verdict cases[] = {
        {.set = 0, .origin = 0, .confidence = TR_NO_CONFIDENCE},
        {.set = 9999, .origin = 0, .confidence = 0, .pack_size = 450,
         .position = 449},
        {.set = TR_SET_NOTHING, .origin = 0, .confidence = 10000,
         .pack_size = 1},
        {.why = TR_WHY_BLOCKED, .origin = 0, .confidence = TR_NO_CONFIDENCE},
        {.why = TR_WHY_NO_ANSWER, .origin = 0, .confidence = 1},
        {.set = 3, .origin = TR_NO_ORIGIN, .confidence = 77},
    };
    struct tr_store *st = open_task(1);
    (void)state;

    origin_at(st, 100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_store_put put = {key_of(i), cases[i]};

        assert_int_equal(commit(st, &put, 1), TR_OK);
    }
    tr_store_close(st);
    st = open_task(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_verdict v;

        assert_true(has(st, i, &any, &v));
        assert_memory_equal(&v, &cases[i], sizeof v);
    }
    assert_string_equal(tr_store_origin_at(st, 0)->served, "x-2026");
    tr_store_close(st);
}

static void filters_pass_over_what_no_longer_counts(void **state)
{
    struct tr_store *st = open_task(2);
    struct tr_store_put old = put_of(1, origin_at(st, 100));
    struct tr_store_put failed = put_of(2, origin_at(st, 100));
    struct tr_verdict v;
    (void)state;

    failed.verdict.why = TR_WHY_INVALID;
    assert_int_equal(commit(st, &old, 1), TR_OK);
    assert_int_equal(commit(st, &failed, 1), TR_OK);
    assert_true(has(st, 1, &any, &v));
    assert_true(has(st, 2, &any, &v));
    assert_false(has(st, 1, &(struct tr_store_find){.not_before = 101}, &v));
    assert_true(has(st, 1, &(struct tr_store_find){.failures_not_before = 101},
                    &v));
    assert_false(has(st, 2, &(struct tr_store_find){.failures_not_before = 101},
                     &v));
    assert_false(has(st, 1, &(struct tr_store_find){.min_prompt = 2}, &v));
    tr_store_close(st);
}

static void a_second_process_is_told_who_holds_it(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(3)};
    struct tr_store *st = open_task(3), *second;
    struct tr_err err;
    char pid[32];
    (void)state;

    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_int_equal(tr_store_open(&second, &o, &err), TR_STOPPED);
    assert_non_null(strstr(err.text, pid));
    assert_null(second);
    tr_store_close(st);
    assert_int_equal(tr_store_open(&second, &o, &err), TR_OK);
    tr_store_close(second);
}

static void path_of(uint64_t task, char *path, size_t size)
{
    struct tr_store *st = open_task(task);

    snprintf(path, size, "%s", tr_store_path(st));
    tr_store_close(st);
}

static void only_the_owner_may_read(void **state)
{
    char path[4096];
    struct stat sb;
    (void)state;

    umask(0);
    path_of(4, path, sizeof path);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    umask(022);
}

static void overwrite(const char *path, const char *bytes, size_t n, long at)
{
    int fd = open(path, O_RDWR);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), (ssize_t)n);
    close(fd);
}

static void foreign_newer_and_damaged_files_are_refused(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t n;
        long at;
        const char *says;
    } cases[] = {
        {"newer layout", "\0\0\0\7", 4, 60, "newer trommel (layout 7"},
        {"another program's", "\1\2\3\4", 4, 68, "not a store of trommel"},
        {"not SQLite", "nonsense nonsense", 17, 0, "damaged"},
    };
    (void)state;

    for (uint64_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_store_opts o = {.folder = folder, .task = key_of(50 + i)};
        struct tr_store *st;
        struct tr_err err;
        char path[4096];

        path_of(50 + i, path, sizeof path);
        overwrite(path, cases[i].bytes, cases[i].n, cases[i].at);
        assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].name, err.text);
    }
}

static void money_of_open_attempts_becomes_unknown(void **state)
{
    struct tr_store *st = open_task(6);
    struct tr_store_intent intents[3];
    struct tr_store_outcome paid, lost;
    struct tr_job job;
    struct tr_err err;
    int64_t count, nano;
    uint64_t last;
    (void)state;

    assert_int_equal(tr_store_job(st, "j", 1000, false, &job, &err), TR_OK);
    assert_int_equal(job.started_at, 1000);
    for (int i = 0; i < 3; i++)
        intents[i] = (struct tr_store_intent){tr_store_next_attempt(st),
                                              (uint64_t)-1, 100 << i, 4};
    assert_int_equal(tr_store_commit(st, NULL, 0, intents, 3, NULL, 0, &err),
                     TR_OK);
    paid = (struct tr_store_outcome){.attempt = intents[0].attempt,
                                     .spent_nano = 60, .tokens_in = 7};
    lost = (struct tr_store_outcome){.attempt = intents[1].attempt,
                                     .unknown_nano = 200, .is_unknown = true};
    assert_int_equal(tr_store_commit(st, NULL, 0, NULL, 0, &paid, 1, &err),
                     TR_OK);
    assert_int_equal(tr_store_commit(st, NULL, 0, NULL, 0, &lost, 1, &err),
                     TR_OK);
    last = tr_store_next_attempt(st);
    tr_store_close(st); /* the third attempt is open, as after a crash */

    st = open_task(6);
    assert_true(tr_store_next_attempt(st) >= last);
    assert_int_equal(tr_store_job(st, "j", 2000, false, &job, &err), TR_OK);
    assert_int_equal(job.started_at, 1000); /* the same round goes on */
    assert_int_equal(job.spent_nano, 60);
    assert_int_equal(job.unknown_nano, 200 + 400);
    assert_int_equal(job.unknown_count, 2);
    assert_int_equal(job.tokens_in, 7);
    assert_int_equal(tr_store_job_finish(st, &err), TR_OK);
    assert_int_equal(commit(st, NULL, 0), TR_OK);
    assert_int_equal(tr_store_job(st, "j", 3000, false, &job, &err), TR_OK);
    assert_int_equal(job.started_at, 3000); /* a new round, nothing spent */
    assert_int_equal(job.spent_nano + job.unknown_nano, 0);
    assert_int_equal(tr_store_forgive(st, &count, &nano, &err), TR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(nano, 600);
    tr_store_close(st);
}

static void sets_and_values_keep_order_and_bytes(void **state)
{
    struct tr_store *st = open_task(7);
    struct tr_buf out;
    struct tr_err err;
    bool found;
    (void)state;

    tr_buf_init(&out, 0);
    assert_int_equal(tr_store_set_add(st, TR_STR("b|a"), &err), TR_OK);
    assert_int_equal(tr_store_set_add(st, TR_STR("a|c"), &err), TR_OK);
    assert_int_equal(tr_store_set(st, "v", tr_str("x\0y", 3), &err), TR_OK);
    assert_int_equal(commit(st, NULL, 0), TR_OK);
    assert_int_equal(tr_store_set_add(st, TR_STR("lost"), &err), TR_OK);
    tr_store_close(st); /* not committed */
    st = open_task(7);
    assert_int_equal(tr_store_set_count(st), 2);
    assert_true(tr_str_eq(tr_store_set_at(st, 0), TR_STR("b|a")));
    assert_int_equal(tr_store_get(st, "v", &out, &found, &err), TR_OK);
    assert_true(found && tr_str_eq(tr_buf_str(&out), tr_str("x\0y", 3)));
    assert_int_equal(tr_store_get(st, "w", &out, &found, &err), TR_OK);
    assert_false(found);
    tr_buf_release(&out);
    tr_store_close(st);
}

/* A child commits numbered rows and tells each number after its commit; it is
 * killed at a random moment, and what it told must be there. */
static void what_was_committed_survives_sigkill(void **state)
{
    struct tr_rng rng = {11};
    uint64_t told = 0;
    (void)state;

    for (int round = 0; round < 12; round++) {
        uint64_t from = told, n;
        int pipe_fds[2];
        pid_t child;
        struct tr_store *st;
        struct tr_verdict v;

        assert_int_equal(pipe(pipe_fds), 0);
        child = fork();
        if (child == 0) {
            st = open_task(8);
            for (n = from; ; n++) {
                struct tr_store_put put = put_of(n, TR_NO_ORIGIN);

                if (commit(st, &put, 1) != TR_OK ||
                    write(pipe_fds[1], &n, sizeof n) != sizeof n)
                    _exit(1);
            }
        }
        close(pipe_fds[1]);
        usleep((useconds_t)(5000 + tr_rng_below(&rng, 30000)));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipe_fds[0], &n, sizeof n) == sizeof n)
            told = n + 1;
        close(pipe_fds[0]);
        st = open_task(8);
        for (n = 0; n < told; n++)
            assert_true(has(st, n, &any, &v));
        tr_store_close(st);
    }
    assert_true(told > 0);
}

static void a_full_disk_is_an_error_and_loses_nothing(void **state)
{
    struct rlimit whole, small;
    struct tr_store *st = open_task(9);
    struct tr_store_put put = put_of(0, TR_NO_ORIGIN);
    struct tr_verdict v;
    uint64_t n;
    int rc = TR_OK;
    (void)state;

    assert_int_equal(commit(st, &put, 1), TR_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &whole);
    small = whole;
    small.rlim_cur = 256 << 10;
    setrlimit(RLIMIT_FSIZE, &small);
    for (n = 1; n < 100000 && rc == TR_OK; n++) {
        put = put_of(n, TR_NO_ORIGIN);
        rc = commit(st, &put, 1);
    }
    setrlimit(RLIMIT_FSIZE, &whole);
    assert_int_equal(rc, TR_IO);
    tr_store_close(st);
    st = open_task(9);
    for (uint64_t i = 0; i < n - 1; i++)
        assert_true(has(st, i, &any, &v));
    tr_store_close(st);
}

/* Random work against an array, with and without commits before a crash. */
static void behaves_like_an_array_with_commits(void **state)
{
    enum { KEYS = 500 };
    static int durable[KEYS], seen[KEYS];
    struct tr_store *st;
    struct tr_err err;
    struct tr_rng rng = {5};
    (void)state;

    assert_int_equal(tr_store_open_memory(&st, &err), TR_OK);
    for (int step = 0; step < 3000; step++) {
        struct tr_store_put puts[20];
        size_t n = tr_rng_below(&rng, 20);

        for (size_t i = 0; i < n; i++) {
            uint64_t k = tr_rng_below(&rng, KEYS);

            puts[i] = put_of(k, TR_NO_ORIGIN);
            puts[i].verdict.set = (uint32_t)step + 1;
            seen[k] = step + 1;
        }
        assert_int_equal(commit(st, puts, n), TR_OK);
        memcpy(durable, seen, sizeof seen);
        if (tr_rng_below(&rng, 10) == 0) {
            assert_int_equal(tr_store_set(st, "x", TR_STR("y"), &err), TR_OK);
            assert_int_equal(tr_store_crash(st, &err), TR_OK);
        }
        for (int i = 0; i < 10; i++) {
            uint64_t k = tr_rng_below(&rng, KEYS);
            struct tr_verdict v;

            assert_int_equal(has(st, k, &any, &v), durable[k] != 0);
            if (durable[k])
                assert_int_equal(v.set, durable[k]);
        }
    }
    tr_store_close(st);
}

static void lists_and_removes(void **state)
{
    struct tr_store_info *list;
    struct tr_store *st = open_task(10);
    struct tr_err err;
    char path[4096];
    size_t n, mine = 0;
    (void)state;

    snprintf(path, sizeof path, "%s", tr_store_path(st));
    assert_int_equal(tr_store_remove(path, &err), TR_STOPPED);
    tr_store_close(st);
    assert_int_equal(tr_store_list(folder, &list, &n, &err), TR_OK);
    for (size_t i = 0; i < n; i++)
        mine += strcmp(list[i].path, path) == 0 && !list[i].in_use;
    free(list);
    assert_int_equal(mine, 1);
    assert_int_equal(tr_store_remove(path, &err), TR_OK);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void a_private_store_leaves_nothing(void **state)
{
    struct tr_store_opts o = {0};
    struct tr_store *st;
    struct tr_store_put put = put_of(1, TR_NO_ORIGIN);
    struct tr_verdict v;
    struct tr_err err;
    (void)state;

    assert_int_equal(tr_store_open(&st, &o, &err), TR_OK);
    assert_int_equal(commit(st, &put, 1), TR_OK);
    assert_true(has(st, 1, &any, &v));
    tr_store_close(st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_verdict_comes_back),
        cmocka_unit_test(filters_pass_over_what_no_longer_counts),
        cmocka_unit_test(a_second_process_is_told_who_holds_it),
        cmocka_unit_test(only_the_owner_may_read),
        cmocka_unit_test(foreign_newer_and_damaged_files_are_refused),
        cmocka_unit_test(money_of_open_attempts_becomes_unknown),
        cmocka_unit_test(sets_and_values_keep_order_and_bytes),
        cmocka_unit_test(what_was_committed_survives_sigkill),
        cmocka_unit_test(a_full_disk_is_an_error_and_loses_nothing),
        cmocka_unit_test(behaves_like_an_array_with_commits),
        cmocka_unit_test(lists_and_removes),
        cmocka_unit_test(a_private_store_leaves_nothing),
    };
    char command[100];
    int failed;

    if (!mkdtemp(folder))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
