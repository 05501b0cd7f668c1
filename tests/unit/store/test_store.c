/* The store: durability, money of unknown outcomes, locks, foreign files.
 * SPDX-License-Identifier: MIT */
#include "store/sql.h"
#include "store/verdict.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <poll.h>
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
#include <sqlite3.h>

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

static void path_of(uint64_t task, char *path, size_t size)
{
    struct tr_store *st = open_task(task);

    snprintf(path, size, "%s", tr_store_path(st));
    tr_store_close(st);
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

    assert_int_equal(tr_store_origin(st, &o, 0, &index, &err), TR_OK);
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

/* The label sets that are listed, a blank behind each. */
static int add_names(void *ctx, struct tr_str names, struct tr_err *err)
{
    (void)err;
    tr_buf_adds(ctx, names);
    tr_buf_addc(ctx, ' ');
    return TR_OK;
}

static void lists_sets(struct tr_store *st, const char *expected)
{
    struct tr_buf got;
    struct tr_err err;

    tr_buf_init(&got, 0);
    assert_int_equal(tr_store_sets(st, add_names, &got, &err), TR_OK);
    assert_string_equal(got.n ? got.p : "", expected);
    tr_buf_release(&got);
}

static int save(struct tr_store *st, const struct tr_store_put *puts, size_t n)
{
    struct tr_err err;

    return tr_store_save(st, puts, n, NULL, 0, &err);
}

static void every_kind_of_verdict_comes_back(void **state)
{
    static const struct tr_verdict cases[] = {
        {.set = 0, .origin = 0, .confidence = TR_NO_CONFIDENCE},
        {.set = 9999, .origin = 0, .confidence = 0, .pack_size = 450,
         .position = 449},
        {.set = TR_SET_NOTHING, .origin = 0, .confidence = 10000,
         .pack_size = 1},
        {.set = TR_SET_COMBINED, .origin = 0, .confidence = 5000},
        {.set = TR_SETS_END - 1, .origin = 0, .confidence = TR_NO_CONFIDENCE},
        {.why = TR_WHY_BLOCKED, .origin = 0, .confidence = TR_NO_CONFIDENCE},
        {.why = TR_WHY_NO_ANSWER, .origin = 0, .confidence = 1},
        {.set = 3, .origin = TR_NO_ORIGIN, .confidence = 77},
    };
    struct tr_store *st = open_task(1);
    (void)state;

    origin_at(st, 100);
    assert_int_equal(commit(st, NULL, 0), TR_OK); /* the origin is there */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_store_put put = {key_of(i), cases[i]};

        assert_int_equal((i % 2 ? save : commit)(st, &put, 1), TR_OK);
    }
    tr_store_close(st); /* the last one is saved only */
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

/* Opens task 3 in a process of its own (a forked copy of this one would share
 * our lock); its exit status is the code. */
static pid_t child_opens(void)
{
    pid_t child = fork();

    if (child == 0) {
        execl("/proc/self/exe", "test_store", folder, (char *)NULL);
        _exit(100);
    }
    return child;
}

static int be_child(const char *where)
{
    struct tr_store_opts o = {.folder = where, .task = key_of(3)};
    struct tr_store *st;
    struct tr_err err;
    int rc;

    rc = tr_store_open(&st, &o, &err);
    tr_store_close(st);
    return -rc;
}

static int child_code(pid_t child)
{
    int status;

    waitpid(child, &status, 0);
    return WIFEXITED(status) ? -WEXITSTATUS(status) : 1;
}

static void who_waits_hears_who_holds_it(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(3),
                              .waits = true};
    struct tr_store *st = open_task(3), *second;
    struct tr_err err;
    char pid[40];
    (void)state;

    assert_int_equal(tr_store_open(&second, &o, &err), TR_STORE_HELD);
    snprintf(pid, sizeof pid, "(process %ld, since ", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_non_null(strstr(err.text, "waiting for it"));
    tr_store_close(st);
    assert_int_equal(tr_store_open(&second, &o, &err), TR_OK);
    tr_store_close(second);
}

static void a_run_waits_for_readers_not_for_runs(void **state)
{
    struct tr_store_opts look = {.folder = folder, .task = key_of(3),
                                 .read_only = true};
    struct tr_store *reader, *second;
    struct tr_err err;
    pid_t run;
    (void)state;

    assert_int_equal(tr_store_open(&reader, &look, &err), TR_OK);
    assert_int_equal(tr_store_open(&second, &look, &err), TR_OK);
    tr_store_close(second);
    run = child_opens();
    usleep(300000);
    assert_int_equal(waitpid(run, NULL, WNOHANG), 0);
    tr_store_close(reader);
    assert_int_equal(child_code(run), TR_OK);
    reader = open_task(3);
    assert_int_equal(tr_store_open(&second, &look, &err), TR_STOPPED);
    tr_store_close(reader);
}

/* An estimate keeps the store open for as long as its input takes. */
static void a_reader_that_stays_is_not_waited_for(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(3),
                              .task_name = "a,b"};
    struct tr_store_opts look = {.folder = folder, .task = key_of(3),
                                 .read_only = true};
    struct tr_store *reader, *st;
    struct tr_err err;
    char path[4096];
    int64_t began;
    (void)state;

    path_of(3, path, sizeof path);
    assert_int_equal(tr_store_open(&reader, &look, &err), TR_OK);
    began = tr_clock_mono_ns();
    assert_int_equal(tr_store_open(&st, &o, &err), TR_STOPPED);
    assert_non_null(strstr(err.text, "reads its store"));
    assert_null(strstr(err.text, "process"));
    assert_int_equal(tr_store_remove(path, &err), TR_STOPPED);
    assert_true(tr_clock_mono_ns() - began < 20 * TR_S);
    o.waits = true; /* and comes again itself: a step may not take long */
    began = tr_clock_mono_ns();
    assert_int_equal(tr_store_open(&st, &o, &err), TR_STORE_HELD);
    assert_true(tr_clock_mono_ns() - began < TR_S);
    assert_non_null(strstr(err.text, "reads its store"));
    assert_non_null(strstr(err.text, "waiting for it"));
    tr_store_close(reader);
    assert_int_equal(tr_store_open(&st, &o, &err), TR_OK);
    tr_store_close(st);
}

static void reading_changes_nothing(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(131),
                              .read_only = true};
    struct tr_store *st;
    struct tr_err err;
    (void)state;

    assert_int_equal(tr_store_open(&st, &o, &err), TR_NOINPUT);
    tr_store_close(open_task(131));
    assert_int_equal(tr_store_open(&st, &o, &err), TR_OK);
    assert_int_equal(tr_store_set(st, "x", TR_STR("y"), &err), TR_IO);
    tr_store_close(st);
}

static void only_the_owner_may_read(void **state)
{
    static const mode_t masks[] = {0, 022, 0277};
    static const char *const tails[] = {"db", "db-wal", "lock"};
    (void)state;

    for (uint64_t m = 0; m < sizeof masks / sizeof *masks; m++) {
        struct tr_store *st;
        mode_t before = umask(masks[m]);

        st = open_task(40 + m);
        assert_int_equal(commit(st, NULL, 0), TR_OK);
        umask(before);
        for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
            const char *path = tr_store_path(st);
            char name[4200];
            struct stat sb;

            snprintf(name, sizeof name, "%.*s%s", (int)strlen(path) - 2, path,
                     tails[i]);
            assert_int_equal(stat(name, &sb), 0);
            assert_int_equal(sb.st_mode & 077, 0);
        }
        tr_store_close(st);
    }
}

static void folders_are_made_and_links_are_not_followed(void **state)
{
    struct tr_store_opts o = {.task = key_of(1)};
    char deep[200], link[300];
    struct tr_store *st;
    struct tr_err err;
    struct stat sb;
    (void)state;

    snprintf(deep, sizeof deep, "%s/a/b/", folder);
    o.folder = deep;
    assert_int_equal(tr_store_open(&st, &o, &err), TR_OK);
    snprintf(link, sizeof link, "%s", tr_store_path(st));
    tr_store_close(st);
    assert_int_equal(stat(deep, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0700);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("/dev/null", link), 0);
    assert_int_equal(tr_store_open(&st, &o, &err), TR_CANTCREATE);
    o.folder = "/dev/null/store";
    assert_int_equal(tr_store_open(&st, &o, &err), TR_CANTCREATE);
    assert_non_null(strstr(err.text, "--store"));
}

/* Answers that somebody else may have made up are not taken. */
static void what_others_may_have_written_is_refused(void **state)
{
    char open_to_all[200];
    struct tr_store_opts o = {.folder = open_to_all, .task = key_of(1)};
    struct tr_store *st;
    struct tr_err err;
    bool given;
    (void)state;

    snprintf(open_to_all, sizeof open_to_all, "%s/open", folder);
    assert_int_equal(mkdir(open_to_all, 0700), 0);
    assert_int_equal(chmod(open_to_all, 0777), 0);
    assert_int_equal(tr_store_open(&st, &o, &err), TR_CANTCREATE);
    assert_non_null(strstr(err.text, "chmod o-w"));
    assert_int_equal(chmod(open_to_all, 01777), 0); /* as /tmp is */
    assert_int_equal(tr_store_open(&st, &o, &err), TR_OK);
    given = geteuid() == 0 && chown(tr_store_path(st), 65534, 65534) == 0;
    tr_store_close(st);
    if (!given)
        return; /* only root can give files away, and not everywhere */
    assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
    assert_non_null(strstr(err.text, "another user"));
    o.read_only = true;
    assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
}

/* Where everybody may put files, somebody may have put one in our way. */
static void what_is_planted_stalls_nobody(void **state)
{
    static const struct {
        const char *tail;
        bool read_only;
        int rc;
    } cases[] = {
        {"db", false, TR_CONFIG},
        {"db", true, TR_CONFIG},
        {"lock", true, TR_NOINPUT}, /* it says nothing, and there is no store */
        {"rescue", false, TR_CONFIG},
    };
    struct tr_store *st = open_task(48);
    char path[4096], name[4200];
    struct tr_err err;
    (void)state;

    snprintf(path, sizeof path, "%s", tr_store_path(st));
    tr_store_close(st);
    assert_int_equal(unlink(path), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_store_opts o = {.folder = folder, .task = key_of(48),
                                  .read_only = cases[i].read_only};

        snprintf(name, sizeof name, "%.*s%s", (int)strlen(path) - 2, path,
                 cases[i].tail);
        unlink(name);
        assert_int_equal(mkfifo(name, 0600), 0);
        assert_int_equal(tr_store_open(&st, &o, &err), cases[i].rc);
        assert_int_equal(unlink(name), 0);
    }
}

/* A run under the other name would have a lock and a log of its own. */
static void a_file_with_two_names_is_refused(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(46)};
    struct tr_store *st = open_task(46);
    struct tr_err err;
    char path[4096], other[4200];
    (void)state;

    snprintf(path, sizeof path, "%s", tr_store_path(st));
    snprintf(other, sizeof other, "%s/other.db", folder);
    tr_store_close(st);
    assert_int_equal(link(path, other), 0);
    assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
    assert_non_null(strstr(err.text, "a second name (hard link)"));
    o.read_only = true; /* looking harms nobody */
    assert_int_equal(tr_store_open(&st, &o, &err), TR_OK);
    tr_store_close(st);
    assert_int_equal(unlink(other), 0);
    tr_store_close(open_task(46));
}

/* The folder may be behind a link; the file in it changes between what it is
 * and a link to another file all the time. */
static void swapped_names_do_not_escape(void **state)
{
    enum { TRIES = 10000 };
    char inner[200], behind[200], victim[300];
    struct tr_store_opts o = {.folder = behind, .task = key_of(47)};
    struct tr_store *st;
    struct tr_err err;
    char path[4096], hidden[4200];
    int opened = 0, refused = 0;
    struct stat sb;
    pid_t child;
    (void)state;

    snprintf(inner, sizeof inner, "%s/inner", folder);
    snprintf(behind, sizeof behind, "%s/behind", folder);
    snprintf(victim, sizeof victim, "%s/victim", folder);
    assert_int_equal(mkdir(inner, 0700), 0);
    assert_int_equal(symlink("inner", behind), 0);
    assert_int_equal(close(open(victim, O_CREAT | O_WRONLY, 0600)), 0);
    assert_int_equal(tr_store_open(&st, &o, &err), TR_OK);
    snprintf(path, sizeof path, "%s", tr_store_path(st));
    snprintf(hidden, sizeof hidden, "%s/hidden", folder);
    tr_store_close(st);
    child = fork();
    if (child == 0) {
        alarm(40);
        for (;;) {
            rename(path, hidden);
            (void)!symlink(victim, path);
            for (volatile int pause = 0; pause < 3000; pause++)
                ;
            rename(hidden, path);
            for (volatile int pause = 0; pause < 3000; pause++)
                ;
        }
    }
    for (int i = 0; i < TRIES; i++) {
        int rc = tr_store_open(&st, &o, &err);

        opened += rc == TR_OK;
        refused += rc != TR_OK;
        tr_store_close(st);
        assert_int_equal(stat(victim, &sb), 0);
        assert_int_equal(sb.st_size, 0);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(opened > 0 && refused > 0);
}

/* As another user when this one may write everywhere. */
static void a_folder_one_may_not_write_is_said_so(void **state)
{
    char shut[200];
    struct tr_store_opts o = {.folder = shut, .task = key_of(1)};
    enum { NOBODY_ELSE = 99 };
    pid_t child;
    int code;
    (void)state;

    snprintf(shut, sizeof shut, "%s/shut", folder);
    assert_int_equal(mkdir(shut, 0500), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    child = fork();
    if (child == 0) {
        struct tr_store *st;
        struct tr_err err;

        if (geteuid() == 0 && seteuid(65534) != 0)
            _exit(NOBODY_ELSE);
        _exit(-tr_store_open(&st, &o, &err));
    }
    code = child_code(child);
    assert_int_equal(chmod(folder, 0700), 0);
    if (code == -NOBODY_ELSE)
        skip();
    assert_int_equal(code, TR_CANTCREATE);
}

static void a_file_moved_away_while_open_is_noticed(void **state)
{
    struct tr_store *st = open_task(45);
    struct tr_store_put put = put_of(1, TR_NO_ORIGIN);
    char away[200];
    (void)state;

    assert_int_equal(commit(st, &put, 1), TR_OK);
    snprintf(away, sizeof away, "%s/away", folder);
    assert_int_equal(rename(tr_store_path(st), away), 0);
    assert_int_equal(commit(st, &put, 1), TR_IO);
    tr_store_close(st);
}

static void overwrite(const char *path, const char *bytes, size_t n, long at)
{
    int fd = open(path, O_RDWR);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), (ssize_t)n);
    close(fd);
}

static void is_refused(uint64_t task, const char *name, const char *says)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(task)};
    struct tr_store *st;
    struct tr_err err;

    for (int i = 0; i < 2; i++) {
        o.read_only = i;
        assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
        assert_null(st);
        if (!strstr(err.text, says))
            fail_msg("%s: %s", name, err.text);
    }
}

static void foreign_newer_and_damaged_files_are_refused(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t n;
        long at;
        const char *says;
    } cases[] = {
        {"newer layout", "\0\0\0\7", 4, 60,
         "newer trommel (layout 7, this program knows 4): upgrade trommel"},
        {"another program's", "\1\2\3\4", 4, 68, "not a store of trommel"},
        {"not SQLite", "nonsense nonsense", 17, 0, "damaged"},
        {"a page of nonsense", "nonsense nonsense", 17, 100, "damaged"},
    };
    char path[4096];
    (void)state;

    for (uint64_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        path_of(50 + i, path, sizeof path);
        overwrite(path, cases[i].bytes, cases[i].n, cases[i].at);
        is_refused(50 + i, cases[i].name, cases[i].says);
    }
    path_of(60, path, sizeof path);
    assert_int_equal(truncate(path, 4096), 0);
    is_refused(60, "cut off", "damaged");
}

static void open_raw(const char *path, sqlite3 **db, const char *text)
{
    assert_int_equal(sqlite3_open(path, db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(*db, text, NULL, NULL, NULL), SQLITE_OK);
}

/* Refused before and after a reader and a run have looked, and left as it is;
 * whoever takes the file away begins anew. */
static void an_emptied_file_is_refused(void **state)
{
    struct tr_store_put put = put_of(1, TR_NO_ORIGIN);
    char path[4096], lock[4200];
    struct tr_store *st;
    struct stat sb;
    sqlite3 *db;
    (void)state;

    for (int i = 0; i < 3; i++) {
        st = open_task(62);
        assert_int_equal(commit(st, &put, 1), TR_OK);
        snprintf(path, sizeof path, "%s", tr_store_path(st));
        tr_store_close(st);
        if (i == 1)
            tr_store_close(open_task(62)); /* one that brings nothing */
        assert_int_equal(truncate(path, 0), 0);
        is_refused(62, "emptied", "its content was changed or damaged");
        is_refused(62, "emptied", "restore the file, or move it away");
        assert_int_equal(stat(path, &sb), 0);
        assert_int_equal(sb.st_size, 0);
        if (i == 2) { /* a database, but without anything of ours */
            open_raw(path, &db, "CREATE TABLE t(x); DROP TABLE t");
            sqlite3_close(db);
            is_refused(62, "without tables", "");
        }
        assert_int_equal(unlink(path), 0);
    }
    /* What a run that is killed while it makes the file leaves: new. */
    tr_store_close(open_task(62));
    assert_int_equal(unlink(path), 0);
    snprintf(lock, sizeof lock, "%.*slock", (int)strlen(path) - 2, path);
    assert_int_equal(unlink(lock), 0);
    assert_true(close(open(path, O_CREAT | O_WRONLY, 0600)) == 0);
    tr_store_close(open_task(62));
}

static void an_emptied_file_is_not_taken_for_a_new_one(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(61)};
    struct tr_store *st;
    struct tr_err err;
    char path[4096], wal[4200];
    FILE *f;
    (void)state;

    path_of(61, path, sizeof path);
    snprintf(wal, sizeof wal, "%s-wal", path);
    f = fopen(wal, "w");
    fputs("what was committed last", f);
    fclose(f);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
    assert_int_equal(access(wal, F_OK), 0);
}

/* A run that is killed behind its sixth commit: the log holds all of them. */
static void be_killed(uint64_t task)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct tr_store *st = open_task(task);
        struct tr_err err;

        for (uint64_t i = 1; i <= 6; i++) {
            struct tr_store_put put = put_of(i, TR_NO_ORIGIN);
            struct tr_store_intent intent = {tr_store_next_attempt(st), 1, 1,
                                             1, 0, NULL};

            if (tr_store_commit(st, &put, 1, &intent, 1, NULL, 0, &err) !=
                TR_OK)
                _exit(1);
        }
        raise(SIGKILL);
    }
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
}

static void copy_file(const char *from, const char *to)
{
    char bytes[8192];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    size_t n;

    assert_non_null(in);
    assert_non_null(out);
    while ((n = fread(bytes, 1, sizeof bytes, in)) > 0)
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static bool holds(uint64_t task, uint64_t n)
{
    struct tr_store *st = open_task(task);
    struct tr_verdict got;
    bool there = has(st, n, &any, &got);

    tr_store_close(st);
    return there;
}

enum harm { BIT, CUT, ZEROS, REMOVED, HARMS };

static void harm_log(const char *wal, enum harm harm)
{
    static const char zeros[4096];
    struct stat sb;
    char byte;
    int fd;

    if (harm == REMOVED) {
        assert_int_equal(unlink(wal), 0);
        return;
    }
    fd = open(wal, O_RDWR);
    assert_int_equal(fstat(fd, &sb), 0);
    if (harm == BIT) {
        assert_int_equal(pread(fd, &byte, 1, sb.st_size / 2), 1);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, sb.st_size / 2), 1);
    } else if (harm == CUT) {
        assert_int_equal(ftruncate(fd, sb.st_size / 2), 0);
    } else {
        assert_int_equal(pwrite(fd, zeros, sizeof zeros, sb.st_size / 2),
                         (ssize_t)sizeof zeros);
    }
    close(fd);
}

/* SQLite takes what is behind a fault of its log for what never happened. What
 * is left stays as it is; the log put back, all is there; and who says so goes
 * on without it. In a store's first life and in a later one. */
static void a_log_that_lost_something_is_refused(void **state)
{
    char path[4096], wal[4200], kept[4200], lock[4200];
    struct stat before = {0}, after = {0};
    (void)state;

    for (uint64_t i = 0; i < 2 * HARMS; i++) {
        enum harm harm = (enum harm)(i / 2);
        uint64_t task = 700 + i;

        path_of(task, path, sizeof path);
        snprintf(wal, sizeof wal, "%s-wal", path);
        snprintf(kept, sizeof kept, "%s-kept", path);
        snprintf(lock, sizeof lock, "%.*slock", (int)strlen(path) - 2, path);
        if (i % 2)
            assert_int_equal(unlink(path), 0);
        be_killed(task);
        copy_file(wal, kept);
        harm_log(wal, harm);
        assert_int_equal(stat(wal, &before), harm == REMOVED ? -1 : 0);
        is_refused(task, "harmed", "changes are missing");
        is_refused(task, "harmed", "a budget may not know"); /* nor the books */
        if (harm != REMOVED) {
            assert_int_equal(stat(wal, &after), 0);
            assert_int_equal(after.st_size, before.st_size);
        }
        copy_file(kept, wal);
        assert_true(holds(task, 6));
        be_killed(task);
        harm_log(wal, harm);
        is_refused(task, "harmed again", "changes are missing");
        assert_int_equal(unlink(lock), 0);
        if (harm == REMOVED) /* nobody counted: the file itself says so */
            is_refused(task, "alone", "or stands without");
        else
            assert_true(holds(task, 1));
    }
}

/* The file alone is as old as the last merge. */
static void a_copy_made_in_mid_run_is_refused(void **state)
{
    char path[4096], wal[4200], copy[4096], copied_wal[4200];
    (void)state;

    path_of(730, path, sizeof path);
    path_of(731, copy, sizeof copy);
    snprintf(wal, sizeof wal, "%s-wal", path);
    snprintf(copied_wal, sizeof copied_wal, "%s-wal", copy);
    be_killed(730);
    copy_file(path, copy);
    is_refused(731, "alone", "was copied while a run was at work");
    is_refused(731, "alone", "make an empty -wal file beside it");
    is_refused(731, "alone", "a budget may not know");
    copy_file(wal, copied_wal);
    assert_true(holds(731, 6));
    /* The run goes on and ends in good order: now the file is all there is. */
    assert_true(holds(730, 6));
    assert_int_equal(access(wal, F_OK), -1);
    path_of(732, copy, sizeof copy);
    copy_file(path, copy);
    assert_true(holds(732, 6));
}

/* SQLite's shell merges the log and takes it away: nothing is missing. */
static void a_log_that_another_program_merged_is_not_missed(void **state)
{
    char path[4096], wal[4200];
    sqlite3 *db;
    (void)state;

    path_of(735, path, sizeof path);
    be_killed(735);
    open_raw(path, &db, "SELECT count(*) FROM answer");
    sqlite3_close(db);
    snprintf(wal, sizeof wal, "%s-wal", path);
    assert_int_equal(access(wal, F_OK), -1);
    assert_true(holds(735, 6));
}

/* A file from elsewhere cannot make our statements do something else. */
static void a_changed_schema_is_refused(void **state)
{
    static const char *const changes[] = {
        "CREATE TRIGGER t AFTER INSERT ON answer BEGIN DELETE FROM job; END",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE answer ADD COLUMN more",
        "CREATE TABLE more(x)",
        "CREATE INDEX i ON job(spent)",
        "DROP TABLE attempt",
    };
    char path[4096];
    sqlite3 *db;
    (void)state;

    for (uint64_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        path_of(70 + i, path, sizeof path);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, changes[i], NULL, NULL, NULL),
                         SQLITE_OK);
        sqlite3_close(db);
        is_refused(70 + i, changes[i], "the schema was changed");
    }
}

/* ---- what SQLite may do with a file from elsewhere --------------------- */

static void boom(sqlite3_context *c, int n, sqlite3_value **values)
{
    (void)n;
    (void)values;
    sqlite3_result_int(c, 1);
}

/* All that tr_layout_configure() has to forbid, allowed: a default of this
 * SQLite must not do its work. */
static void allow_everything(sqlite3 *db)
{
    static const int flags[][2] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 0},      {SQLITE_DBCONFIG_DQS_DDL, 1},
        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1}, {SQLITE_DBCONFIG_DQS_DML, 1},
        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 1}, {SQLITE_DBCONFIG_ENABLE_VIEW, 1},
    };

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        sqlite3_db_config(db, flags[i][0], flags[i][1], NULL);
    sqlite3_limit(db, SQLITE_LIMIT_WORKER_THREADS, 4);
    assert_int_equal(sqlite3_exec(db, "PRAGMA mmap_size = 1048576;"
                                  "PRAGMA temp_store = FILE;"
                                  "PRAGMA secure_delete = ON", NULL, NULL,
                                  NULL), SQLITE_OK);
}

/* What shows in nothing but its number. */
static const struct {
    const char *ask;
    int64_t before, after;
} numbers[] = {
    {"PRAGMA cell_size_check", 0, 1},
    {"PRAGMA mmap_size", 1048576, 0},
    {"PRAGMA temp_store", 1, 2},
    {"PRAGMA secure_delete", 1, 0},
    {"SELECT count(*) FROM fired", 1, 0}, /* no trigger did */
};

/* Of SQL that is as much too long, wide or deep: head, n times part, tail. */
static const struct attack {
    const char *name, *head, *part;
    int n;
    const char *tail, *says;
} attacks[] = {
    {"the schema is rewritten", "PRAGMA writable_schema = ON;"
     "UPDATE sqlite_master SET sql = 'x' WHERE name = 'word'", "", 0, "",
     "may not be modified"},
    {"a shadow table is written to", "DELETE FROM word_data", "", 0, "",
     "may not be modified"},
    {"a view", "SELECT * FROM seen", "", 0, "", "access to view"},
    {"a function in the schema", "INSERT INTO checked DEFAULT VALUES", "", 0,
     "", "unsafe use of boom"},
    {"a text in the quotes of a name", "SELECT \"nothing\"", "", 0, "",
     "no such column"},
    {"the same in a table", "CREATE TABLE y(x CHECK(x <> \"nothing\"))", "", 0,
     "", "no such column"},
    {"a value of 64 MiB", "SELECT zeroblob(67108865)", "", 0, "", "too big"},
    {"long SQL", "SELECT 1", " ", 20000, "", "too big"},
    {"another file", "ATTACH ':memory:' AS other", "", 0, "", "too many"},
    {"a wide table", "CREATE TABLE wide(a", ",b%d", 40, ")", "too many"},
    {"a deep expression", "SELECT 1", "+1", 50, "", "too large"},
    {"many arguments", "SELECT max(1", ",1", 8, ")", "too many arguments"},
    {"many selects", "SELECT 1", " UNION SELECT 1", 8, "", "too many terms"},
    {"a long pattern", "SELECT 'x' LIKE '", "%%a", 51, "'", "too complex"},
};

static char *said_by(sqlite3 *db, const struct attack *a)
{
    static char sql[30000];
    char *error = NULL;
    size_t n = (size_t)snprintf(sql, sizeof sql, "%s", a->head);

    for (int i = 0; i < a->n; i++)
        n += (size_t)snprintf(sql + n, sizeof sql - n, a->part, i);
    snprintf(sql + n, sizeof sql - n, "%s", a->tail);
    sqlite3_exec(db, sql, NULL, NULL, &error);
    return error;
}

static int64_t number_of(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s;
    int64_t n;

    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

/* Behind the check of the schema, which is refused whatever it holds: each
 * setting alone must do what it is there for. */
static void sqlite_gets_no_more_freedom_than_we_need(void **state)
{
    static const char hostile[] =
        "CREATE VIRTUAL TABLE word USING fts5(x);"
        "CREATE TABLE log(x); CREATE TABLE fired(x);"
        "CREATE TRIGGER t AFTER INSERT ON log BEGIN"
        " INSERT INTO fired VALUES(1); END;"
        "CREATE TABLE a(x); CREATE TABLE b(x);"
        "CREATE TRIGGER a_b AFTER INSERT ON a BEGIN"
        " INSERT INTO b VALUES(1); END;"
        "CREATE TRIGGER b_fired AFTER INSERT ON b BEGIN"
        " INSERT INTO fired VALUES(2); END;"
        "CREATE VIEW seen AS SELECT x FROM log;"
        "CREATE TABLE checked(x DEFAULT(boom(1)))";
    struct tr_store st = {.read_only = true};
    struct tr_err err;
    char path[300];
    int wrong = 0;
    (void)state;

    snprintf(path, sizeof path, "%s/hostile.db", folder);
    for (int configured = 0; configured < 2; configured++) {
        unlink(path);
        assert_int_equal(sqlite3_open(path, &st.db), SQLITE_OK);
        sqlite3_create_function(st.db, "boom", 1, SQLITE_UTF8, NULL, boom, NULL,
                                NULL);
        assert_int_equal(sqlite3_exec(st.db, hostile, NULL, NULL, NULL),
                         SQLITE_OK);
        sqlite3_close(st.db);
        assert_int_equal(sqlite3_open(path, &st.db), SQLITE_OK);
        sqlite3_create_function(st.db, "boom", 1, SQLITE_UTF8, NULL, boom, NULL,
                                NULL);
        allow_everything(st.db);
        if (configured)
            assert_int_equal(tr_layout_configure(&st, &err), TR_OK);
        for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
            const struct attack *a = &attacks[i];
            char *error;

            error = said_by(st.db, a);
            if (configured ? !error || !strstr(error, a->says) : !!error)
                print_error("%d %s: %s\n", ++wrong, a->name,
                            error ? error : "goes");
            sqlite3_free(error);
        }
        assert_int_equal(wrong, 0);
        sqlite3_exec(st.db, "INSERT INTO log VALUES(1)", NULL, NULL, NULL);
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            assert_int_equal(number_of(st.db, numbers[i].ask),
                             configured ? numbers[i].after : numbers[i].before);
        assert_int_equal(sqlite3_limit(st.db, SQLITE_LIMIT_WORKER_THREADS, -1),
                         configured ? 0 : 4);
        /* Triggers of triggers, were they ever to run. */
        sqlite3_db_config(st.db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 1, NULL);
        assert_int_equal(sqlite3_exec(st.db, "INSERT INTO a VALUES(1)", NULL,
                                      NULL, NULL) != SQLITE_OK, configured);
        sqlite3_close(st.db);
    }
}

/* More than we ever write in one value: refused when it is read. */
static void a_value_without_end_is_refused(void **state)
{
    struct tr_store *st;
    struct tr_buf value;
    struct tr_err err;
    char path[4096];
    sqlite3 *db;
    bool found;
    (void)state;

    path_of(79, path, sizeof path);
    open_raw(path, &db, "INSERT INTO value VALUES('x', zeroblob(67108865))");
    sqlite3_close(db);
    st = open_task(79);
    tr_buf_init(&value, 0);
    assert_int_equal(tr_store_get(st, "x", &value, &found, &err), TR_CONFIG);
    assert_non_null(strstr(err.text, "the file is damaged"));
    tr_buf_release(&value);
    tr_store_close(st);
}

/* Whatever bit of the file changes: no verdict and no label set comes back
 * other than it was. It may be missing, or the file may be refused. */
static void a_changed_bit_is_never_a_wrong_label(void **state)
{
    enum { ROWS = 150, FLIPS = 400, BYTES = 1 << 18 };
    struct tr_store_opts o = {.folder = folder, .task = key_of(80)};
    struct tr_store *st = open_task(80);
    struct tr_rng rng = {80};
    struct tr_err err;
    char path[4096];
    unsigned char *file = test_malloc(BYTES);
    int fd, refused = 0;
    ssize_t size;
    (void)state;

    origin_at(st, 1);
    assert_int_equal(tr_store_set_add(st, TR_STR("a|c"), &err), TR_OK);
    for (uint64_t n = 0; n < ROWS; n++) {
        struct tr_store_put put = put_of(n, 0);

        put.verdict.confidence = 9000;
        assert_int_equal((n < ROWS / 2 ? commit : save)(st, &put, 1), TR_OK);
    }
    snprintf(path, sizeof path, "%s", tr_store_path(st));
    tr_store_close(st);
    fd = open(path, O_RDWR);
    size = pread(fd, file, BYTES, 0);
    assert_in_range(size, 1, BYTES - 1);
    for (int i = 0; i < FLIPS; i++) {
        size_t at = tr_rng_below(&rng, (uint64_t)size);
        unsigned char changed = file[at] ^ (unsigned char)(1 << (i & 7));
        struct tr_store *again;

        assert_int_equal(ftruncate(fd, size), 0);
        assert_int_equal(pwrite(fd, file, (size_t)size, 0), size);
        assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
        if (tr_store_open(&again, &o, &err) != TR_OK) {
            refused++;
            continue;
        }
        lists_sets(again, again->set_count ? "a|c " : "");
        for (uint64_t n = 0; n < ROWS; n++) {
            struct tr_key key = key_of(n);
            struct tr_store_put put = put_of(n, 0);
            struct tr_verdict v;
            bool found;

            put.verdict.confidence = 9000;
            if (tr_store_find(again, &any, &key, 1, &v, &found, &err) != TR_OK)
                refused++;
            else if (found)
                assert_memory_equal(&v, &put.verdict, sizeof v);
        }
        tr_store_close(again);
    }
    close(fd);
    test_free(file);
    assert_true(refused > 0);
}

/* How often it is one after all: no more than 13 bits let through. */
static void changes_of_an_answer_pass_as_often_as_stated(void **state)
{
    enum { CHANGES = 1 << 20, EXPECTED = CHANGES >> 13 };
    struct tr_rng rng = {5};
    int passed = 0;
    (void)state;

    for (uint64_t i = 0; i < CHANGES; i++) {
        struct tr_store_put put = put_of(i, (uint16_t)(i % 3));
        size_t bit = tr_rng_below(&rng, 8 * sizeof put.key.b + 57 + 31);
        struct tr_verdict got;
        int64_t what, v;

        tr_verdict_pack(&put.key, &put.verdict, &what, &v);
        if (bit < 128)
            put.key.b[bit / 8] ^= (unsigned char)(1 << (bit & 7));
        else if (bit < 128 + 57)
            what ^= INT64_C(1) << (bit - 128);
        else
            v ^= INT64_C(1) << (bit - 128 - 57);
        passed += tr_verdict_unpack(&put.key, what, v, &got);
    }
    assert_in_range(passed, 1, EXPECTED * 3 / 2);
}

/* Bounds in tokens, for a budget in tokens: kept while nobody knows better. */
static void tokens_of_open_attempts_stay_charged(void **state)
{
    struct tr_store *st = open_task(7);
    struct tr_store_intent intents[4];
    struct tr_store_outcome outs[3];
    struct tr_job job;
    struct tr_err err;
    int64_t count, nano, round;
    (void)state;

    assert_int_equal(tr_store_job(st, "j", 1000, 0, &job, &err), TR_OK);
    assert_int_equal(job.unknown_tokens, 0);
    round = job.round;
    for (int i = 0; i < 4; i++)
        intents[i] = (struct tr_store_intent){tr_store_next_attempt(st), 1, 0,
                                              4, 1000 << i, NULL};
    assert_int_equal(tr_store_commit(st, NULL, 0, intents, 4, NULL, 0, &err),
                     TR_OK);
    outs[0] = (struct tr_store_outcome){.attempt = intents[0].attempt,
                                        .tokens_in = 70, .tokens_out = 5};
    outs[1] = (struct tr_store_outcome){.attempt = intents[1].attempt,
                                        .unknown_tokens = 2000,
                                        .is_unknown = true};
    outs[2] = (struct tr_store_outcome){.attempt = intents[2].attempt,
                                        .unsent = true};
    assert_int_equal(tr_store_commit(st, NULL, 0, NULL, 0, outs, 3, &err),
                     TR_OK);
    tr_store_close(st); /* the fourth is open, as after a crash */

    st = open_task(7);
    assert_int_equal(tr_store_job(st, "j", 2000, 0, &job, &err), TR_OK);
    assert_int_equal(job.tokens_in + job.tokens_out, 75);
    assert_int_equal(job.unknown_tokens, 2000 + 8000);
    assert_int_equal(job.requests, 3); /* not the one that never left */
    assert_int_equal(job.round, round);
    assert_int_equal(tr_store_job_finish(st, &err), TR_OK);
    assert_int_equal(tr_store_job(st, "j", 3000, 0, &job, &err), TR_OK);
    assert_int_equal(job.unknown_tokens, 0); /* another round */
    assert_int_equal(job.round, round + 1);
    intents[0] = (struct tr_store_intent){tr_store_next_attempt(st), 1, 0, 1,
                                          55, NULL};
    assert_int_equal(tr_store_commit(st, NULL, 0, intents, 1, NULL, 0, &err),
                     TR_OK);
    tr_store_close(st);
    st = open_task(7);
    assert_int_equal(tr_store_job(st, "j", 4000, 0, &job, &err), TR_OK);
    assert_int_equal(job.unknown_tokens, 55);
    assert_int_equal(tr_store_forgive(st, &count, &nano, &err), TR_OK);
    assert_int_equal(tr_store_job(st, "j", 5000, 0, &job, &err), TR_OK);
    assert_int_equal(job.unknown_tokens, 0);
    tr_store_close(st);
}

/* Saved answers are neither lost nor counted twice, whichever way the file is
 * opened next, and the last answer to a text is the one that stays. */
static void what_was_only_saved_is_found_later(void **state)
{
    enum { ROWS = 60 };
    struct tr_store_opts look = {.folder = folder, .task = key_of(81),
                                 .read_only = true};
    struct tr_store *st = open_task(81);
    struct tr_store_put puts[ROWS];
    struct tr_store_info info;
    struct tr_verdict v;
    struct tr_err err;
    (void)state;

    for (uint64_t n = 0; n < ROWS; n++)
        puts[n] = put_of(n, n % 2 ? TR_NO_ORIGIN : origin_at(st, 5));
    assert_int_equal(commit(st, puts, ROWS / 3), TR_OK);
    for (size_t n = ROWS / 4; n < ROWS; n++) {
        puts[n].verdict.why = n % 5 ? TR_WHY_NONE : TR_WHY_BLOCKED;
        puts[n].verdict.set = n % 5 ? 77 : 0;
    }
    assert_int_equal(save(st, puts + ROWS / 2, ROWS / 2), TR_OK);
    puts[ROWS - 1].verdict.set = 78;
    assert_int_equal(save(st, puts + ROWS / 4, ROWS / 2), TR_OK);
    assert_int_equal(save(st, puts + ROWS - 1, 1), TR_OK);
    assert_false(has(st, ROWS - 1, &any, &v)); /* seen from its commit on */
    tr_store_close(st);

    for (int reader = 2; reader-- > 0; ) {
        look.read_only = reader;
        assert_int_equal(tr_store_open(&st, &look, &err), TR_OK);
        assert_int_equal(tr_store_look(st, &info, &err), TR_OK);
        assert_int_equal(info.verdicts, ROWS);
        assert_int_equal(info.failures, ROWS / 5 - ROWS / 20);
        if (!reader)
            for (uint64_t n = 0; n < ROWS; n++) {
                assert_true(has(st, n, &any, &v));
                assert_memory_equal(&v, &puts[n].verdict, sizeof v);
            }
        tr_store_close(st);
    }
}

/* More answers between two commits than may wait: the save commits. */
static void a_full_stage_empties_itself(void **state)
{
    enum { SAVE = 1 << 10 };
    struct tr_store *st = open_task(82);
    struct tr_store_put *puts = test_malloc(SAVE * sizeof *puts);
    struct tr_verdict v;
    uint64_t n = 0;
    (void)state;

    assert_int_equal(commit(st, NULL, 0), TR_OK); /* nothing is pending */
    while (n <= TR_STAGED_MAX) {
        assert_false(n && has(st, 0, &any, &v));
        for (size_t i = 0; i < SAVE; i++)
            puts[i] = put_of(n++, TR_NO_ORIGIN);
        assert_int_equal(save(st, puts, SAVE), TR_OK);
    }
    assert_true(has(st, 0, &any, &v) && has(st, n - 1, &any, &v));
    assert_int_equal(tr_store_count(st), (int64_t)n);
    test_free(puts);
    tr_store_close(st);
}

static int64_t layout_of(const char *path)
{
    unsigned char b[4];
    int fd = open(path, O_RDONLY);

    assert_int_equal(pread(fd, b, 4, 60), 4);
    close(fd);
    return b[3];
}

/* A file of an earlier trommel: a reader leaves it as it is, a run gives it
 * the tables it lacks. */
static void an_older_layout_is_read_and_brought_up(void **state)
{
    static const char *const back[] = {
        NULL, "DROP TABLE fresh; PRAGMA user_version = 1",
        "DROP TABLE batch; DROP TABLE in_batch; PRAGMA user_version = 2",
        "PRAGMA user_version = 3",
    };
    (void)state;

    for (uint64_t layout = 1; layout < TR_STORE_LAYOUT; layout++) {
        struct tr_store_opts look = {.folder = folder,
                                     .task = key_of(90 + layout),
                                     .read_only = true};
        struct tr_store_put put = put_of(1, TR_NO_ORIGIN);
        struct tr_store *st = open_task(90 + layout);
        struct tr_verdict v;
        struct tr_err err;
        char path[4096];
        sqlite3 *db;

        assert_int_equal(commit(st, &put, 1), TR_OK);
        snprintf(path, sizeof path, "%s", tr_store_path(st));
        tr_store_close(st);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        for (uint64_t i = TR_STORE_LAYOUT; i-- > layout; )
            assert_int_equal(sqlite3_exec(db, back[i], NULL, NULL, NULL),
                             SQLITE_OK);
        sqlite3_close(db);

        assert_int_equal(tr_store_open(&st, &look, &err), TR_OK);
        assert_true(has(st, 1, &any, &v));
        assert_int_equal(tr_store_count(st), 1);
        tr_store_close(st);
        assert_int_equal(layout_of(path), layout);

        st = open_task(90 + layout);
        assert_true(has(st, 1, &any, &v));
        put = put_of(2, TR_NO_ORIGIN);
        assert_int_equal(save(st, &put, 1), TR_OK);
        tr_store_close(st);
        assert_int_equal(layout_of(path), TR_STORE_LAYOUT);
        st = open_task(90 + layout);
        assert_true(has(st, 1, &any, &v) && has(st, 2, &any, &v));
        tr_store_close(st);
    }
}

/* The log stays within its bound and one commit over a long job, and what one
 * large commit added is given back. */
static void the_log_stays_short(void **state)
{
    enum { COMMITS = 300, PUTS = 1500, LARGE = 40 << 20 };
    static struct tr_store_put puts[PUTS];
    struct tr_store *st = open_task(90);
    char wal[4200], *large = test_calloc(1, LARGE);
    off_t most = 0;
    struct stat sb;
    struct tr_err err;
    int shorter = 0;
    (void)state;

    snprintf(wal, sizeof wal, "%s-wal", tr_store_path(st));
    for (uint64_t i = 0; i < COMMITS; i++) {
        for (uint64_t k = 0; k < PUTS; k++)
            puts[k] = put_of(i * PUTS + k, TR_NO_ORIGIN);
        assert_int_equal(commit(st, puts, PUTS), TR_OK);
        assert_int_equal(stat(wal, &sb), 0);
        if (sb.st_size > most)
            most = sb.st_size;
    }
    /* Each answer may change a page of its own. */
    assert_in_range(most, 40 << 20,
                    (TR_LOG_PAGES + PUTS + 100) * (4096 + 24));
    for (int i = 0; i < 2; i++) /* both in one commit */
        assert_int_equal(tr_store_set(st, i ? "x" : "y", tr_str(large, LARGE),
                                      &err), TR_OK);
    assert_int_equal(commit(st, NULL, 0), TR_OK);
    assert_int_equal(stat(wal, &sb), 0);
    assert_true(sb.st_size > 2 * LARGE);
    for (uint64_t i = 0; i < 3 && !shorter; i++) {
        assert_int_equal(commit(st, puts, PUTS), TR_OK);
        assert_int_equal(stat(wal, &sb), 0);
        shorter = sb.st_size <= TR_LOG_BYTES;
    }
    assert_true(shorter);
    test_free(large);
    tr_store_close(st);
    assert_int_equal(access(wal, F_OK), -1);
}

/* A reader cannot keep the log from being merged: a run and a reader are never
 * there together, not even one that is not ours. */
static void no_reader_makes_the_log_grow(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(91)};
    struct tr_store *st = open_task(91);
    struct tr_err err;
    char path[4096];
    sqlite3 *db;
    (void)state;

    snprintf(path, sizeof path, "%s", tr_store_path(st));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "SELECT * FROM answer", NULL, NULL, NULL),
                     SQLITE_BUSY);
    tr_store_close(st);
    /* It was there first, and stays. */
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM answer", NULL, NULL,
                                  NULL), SQLITE_OK);
    assert_int_equal(tr_store_open(&st, &o, &err), TR_STOPPED);
    assert_non_null(strstr(err.text, "another program has the file open"));
    sqlite3_close(db);
    tr_store_close(open_task(91));
}

/* The first of a round that asks says since when; a new round begins anew. */
static void a_round_keeps_since_when_it_asks_again(void **state)
{
    static const struct {
        int64_t now_s;
        unsigned again;
        bool finishes;
        int64_t fresh_at, retry_at;
    } runs[] = {
        {1000, 0,                              false, 0,    0   },
        {2000, TR_AGAIN_FAILED,                false, 0,    2000},
        {3000, TR_AGAIN_ALL | TR_AGAIN_FAILED, false, 3000, 2000},
        {4000, TR_AGAIN_ALL,                   false, 3000, 0   },
        {500,  TR_AGAIN_ALL,                   true,  3000, 0   },
        {5000, TR_AGAIN_FAILED,                true,  0,    5000},
        {6000, TR_AGAIN_ALL,                   false, 6000, 0   },
        {7000, TR_AGAIN_FAILED,                false, 0,    7000},
    };
    struct tr_store *st;
    struct tr_job job;
    struct tr_err err;
    (void)state;

    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        st = open_task(92);
        assert_int_equal(tr_store_job(st, "j", runs[i].now_s, runs[i].again,
                                      &job, &err), TR_OK);
        assert_int_equal(job.fresh_at, runs[i].fresh_at);
        assert_int_equal(job.retry_at, runs[i].retry_at);
        if (runs[i].finishes)
            assert_int_equal(tr_store_job_finish(st, &err), TR_OK);
        tr_store_close(st);
    }
}

/* Of a store whose clock showed a year before 1970. */
static void no_answer_is_too_old_without_a_bound(void **state)
{
    struct tr_store *st = open_task(230);
    struct tr_store_find how = {0};
    struct tr_store_put put = put_of(1, origin_at(st, -5000));
    struct tr_verdict v;
    (void)state;

    put.verdict.why = TR_WHY_INVALID;
    assert_int_equal(commit(st, &put, 1), TR_OK);
    assert_true(has(st, 1, &how, &v));
    how.failures_not_before = 1;
    assert_false(has(st, 1, &how, &v));
    tr_store_close(st);
}

/* A clock that was ahead began the round, and nothing was answered by then.
 * What a later run of it is told counts for it all the same. */
static void answers_count_after_a_clock_was_ahead(void **state)
{
    static const struct {
        unsigned first, again;
    } cases[] = {
        {TR_AGAIN_ALL,    TR_AGAIN_ALL},
        {TR_AGAIN_FAILED, TR_AGAIN_FAILED},
        {0,               TR_AGAIN_ALL},
        {0,               TR_AGAIN_ALL | TR_AGAIN_FAILED},
    };
    (void)state;

    for (uint64_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_store_opts look = {.folder = folder, .task = key_of(220 + i),
                                     .read_only = true};
        struct tr_store *st = open_task(220 + i);
        struct tr_store_put put;
        struct tr_verdict v;
        struct tr_job job, ahead;
        struct tr_err err;

        assert_int_equal(tr_store_job(st, "j", 5000, cases[i].first, &job,
                                      &err), TR_OK);
        tr_store_close(st);
        assert_int_equal(tr_store_open(&st, &look, &err), TR_OK);
        assert_int_equal(tr_store_job_ahead(st, "j", 3000, cases[i].again,
                                            &ahead, &err), TR_OK);
        tr_store_close(st);
        st = open_task(220 + i);
        assert_int_equal(tr_store_job(st, "j", 3000, cases[i].again, &job,
                                      &err), TR_OK);
        assert_true(job.run_at >= job.started_at);
        assert_true(job.run_at >= job.fresh_at);
        assert_true(job.run_at >= job.retry_at);
        assert_int_equal(ahead.run_at, job.run_at);
        put = put_of(1, origin_at(st, job.run_at));
        put.verdict.why = TR_WHY_INVALID; /* --retry-failed asks for it, too */
        assert_int_equal(commit(st, &put, 1), TR_OK);
        for (int opened = 0; opened < 2; opened++) {
            struct tr_store_find how = {
                .not_before = job.fresh_at,
                .failures_not_before = job.retry_at};

            assert_true(has(st, 1, &how, &v));
            tr_store_close(st);
            st = open_task(220 + i);
            assert_int_equal(tr_store_job(st, "j", 3001, cases[i].again, &job,
                                          &err), TR_OK);
            assert_true(job.run_at > 5000); /* apart from the one before */
        }
        tr_store_close(st);
    }
}

static void money_of_open_attempts_becomes_unknown(void **state)
{
    struct tr_store *st = open_task(6);
    struct tr_store_intent intents[3];
    struct tr_store_outcome paid, lost;
    struct tr_store_info info;
    struct tr_job job;
    struct tr_err err;
    int64_t count, nano;
    uint64_t last;
    (void)state;

    assert_int_equal(tr_store_job(st, "j", 1000, 0, &job, &err), TR_OK);
    assert_int_equal(job.started_at, 1000);
    for (int i = 0; i < 3; i++)
        intents[i] = (struct tr_store_intent){tr_store_next_attempt(st),
                                              (uint64_t)-1, 100 << i, 4, 0,
                                              NULL};
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
    assert_int_equal(tr_store_job(st, "j", 2000, 0, &job, &err), TR_OK);
    assert_int_equal(job.started_at, 1000); /* the same round goes on */
    assert_int_equal(job.spent_nano, 60);
    assert_int_equal(job.unknown_nano, 200 + 400);
    assert_int_equal(job.unknown_count, 2);
    assert_int_equal(job.tokens_in, 7);
    assert_int_equal(job.requests, 3);
    assert_int_equal(tr_store_job(st, "k", 2500, 0, &job, &err), TR_OK);
    assert_int_equal(job.spent_nano + job.unknown_nano, 0); /* another job */
    assert_int_equal(tr_store_job(st, "j", 2600, 0, &job, &err), TR_OK);
    assert_int_equal(tr_store_job_finish(st, &err), TR_OK);
    tr_store_close(st);

    st = open_task(6);
    assert_int_equal(tr_store_job(st, "j", 3000, 0, &job, &err), TR_OK);
    assert_int_equal(job.started_at, 3000); /* a new round, nothing spent */
    assert_int_equal(job.spent_nano + job.unknown_nano + job.requests, 0);
    assert_int_equal(tr_store_look(st, &info, &err), TR_OK);
    assert_int_equal(info.spent_nano, 60); /* all rounds */
    assert_int_equal(info.unknown_count, 2);
    assert_int_equal(info.unknown_nano, 600);
    assert_int_equal(info.first_at, 2500); /* of the rounds under way */
    assert_int_equal(tr_store_forgive(st, &count, &nano, &err), TR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(nano, 600);
    assert_int_equal(tr_store_forgive(st, &count, &nano, &err), TR_OK);
    assert_int_equal(count + nano, 0);
    tr_store_close(st);
}

struct seen {
    struct tr_store_item items[4];
    struct tr_key first[4];
    size_t n;
};

static int see(void *ctx, const struct tr_store_item *item, struct tr_err *err)
{
    struct seen *s = ctx;
    (void)err;

    s->first[s->n] = item->keys[0];
    s->items[s->n++] = *item;
    return TR_OK;
}

/* What is in a batch stays open over the death of the process, what waited
 * for one is forgotten, what was sent otherwise is unknown. */
static void attempts_in_batches_outlive_the_process(void **state)
{
    struct tr_store *st = open_task(160);
    struct tr_key keys[4] = {key_of(1), key_of(2), key_of(3), key_of(4)};
    struct tr_store_intent in[4];
    struct tr_store_outcome out;
    struct tr_batch batch = {.created_at = 77, .tokens = 90, .lane = "m@h",
                             .mark = "abc"};
    struct tr_batch *list;
    struct seen seen = {0};
    struct tr_job job;
    struct tr_err err;
    uint64_t in_it[2];
    size_t n;
    (void)state;

    assert_int_equal(tr_store_job(st, "j", 1000, 0, &job, &err), TR_OK);
    for (int i = 0; i < 4; i++)
        in[i] = (struct tr_store_intent){tr_store_next_attempt(st),
                                         (uint64_t)i - 2, 100 << i, 2,
                                         10 << i, i < 3 ? keys + i : NULL};
    assert_int_equal(tr_store_commit(st, NULL, 0, in, 4, NULL, 0, &err), TR_OK);
    in_it[0] = in[0].attempt;
    in_it[1] = in[1].attempt;
    assert_int_equal(tr_store_batch_creating(st, &batch, in_it, 2, &err),
                     TR_OK);
    assert_true(batch.id > 0);
    tr_store_close(st);

    st = open_task(160);
    assert_int_equal(tr_store_job(st, "j", 2000, 0, &job, &err), TR_OK);
    assert_int_equal(job.open_nano, 100 + 200);
    assert_int_equal(job.open_tokens, 10 + 20);
    assert_int_equal(job.open_requests, 2);
    assert_int_equal(job.unknown_tokens, 80);
    assert_int_equal(job.unknown_nano, 800); /* not the third: never left */
    assert_int_equal(job.unknown_count, 1);
    assert_int_equal(tr_store_batches(st, &list, &n, &err), TR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(list[0].state, TR_BATCH_CREATING);
    assert_int_equal(list[0].requests, 2);
    assert_int_equal(list[0].created_at, 77);
    assert_int_equal(list[0].tokens, 90);
    assert_string_equal(list[0].lane, "m@h");
    assert_string_equal(list[0].mark, "abc");
    snprintf(list[0].name, sizeof list[0].name, "batch_1");
    assert_int_equal(tr_store_batch_opened(st, list, &err), TR_OK);
    assert_int_equal(tr_store_batch_items(st, list[0].id, see, &seen, &err),
                     TR_OK);
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.items[1].attempt, in[1].attempt);
    assert_int_equal(seen.items[1].seed, (uint64_t)-1);
    assert_int_equal(seen.items[1].bound_nano, 200);
    assert_int_equal(seen.items[1].bound_tokens, 20);
    assert_int_equal(seen.items[1].items, 2);
    assert_true(seen.items[1].ours);
    assert_memory_equal(&seen.first[1], &keys[1], sizeof keys[1]);
    tr_free(list);

    /* Another job hears one answer: the first one pays. */
    assert_int_equal(tr_store_job(st, "k", 2000, 0, &job, &err), TR_OK);
    assert_int_equal(job.open_nano, 0);
    seen.n = 0;
    assert_int_equal(tr_store_batch_items(st, batch.id, see, &seen, &err),
                     TR_OK);
    assert_false(seen.items[0].ours);
    out = (struct tr_store_outcome){.attempt = in[0].attempt, .in_batch = true,
                                    .spent_nano = 60, .tokens_in = 7,
                                    .of_other = true};
    assert_int_equal(tr_store_commit(st, NULL, 0, NULL, 0, &out, 1, &err),
                     TR_OK);
    assert_int_equal(tr_store_job(st, "k", 2000, 0, &job, &err), TR_OK);
    assert_int_equal(job.spent_nano + job.requests, 0);
    assert_int_equal(tr_store_job(st, "j", 2000, 0, &job, &err), TR_OK);
    assert_int_equal(job.spent_nano, 60);
    assert_int_equal(job.tokens_in, 7);
    assert_int_equal(job.requests, 2); /* with the fourth, which is lost */
    assert_int_equal(job.open_nano, 200);
    assert_int_equal(job.open_tokens, 20);
    assert_int_equal(job.open_requests, 1);
    out = (struct tr_store_outcome){.attempt = in[1].attempt, .in_batch = true};
    assert_int_equal(tr_store_commit(st, NULL, 0, NULL, 0, &out, 1, &err),
                     TR_OK);
    assert_int_equal(tr_store_batches(st, &list, &n, &err), TR_OK);
    assert_int_equal(n, 0); /* the last answer takes the batch away */
    tr_free(list);
    tr_store_close(st);
}

static void sql(uint64_t task, const char *text)
{
    char path[200];
    sqlite3 *db;

    path_of(task, path, sizeof path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

static void a_changed_request_of_a_batch_is_refused(void **state)
{
    struct tr_store *st = open_task(162);
    struct tr_key keys[2] = {key_of(1), key_of(2)};
    struct tr_store_intent in = {tr_store_next_attempt(st), 5, 1, 2, 0, keys};
    struct tr_batch batch = {.lane = "m@h", .mark = "abc"};
    struct seen seen = {0};
    struct tr_err err;
    (void)state;

    assert_int_equal(tr_store_commit(st, NULL, 0, &in, 1, NULL, 0, &err),
                     TR_OK);
    assert_int_equal(tr_store_batch_creating(st, &batch, &in.attempt, 1, &err),
                     TR_OK);
    tr_store_close(st);
    sql(162, "UPDATE attempt SET seed = 6");
    st = open_task(162);
    assert_int_equal(tr_store_batch_items(st, batch.id, see, &seen, &err),
                     TR_CONFIG);
    assert_non_null(strstr(err.text, "a batch was changed"));
    assert_int_equal(seen.n, 0);
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
    lists_sets(st, "b|a a|c ");
    assert_int_equal(tr_store_get(st, "v", &out, &found, &err), TR_OK);
    assert_true(found && tr_str_eq(tr_buf_str(&out), tr_str("x\0y", 3)));
    assert_int_equal(tr_store_get(st, "w", &out, &found, &err), TR_OK);
    assert_false(found);
    tr_buf_release(&out);
    tr_store_close(st);
}

/* Run i began at second i and asked openai/x, which x-2026 answered; but 1 and
 * 2 asked openai/y, which y-1 and y-2 did. */
static void fill_origins(uint64_t task, unsigned count)
{
    char text[400];

    tr_store_close(open_task(task));
    snprintf(text, sizeof text, "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL "
             "SELECT i + 1 FROM n WHERE i < %u) INSERT INTO origin SELECT i, "
             "'openai/x', 'x-2026', '', 1, i FROM n", count - 1);
    sql(task, text);
    sql(task, "UPDATE origin SET by = 'openai/y', served = 'y-' || id "
              "WHERE id IN (1, 2)");
}

static void runs_share_a_number_when_there_are_many(void **state)
{
    enum { OWN = TR_ORIGINS_OWN, MOST = TR_NO_ORIGIN,
           FEW = MOST - TR_ORIGINS_LEAST + 1, NEW = -1, NONE = -2 };
    static const struct {
        unsigned count; /* of runs before */
        struct tr_origin o;
        int64_t since;
        int index;
    } cases[] = {
        /* each has its own */
        {OWN - 1, {"openai/x", "x-2026", "", 1, 9999999}, 0, NEW},
        {OWN - 1, {"openai/x", "x-2026", "", 1, 7}, 0, 7},
        /* the last that says the same */
        {OWN, {"openai/x", "x-2026", "", 1, 9999999}, 0, OWN - 1},
        {OWN, {"openai/x", "x-2026", "", 1, 9999999}, OWN - 1, OWN - 1},
        {OWN, {"openai/x", "x-2026", "", 1, 9999999}, OWN, NEW},
        {OWN, {"openai/x", "x-2027", "", 1, 9999999}, 0, NEW},
        {OWN, {"openai/x", "x-2026", "low", 1, 9999999}, 0, NEW},
        {OWN, {"openai/x", "x-2026", "", 2, 9999999}, 0, NEW},
        {OWN, {"openai/z", "x-2026", "", 1, 9999999}, 0, NEW},
        {OWN, {"openai/y", "y-2", "", 1, 9999999}, 0, 2},
        {OWN, {"openai/y", "y-1", "", 1, 9999999}, 0, NEW},
        {OWN, {"openai/y", "y-1", "", 1, 1}, 0, 1},
        /* few are left: whoever answered */
        {FEW - 1, {"openai/x", "x-2027", "", 1, 9999999}, 0, NEW},
        {FEW, {"openai/x", "x-2027", "", 1, 9999999}, 0, FEW - 1},
        {FEW, {"openai/x", "x-2027", "", 1, 9999999}, FEW, NEW},
        {FEW, {"openai/z", "", "", 1, 9999999}, 0, NEW},
        /* none */
        {MOST, {"openai/y", "", "", 1, 9999999}, 0, 2},
        {MOST, {"openai/x", "x-2027", "", 1, 9999999}, 0, MOST - 1},
        {MOST, {"openai/x", "x-2026", "", 1, 9999999}, MOST, NONE},
        {MOST, {"openai/z", "", "", 1, 9999999}, 0, NONE},
    };
    unsigned filled = 0;
    uint64_t task = 300;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_store *st;
        struct tr_err err;
        uint16_t index;
        int want = cases[i].index, rc;

        if (cases[i].count != filled)
            fill_origins(++task, filled = cases[i].count);
        st = open_task(task);
        assert_int_equal(tr_store_origins_scarce(st), filled >= FEW);
        rc = tr_store_origin(st, &cases[i].o, cases[i].since, &index, &err);
        assert_int_equal(rc, want == NONE ? TR_CONFIG : TR_OK);
        if (want == NONE)
            assert_non_null(strstr(err.text, "leave --fresh out"));
        else
            assert_int_equal(index, want == NEW ? filled : (unsigned)want);
        tr_store_close(st); /* nothing was committed */
    }
}

static bool tells(int tell, uint64_t step, uint64_t attempt)
{
    uint64_t told[2] = {step, attempt};

    return write(tell, told, sizeof told) == sizeof told;
}

/* A child commits, step by step, a row, the intent of an attempt and the
 * outcome of the one before (which cost 1), and tells each step after its
 * commit; some rows are only saved before it, and told then. It is killed at a
 * random moment. What it told must be there: the rows, and every attempt
 * either paid or unknown. */
static void child_works(uint64_t step, int tell)
{
    struct tr_store *st = open_task(8);
    struct tr_store_outcome out = {.spent_nano = 1};
    struct tr_job job;
    struct tr_err err;

    if (tr_store_job(st, "j", 1, 0, &job, &err) != TR_OK)
        _exit(1);
    for (;; step++) {
        struct tr_store_put put = put_of(step, TR_NO_ORIGIN);
        struct tr_store_intent intent = {tr_store_next_attempt(st), 1, 1, 1,
                                         0, NULL};
        size_t outs = out.attempt != 0;

        for (; step % 4; step++) { /* without a sync: safe from a kill */
            if (tr_store_save(st, &put, 1, &out, outs, &err) != TR_OK ||
                !tells(tell, step, 0))
                _exit(1);
            outs = 0;
            put = put_of(step + 1, TR_NO_ORIGIN);
        }
        if (tr_store_commit(st, &put, 1, &intent, 1, &out, outs, &err) !=
                TR_OK || !tells(tell, step, intent.attempt))
            _exit(1);
        out.attempt = intent.attempt;
    }
}

static void what_was_committed_survives_sigkill(void **state)
{
    struct tr_rng rng = {11};
    uint64_t steps = 0, last_attempt = 0, told[2];
    int64_t attempts = 0;
    (void)state;

    for (int round = 0; round < 12; round++) {
        int pipe_fds[2];
        pid_t child;
        struct tr_store *st;
        struct tr_verdict v;
        struct tr_job job;
        struct tr_err err;

        assert_int_equal(pipe(pipe_fds), 0);
        child = fork();
        if (child == 0)
            child_works(steps, pipe_fds[1]);
        close(pipe_fds[1]);
        if (round == 0) /* one at least gets to a commit */
            poll(&(struct pollfd){pipe_fds[0], POLLIN, 0}, 1, -1);
        usleep((useconds_t)(5000 + tr_rng_below(&rng, 30000)));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipe_fds[0], told, sizeof told) == sizeof told) {
            steps = told[0] + 1;
            if (told[1]) {
                assert_true(told[1] > last_attempt); /* never the same twice */
                last_attempt = told[1];
                attempts++;
            }
        }
        close(pipe_fds[0]);
        st = open_task(8);
        for (uint64_t n = 0; n < steps; n++)
            assert_true(has(st, n, &any, &v));
        assert_int_equal(tr_store_job(st, "j", 1, 0, &job, &err), TR_OK);
        assert_true(job.spent_nano + job.unknown_nano >= attempts);
        assert_int_equal(job.spent_nano + job.unknown_nano, job.requests);
        assert_true(job.unknown_count <= round + 1);
        tr_store_close(st);
    }
    assert_true(attempts > 0);
}

static void a_full_disk_is_an_error_and_loses_nothing(void **state)
{
    struct rlimit whole, small;
    struct tr_store *st = open_task(9);
    struct tr_store_put put = put_of(0, TR_NO_ORIGIN);
    struct tr_verdict v;
    struct tr_err err;
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
    /* A disk that failed is not asked again by the same process. */
    assert_int_equal(commit(st, &put, 1), TR_IO);
    assert_int_equal(tr_store_set(st, "x", TR_STR("y"), &err), TR_IO);
    assert_non_null(strstr(err.text, "run the same command again"));
    tr_store_close(st);
    st = open_task(9);
    for (uint64_t i = 0; i < n - 1; i++)
        assert_true(has(st, i, &any, &v));
    tr_store_close(st);
}

static int intend(struct tr_store *st, uint64_t *attempt)
{
    struct tr_err err;
    struct tr_store_intent intent = {tr_store_next_attempt(st), 1, 100, 4, 0,
                                     NULL};

    *attempt = intent.attempt;
    return tr_store_commit(st, NULL, 0, &intent, 1, NULL, 0, &err);
}

/* The disk takes nothing beyond size: how many puts went well before it. */
static uint64_t fill_up(struct tr_store *st, rlim_t size)
{
    struct rlimit limit;
    uint64_t n = 0;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = size;
    setrlimit(RLIMIT_FSIZE, &limit);
    for (;; n++) {
        struct tr_store_put put = put_of(n, TR_NO_ORIGIN);

        if (commit(st, &put, 1) != TR_OK)
            return n;
    }
}

static void grow_again(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* -1: there is none. */
static off_t rescue_file(uint64_t task, char *path, size_t size)
{
    struct tr_key key = key_of(task);
    struct stat sb;
    char hex[33];

    tr_key_hex(&key, 16, hex);
    snprintf(path, size, "%s/%s.rescue", folder, hex);
    return stat(path, &sb) == 0 ? sb.st_size : -1;
}

/* A store of a job with an attempt under way, whose disk is full; then its
 * answer comes, from a model not seen before, with a new set of labels. */
static void rescue_one(uint64_t task, uint64_t *committed)
{
    struct tr_store *st = open_task(task);
    struct tr_store_outcome paid = {.spent_nano = 60, .tokens_in = 7};
    struct tr_store_put put;
    struct tr_job job;
    struct tr_err err;
    char path[200];

    assert_int_equal(tr_store_job(st, "j", 1000, 0, &job, &err), TR_OK);
    assert_int_equal(rescue_file(task, path, sizeof path), -1);
    assert_int_equal(intend(st, &paid.attempt), TR_OK);
    assert_true(rescue_file(task, path, sizeof path) > 1 << 20);
    *committed = fill_up(st, 256 << 10);
    put = put_of(1000000, origin_at(st, 5000));
    assert_int_equal(tr_store_set_add(st, TR_STR("a|b"), &err), TR_OK);
    assert_int_equal(tr_store_rescue(st, &put, 1, NULL, 0, &err), TR_OK);
    assert_int_equal(tr_store_rescue(st, NULL, 0, &paid, 1, &err), TR_OK);
    grow_again();
    tr_store_close(st);
}

static void what_comes_after_a_failure_is_found_later(void **state)
{
    struct tr_store *st;
    struct tr_store_opts look = {.folder = folder, .task = key_of(131),
                                 .read_only = true};
    struct tr_verdict v;
    struct tr_job job;
    struct tr_err err;
    char path[200];
    uint64_t n;
    (void)state;

    rescue_one(131, &n);
    assert_int_equal(tr_store_open(&st, &look, &err), TR_OK);
    assert_int_equal(tr_store_count(st), n + 1); /* a reader counts it */
    tr_store_close(st);
    for (int again = 0; again < 2; again++) {
        st = open_task(131);
        assert_int_equal(rescue_file(131, path, sizeof path), -1);
        assert_int_equal(tr_store_count(st), n + 1);
        for (uint64_t i = 0; i < n; i++)
            assert_true(has(st, i, &any, &v));
        assert_true(has(st, 1000000, &any, &v));
        assert_int_equal(tr_store_origin_at(st, v.origin)->run_at, 5000);
        lists_sets(st, "a|b ");
        assert_int_equal(tr_store_job(st, "j", 2000, 0, &job, &err),
                         TR_OK);
        assert_int_equal(job.spent_nano, 60);
        assert_int_equal(job.unknown_count, 0);
        tr_store_close(st);
    }
}

/* The store is moved away in mid-run, and its last answers come; then the
 * command is repeated before it is back. */
static void a_rescue_waits_for_the_store_it_belongs_to(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(240)};
    struct tr_store *st = open_task(240);
    struct tr_store_put put = put_of(1, origin_at(st, 100));
    char path[4096], other[4096], wal[4200], away[4200], away_wal[4300],
        lock[4200], rescue[200];
    struct tr_err err;
    struct tr_verdict v;
    uint64_t attempt;
    (void)state;

    snprintf(path, sizeof path, "%s", tr_store_path(st));
    snprintf(wal, sizeof wal, "%s-wal", path);
    snprintf(away, sizeof away, "%s/away", folder);
    snprintf(away_wal, sizeof away_wal, "%s-wal", away);
    snprintf(lock, sizeof lock, "%.*slock", (int)strlen(path) - 2, path);
    assert_int_equal(commit(st, &put, 1), TR_OK);
    assert_int_equal(intend(st, &attempt), TR_OK);
    assert_int_equal(rename(path, away), 0);
    put = put_of(2, put.verdict.origin);
    assert_int_equal(commit(st, &put, 1), TR_IO);
    assert_int_equal(tr_store_rescue(st, &put, 1, NULL, 0, &err), TR_OK);
    tr_store_close(st);
    assert_int_equal(rename(wal, away_wal), 0);

    for (int again = 0; again < 2; again++) { /* nothing is made meanwhile */
        assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
        assert_non_null(strstr(err.text, "put it back"));
        assert_int_equal(access(path, F_OK), -1);
        assert_true(rescue_file(240, rescue, sizeof rescue) > 60);
    }
    /* One that knows less stands in its place, and nobody counted. */
    path_of(241, other, sizeof other);
    assert_int_equal(unlink(lock), 0);
    copy_file(other, path);
    is_refused(240, "another", "put it back");
    assert_true(rescue_file(240, rescue, sizeof rescue) > 60);

    assert_int_equal(rename(away, path), 0);
    assert_int_equal(rename(away_wal, wal), 0);
    st = open_task(240);
    assert_true(has(st, 1, &any, &v));
    assert_true(has(st, 2, &any, &v));
    assert_int_equal(rescue_file(240, rescue, sizeof rescue), -1);
    tr_store_close(st);
}

/* As is refused of the store itself: they may be made up. */
static void rescued_answers_of_another_user_are_refused(void **state)
{
    struct tr_store_opts o = {.folder = folder, .task = key_of(49)};
    struct tr_store *st = open_task(49);
    struct tr_store_put put = put_of(1, origin_at(st, 100));
    char path[4096], away[4200], rescue[4200];
    uint64_t attempt;
    struct tr_verdict v;
    struct tr_err err;
    (void)state;

    snprintf(path, sizeof path, "%s", tr_store_path(st));
    snprintf(away, sizeof away, "%s/away", folder);
    snprintf(rescue, sizeof rescue, "%.*srescue", (int)strlen(path) - 2, path);
    assert_int_equal(intend(st, &attempt), TR_OK);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(commit(st, &put, 1), TR_IO);
    assert_int_equal(tr_store_rescue(st, &put, 1, NULL, 0, &err), TR_OK);
    tr_store_close(st);
    assert_int_equal(rename(away, path), 0);
    if (geteuid() == 0 && chown(rescue, 65534, 65534) == 0) {
        assert_int_equal(tr_store_open(&st, &o, &err), TR_CONFIG);
        assert_non_null(strstr(err.text, "belongs to another user"));
        assert_int_equal(chown(rescue, 0, 0), 0);
    }
    st = open_task(49);
    assert_true(has(st, 1, &any, &v));
    tr_store_close(st);
}

/* A label set that no list has is no set of the store it was meant for. */
static void a_rescued_set_waits_for_the_sets_before_it(void **state)
{
    struct tr_rescue r;
    struct tr_err err;
    struct tr_store *st;
    char path[4096], rescue[200];
    (void)state;

    path_of(242, path, sizeof path);
    for (uint32_t at = 0; at < 2; at++) {
        tr_rescue_init(&r);
        assert_int_equal(tr_rescue_reserve(&r, path, &err), TR_OK);
        tr_rescue_set(&r, 1 - at, TR_STR("a|b"));
        assert_int_equal(tr_rescue_write(&r, &err), TR_OK);
        tr_rescue_close(&r, path);
        if (!at)
            is_refused(242, "a later set", "put it back");
    }
    assert_true(rescue_file(242, rescue, sizeof rescue) > 60);
    st = open_task(242);
    lists_sets(st, "a|b ");
    tr_store_close(st);
}

/* A cut or a changed bit in a record: it is as if it had not been written. */
static void half_a_record_is_no_record(void **state)
{
    char path[200];
    struct tr_verdict v;
    struct tr_job job;
    struct tr_err err;
    (void)state;

    for (uint64_t how = 0; how < 2; how++) {
        struct tr_store *st;
        uint64_t n;

        rescue_one(132 + how, &n);
        assert_true(rescue_file(132 + how, path, sizeof path) > 60);
        if (how)
            overwrite(path, "x", 1, 60);
        else
            assert_int_equal(truncate(path, 60), 0);
        st = open_task(132 + how);
        assert_int_equal(tr_store_count(st), n);
        assert_false(has(st, 1000000, &any, &v));
        assert_int_equal(tr_store_job(st, "j", 2000, 0, &job, &err),
                         TR_OK);
        assert_int_equal(job.unknown_nano, 100);
        tr_store_close(st);
    }
}

static void nothing_leaves_without_room_for_its_answer(void **state)
{
    struct tr_store *st = open_task(134);
    struct tr_store_put put = put_of(1, TR_NO_ORIGIN);
    struct rlimit limit;
    struct tr_err err;
    struct tr_job job;
    char path[200];
    uint64_t attempt;
    (void)state;

    assert_int_equal(tr_store_job(st, "j", 1000, 0, &job, &err), TR_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(intend(st, &attempt), TR_IO);
    grow_again();
    assert_int_equal(rescue_file(134, path, sizeof path), -1);
    assert_int_equal(tr_store_rescue(st, &put, 1, NULL, 0, &err), TR_IO);
    tr_store_close(st);
}

enum { KEYS = 500 };
static struct tr_verdict rows[KEYS];
static bool there[KEYS];

/* n answers, which the arrays have already. */
static void random_puts(struct tr_rng *rng, int step, uint16_t origins,
                        struct tr_store_put *puts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t k = tr_rng_below(rng, KEYS);

        puts[i] = put_of(k, origins && step % 3
                         ? (uint16_t)tr_rng_below(rng, origins)
                         : TR_NO_ORIGIN);
        puts[i].verdict.set = (uint32_t)step;
        if (tr_rng_below(rng, 4) == 0) {
            puts[i].verdict.why = TR_WHY_BLOCKED;
            puts[i].verdict.set = 0;
        }
        rows[k] = puts[i].verdict;
        there[k] = true;
    }
}

/* Random work against arrays, with and without commits before a crash. */
static void behaves_like_an_array_with_commits(void **state)
{
    int64_t attempts = 0, open_attempts = 0, unknown = 0;
    uint32_t sets = 0, durable_sets = 0;
    uint16_t origins = 0, durable_origins = 0;
    struct tr_store *st;
    struct tr_err err;
    struct tr_job job;
    struct tr_rng rng = {5};
    (void)state;

    assert_int_equal(tr_store_open_memory(&st, &err), TR_OK);
    assert_int_equal(tr_store_job(st, "j", 1, 0, &job, &err), TR_OK);
    for (int step = 0; step < 3000; step++) {
        struct tr_store_put puts[20];
        struct tr_store_intent intents[3];
        size_t n = tr_rng_below(&rng, 20), plan = tr_rng_below(&rng, 3);
        struct tr_store_info info;
        int64_t answers = 0, failures = 0;

        for (uint64_t i = tr_rng_below(&rng, 4); i-- > 0; ) {
            size_t few = tr_rng_below(&rng, 5);

            random_puts(&rng, step, origins, puts, few);
            assert_int_equal(save(st, puts, few), TR_OK);
        }
        if (tr_rng_below(&rng, 40) == 0)
            assert_int_equal(origin_at(st, 1000 + step), origins++);
        if (tr_rng_below(&rng, 40) == 0) {
            assert_int_equal(tr_store_set_add(st, TR_STR("a|b"), &err), TR_OK);
            sets++;
        }
        if (tr_rng_below(&rng, 10) == 0) { /* killed before the commit */
            assert_int_equal(tr_store_crash(st, &err), TR_OK);
            origins = durable_origins;
            sets = durable_sets;
            unknown += open_attempts;
            open_attempts = 0;
            assert_int_equal(tr_store_job(st, "j", 1, 0, &job, &err),
                             TR_OK);
            assert_int_equal(job.unknown_count, unknown);
            assert_int_equal(job.requests, attempts);
        }
        random_puts(&rng, step, origins, puts, n);
        for (size_t i = 0; i < plan; i++)
            intents[i] = (struct tr_store_intent){tr_store_next_attempt(st),
                                                  1, 1, 1, 0, NULL};
        assert_int_equal(tr_store_commit(st, puts, n, intents, plan, NULL, 0,
                                         &err), TR_OK);
        attempts += (int64_t)plan;
        open_attempts += (int64_t)plan;
        durable_origins = origins;
        durable_sets = sets;
        assert_int_equal(st->set_count, sets);
        for (int k = 0; k < KEYS; k++) {
            answers += there[k];
            failures += there[k] && rows[k].why != TR_WHY_NONE;
        }
        assert_int_equal(tr_store_look(st, &info, &err), TR_OK);
        assert_int_equal(info.verdicts, answers);
        assert_int_equal(info.failures, failures);
        for (int i = 0; i < 10; i++) {
            uint64_t k = tr_rng_below(&rng, KEYS);
            struct tr_verdict v;

            assert_int_equal(has(st, k, &any, &v), there[k]);
            if (there[k])
                assert_memory_equal(&v, &rows[k], sizeof v);
        }
    }
    tr_store_close(st);
}

static void running_out_of_memory_is_an_error(void **state)
{
    struct tr_store_put put = put_of(1, TR_NO_ORIGIN);
    bool went_through = false;
    (void)state;

    for (long nth = 1; nth < 100 && !went_through; nth++) {
        struct tr_store *st;
        struct tr_err err;
        int rc;

        tr_mem_fail_at(nth, 0);
        rc = tr_store_open_memory(&st, &err);
        if (rc == TR_OK)
            rc = tr_store_set_add(st, TR_STR("a|b"), &err);
        if (rc == TR_OK)
            rc = commit(st, &put, 1);
        went_through = nth > 2 && rc == TR_OK && tr_mem_fail_at(0, 0) < nth;
        tr_mem_fail_at(0, 0);
        assert_true(rc == TR_OK || rc == TR_NOMEM);
        tr_store_close(st);
    }
    assert_true(went_through);
}

static void the_default_folder_follows_the_environment(void **state)
{
    static const struct {
        const char *state, *home, *folder;
    } cases[] = {
        {"/s", "/h", "/s/trommel"},
        {NULL, "/h", "/h/.local/state/trommel"},
        {"", "/h", "/h/.local/state/trommel"},
        {"relative", "/h", "/h/.local/state/trommel"},
        {NULL, NULL, NULL},
        {"relative", "", NULL},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_buf out;
        struct tr_err err;
        int rc;

        unsetenv("XDG_STATE_HOME");
        unsetenv("HOME");
        if (cases[i].state)
            setenv("XDG_STATE_HOME", cases[i].state, 1);
        if (cases[i].home)
            setenv("HOME", cases[i].home, 1);
        tr_buf_init(&out, 0);
        rc = tr_store_default_folder(&out, &err);
        assert_int_equal(rc, cases[i].folder ? TR_OK : TR_CANTCREATE);
        if (cases[i].folder)
            assert_string_equal(out.p, cases[i].folder);
        tr_buf_release(&out);
    }
}

static const struct tr_store_info *info_of(const struct tr_store_info *list,
                                           size_t n, const char *path)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].path, path) == 0)
            return &list[i];
    return NULL;
}

static void count_origin(void *ctx, const struct tr_origin *o, int64_t verdicts)
{
    int64_t *sum = ctx;

    sum[o ? 1 : 0] += verdicts;
}

static void lists_and_removes(void **state)
{
    const struct tr_store_info *info;
    struct tr_store_info *list;
    struct tr_store *st = open_task(10);
    struct tr_store_put puts[2] = {put_of(1, TR_NO_ORIGIN),
                                   put_of(2, origin_at(st, 77))};
    struct tr_err err;
    int64_t sum[2] = {0};
    char path[4096], newer[4096], other[4200];
    size_t n;
    (void)state;

    puts[0].verdict.why = TR_WHY_TOO_LONG;
    assert_int_equal(commit(st, puts, 2), TR_OK);
    snprintf(path, sizeof path, "%s", tr_store_path(st));
    path_of(11, newer, sizeof newer);
    overwrite(newer, "\0\0\0\7", 4, 60);
    snprintf(other, sizeof other, "%s/notes.db", folder);
    close(open(other, O_CREAT | O_WRONLY, 0600));

    assert_int_equal(tr_store_list(folder, &list, &n, &err), TR_OK);
    info = info_of(list, n, path);
    assert_true(info && info->in_use && info->pid == (long)getpid());
    assert_string_equal(info->task_name, "a,b");
    tr_free(list);
    assert_int_equal(tr_store_remove(path, &err), TR_STOPPED);
    tr_store_close(st);

    assert_int_equal(tr_store_list(folder, &list, &n, &err), TR_OK);
    info = info_of(list, n, path);
    assert_true(info && !info->in_use && !info->trouble[0]);
    assert_string_equal(info->task_name, "a,b");
    assert_int_equal(info->verdicts, 2);
    assert_int_equal(info->failures, 1);
    assert_int_equal(info->first_at, 77);
    info = info_of(list, n, newer);
    assert_true(info && strstr(info->trouble, "upgrade trommel"));
    assert_null(info_of(list, n, other));
    tr_free(list);

    assert_int_equal(tr_store_open_path(&st, path, true, &err), TR_OK);
    tr_store_origins(st, count_origin, sum);
    assert_int_equal(sum[0], 1);
    assert_int_equal(sum[1], 1);
    tr_store_close(st);

    assert_int_equal(tr_store_remove(path, &err), TR_OK);
    assert_int_equal(tr_store_remove(path, &err), TR_NOINPUT);
    assert_int_equal(tr_store_remove(other, &err), TR_NOINPUT);
    assert_int_equal(tr_store_open_path(&st, path, true, &err), TR_NOINPUT);
    snprintf(other, sizeof other, "%.*slock", (int)strlen(path) - 2, path);
    assert_int_not_equal(access(other, F_OK), 0);
    snprintf(other, sizeof other, "%s/none", folder);
    assert_int_equal(tr_store_list(other, &list, &n, &err), TR_OK);
    assert_int_equal(n, 0);
}

/* Else a ledger would take the sums of one for those of the other. */
static void a_store_in_place_of_a_removed_one_has_other_rounds(void **state)
{
    struct tr_job first, second;
    struct tr_store *st = open_task(140);
    struct tr_err err;
    char path[4096];
    (void)state;

    snprintf(path, sizeof path, "%s", tr_store_path(st));
    assert_int_equal(tr_store_job(st, "j", 1, 0, &first, &err), TR_OK);
    tr_store_close(st);
    assert_int_equal(tr_store_remove(path, &err), TR_OK);
    st = open_task(140);
    assert_int_equal(tr_store_job(st, "j", 1, 0, &second, &err), TR_OK);
    tr_store_close(st);
    assert_int_not_equal(first.round, second.round);
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
    assert_string_equal(tr_store_path(st), "");
    tr_store_close(st);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_verdict_comes_back),
        cmocka_unit_test(filters_pass_over_what_no_longer_counts),
        cmocka_unit_test(a_second_process_is_told_who_holds_it),
        cmocka_unit_test(who_waits_hears_who_holds_it),
        cmocka_unit_test(a_run_waits_for_readers_not_for_runs),
        cmocka_unit_test(a_reader_that_stays_is_not_waited_for),
        cmocka_unit_test(reading_changes_nothing),
        cmocka_unit_test(only_the_owner_may_read),
        cmocka_unit_test(folders_are_made_and_links_are_not_followed),
        cmocka_unit_test(what_others_may_have_written_is_refused),
        cmocka_unit_test(what_is_planted_stalls_nobody),
        cmocka_unit_test(a_file_with_two_names_is_refused),
        cmocka_unit_test(swapped_names_do_not_escape),
        cmocka_unit_test(a_folder_one_may_not_write_is_said_so),
        cmocka_unit_test(a_file_moved_away_while_open_is_noticed),
        cmocka_unit_test(foreign_newer_and_damaged_files_are_refused),
        cmocka_unit_test(an_emptied_file_is_refused),
        cmocka_unit_test(an_emptied_file_is_not_taken_for_a_new_one),
        cmocka_unit_test(a_log_that_lost_something_is_refused),
        cmocka_unit_test(a_copy_made_in_mid_run_is_refused),
        cmocka_unit_test(a_log_that_another_program_merged_is_not_missed),
        cmocka_unit_test(a_changed_schema_is_refused),
        cmocka_unit_test(sqlite_gets_no_more_freedom_than_we_need),
        cmocka_unit_test(a_value_without_end_is_refused),
        cmocka_unit_test(a_changed_bit_is_never_a_wrong_label),
        cmocka_unit_test(changes_of_an_answer_pass_as_often_as_stated),
        cmocka_unit_test(tokens_of_open_attempts_stay_charged),
        cmocka_unit_test(what_was_only_saved_is_found_later),
        cmocka_unit_test(a_full_stage_empties_itself),
        cmocka_unit_test(an_older_layout_is_read_and_brought_up),
        cmocka_unit_test(the_log_stays_short),
        cmocka_unit_test(no_reader_makes_the_log_grow),
        cmocka_unit_test(a_round_keeps_since_when_it_asks_again),
        cmocka_unit_test(no_answer_is_too_old_without_a_bound),
        cmocka_unit_test(answers_count_after_a_clock_was_ahead),
        cmocka_unit_test(money_of_open_attempts_becomes_unknown),
        cmocka_unit_test(attempts_in_batches_outlive_the_process),
        cmocka_unit_test(a_changed_request_of_a_batch_is_refused),
        cmocka_unit_test(sets_and_values_keep_order_and_bytes),
        cmocka_unit_test(runs_share_a_number_when_there_are_many),
        cmocka_unit_test(what_was_committed_survives_sigkill),
        cmocka_unit_test(a_full_disk_is_an_error_and_loses_nothing),
        cmocka_unit_test(what_comes_after_a_failure_is_found_later),
        cmocka_unit_test(a_rescue_waits_for_the_store_it_belongs_to),
        cmocka_unit_test(rescued_answers_of_another_user_are_refused),
        cmocka_unit_test(a_rescued_set_waits_for_the_sets_before_it),
        cmocka_unit_test(half_a_record_is_no_record),
        cmocka_unit_test(nothing_leaves_without_room_for_its_answer),
        cmocka_unit_test(behaves_like_an_array_with_commits),
        cmocka_unit_test(running_out_of_memory_is_an_error),
        cmocka_unit_test(the_default_folder_follows_the_environment),
        cmocka_unit_test(lists_and_removes),
        cmocka_unit_test(a_store_in_place_of_a_removed_one_has_other_rounds),
        cmocka_unit_test(a_private_store_leaves_nothing),
    };
    char command[100];
    int failed;

    if (argc == 2)
        return be_child(argv[1]);
    if (!mkdtemp(folder))
        return 1;
    alarm(300); /* a lock that is never let go */
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
