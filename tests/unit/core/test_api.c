/* test_api.c - trommel.h as a program around the library meets it.
 *
 * examples/embed.c and tests/threads.c are whole runs; here are the corners.
 *
 * SPDX-License-Identifier: MIT */
#include <trommel.h>

#include <curl/curl.h>

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { SETTINGS = 7 };

/* Opens a run with these settings, up to the first without a name. */
static int open_run(trommel_run **run, const char *const (*settings)[2])
{
    trommel_config *cfg = trommel_config_new();
    int rc;

    assert_non_null(cfg);
    for (int i = 0; i < SETTINGS && settings[i][0]; i++)
        assert_int_equal(
            trommel_config_set(cfg, settings[i][0], settings[i][1]), 0);
    rc = trommel_run_open(run, cfg);
    trommel_config_free(cfg);
    assert_non_null(*run);
    return rc;
}

/* Nothing leaves, and nothing is known or kept: each row ends at once. */
static const char *const offline[SETTINGS][2] = {
    {"labels", "a,b"}, {"model", "openai/m"}, {"offline", "yes"},
    {"base-url", "http://127.0.0.1:9/v1"}, {"store", "none"},
};

static void a_run_that_did_not_open_may_be_stepped(void **state)
{
    static const struct {
        const char *settings[SETTINGS][2];
        int code;
    } cases[] = { /* from the first thing that is opened to the last */
        {{{"model", "openai/m"}}, TROMMEL_EUSAGE},
        {{{"labels", "a,b"}, {"input", "/no/such/file"}}, TROMMEL_ENOINPUT},
        {{{"labels", "a,b"}, {"model", "no-such/m"}}, TROMMEL_ECONFIG},
        {{{"labels", "a,b"}, {"model", "openai/m"}, {"offline", "yes"},
          {"base-url", "http://127.0.0.1:9/v1"}, {"store", "none"},
          {"apart", "customer"}}, TROMMEL_EUSAGE},
        {{{"labels", "a,b"}, {"output", "o.csv"}}, TROMMEL_EUSAGE},
        {{{"labels", "a,b"}, {"head", "1"}}, TROMMEL_EUSAGE},
        {{{"labels", "a,b"}, {"sample", "1"}}, TROMMEL_EUSAGE},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[400];
        trommel_run *run;

        assert_int_equal(open_run(&run, cases[i].settings), cases[i].code);
        snprintf(why, sizeof why, "%s", trommel_run_error(run));
        assert_true(why[0]);
        trommel_run_stop(run, 130);
        assert_int_equal(trommel_run_step(run, 0), cases[i].code);
        assert_int_equal(trommel_run_step(run, 0), TROMMEL_DONE);
        assert_int_equal(trommel_run_exit(run),
                         trommel_exit_code(cases[i].code));
        assert_int_equal(trommel_run_push(run, NULL, "text", 4),
                         cases[i].code);
        assert_string_equal(trommel_run_error(run), why);
        assert_null(trommel_run_next(run));
        trommel_run_close(run);
    }
    assert_int_equal(trommel_run_step(NULL, 0), TROMMEL_ENOMEM);
}

static void a_row_without_an_id_has_its_number(void **state)
{
    static const char *const ids[][2] = {
        {NULL, "0"}, {"second", "second"}, {"", ""}, {NULL, "3"}};
    enum { IDS = sizeof ids / sizeof *ids };
    trommel_run *run;
    int seen = 0, rc;
    (void)state;

    assert_int_equal(open_run(&run, offline), 0);
    for (int i = 0; i < IDS; i++) { /* what is refused is no row */
        assert_int_equal(trommel_run_push(run, NULL, "\xff", 1),
                         TROMMEL_EDATA);
        assert_int_equal(trommel_run_push(run, ids[i][0], "text", 4), 0);
    }
    assert_int_equal(trommel_run_finish(run), 0);
    do {
        const trommel_result *r;

        rc = trommel_run_step(run, 0);
        while ((r = trommel_run_next(run)) != NULL) {
            assert_true(seen < IDS);
            assert_int_equal(trommel_result_row(r), seen);
            assert_string_equal(trommel_result_id(r), ids[seen][1]);
            seen++;
        }
    } while (rc == TROMMEL_MORE);
    assert_int_equal(rc, TROMMEL_DONE);
    assert_int_equal(seen, IDS);
    trommel_run_close(run);
}

/* Whoever pushes until there is room would push for ever. */
static void a_run_that_is_over_takes_no_rows(void **state)
{
    trommel_run *run;
    char why[400];
    (void)state;

    assert_int_equal(open_run(&run, offline), 0);
    assert_int_equal(trommel_run_push(run, NULL, "text", 4), 0);
    trommel_run_stop(run, 130);
    while (trommel_run_step(run, 0) == TROMMEL_MORE)
        ;
    snprintf(why, sizeof why, "%s", trommel_run_error(run));
    assert_true(why[0]);
    assert_int_equal(trommel_run_push(run, NULL, "text", 4), TROMMEL_ESTOPPED);
    assert_string_equal(trommel_run_error(run), why);
    trommel_run_close(run);
}

static void a_row_of_blanks_is_empty(void **state)
{
    const trommel_result *r;
    trommel_run *run;
    (void)state;

    assert_int_equal(open_run(&run, offline), 0);
    assert_int_equal(trommel_run_push(run, NULL, " \t ", 3), 0);
    assert_int_equal(trommel_run_finish(run), 0);
    for (r = NULL; !r; r = trommel_run_next(run))
        assert_true(trommel_run_step(run, 0) >= 0);
    assert_string_equal(trommel_result_error(r), "empty_text");
    trommel_run_close(run);
}

/* Whatever code it is stopped with, what is not done is not called complete. */
static void a_stopped_run_has_no_output(void **state)
{
    char folder[] = "/tmp/trommel-api-XXXXXX", in[60], out[60], partial[60];
    const char *const settings[SETTINGS][2] = {
        {"labels", "a,b"}, {"model", "openai/m"}, {"offline", "yes"},
        {"base-url", "http://127.0.0.1:9/v1"}, {"store", "none"},
        {"input", in}, {"output", out},
    };
    static const struct {
        int stop, exit;
    } cases[] = {{0, 75}, {1, 75}, {-1, 75}, {2, 2}, {130, 130}};
    FILE *f;
    (void)state;

    assert_non_null(mkdtemp(folder));
    snprintf(in, sizeof in, "%s/in.csv", folder);
    snprintf(out, sizeof out, "%s/out.csv", folder);
    snprintf(partial, sizeof partial, "%s.partial", out);
    f = fopen(in, "w");
    assert_non_null(f);
    fputs("text\none\ntwo\n", f);
    assert_int_equal(fclose(f), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        trommel_run *run;
        int rc;

        assert_int_equal(open_run(&run, settings), 0);
        trommel_run_stop(run, cases[i].stop);
        do
            rc = trommel_run_step(run, 0);
        while (rc == TROMMEL_MORE);
        assert_int_equal(rc, TROMMEL_DONE);
        assert_int_equal(trommel_run_exit(run), cases[i].exit);
        trommel_run_close(run);
        assert_int_not_equal(remove(out), 0);
        assert_int_equal(remove(partial), 0);
    }
    assert_int_equal(remove(in), 0);
    assert_int_equal(rmdir(folder), 0);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Below 0 is as long as the run likes, and it likes to look after itself. */
static void a_step_without_a_limit_returns(void **state)
{
    trommel_run *run;
    int64_t began;
    (void)state;

    assert_int_equal(open_run(&run, offline), 0);
    alarm(20);
    for (int i = 0; i < 2; i++) {
        began = now_ms();
        assert_int_equal(trommel_run_step(run, -1), TROMMEL_MORE);
        assert_true(now_ms() - began < 5000);
    }
    alarm(0);
    trommel_run_close(run);
}

enum { RESULTS = 4096, ROWS = RESULTS + 1500 };

/* Who takes the results at the end, or none, need not find a core busy. */
static void results_that_nobody_takes_do_not_make_steps_spin(void **state)
{
    const trommel_result *r;
    trommel_run *run;
    const char *text;
    int64_t began, taken = 0;
    int level, told = 0;
    (void)state;

    assert_int_equal(open_run(&run, offline), 0);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(trommel_run_push(run, NULL, "text", 4), 0);
    assert_int_equal(trommel_run_finish(run), 0);
    for (int i = 0; i < 100; i++) /* until nothing moves */
        assert_int_equal(trommel_run_step(run, 0), TROMMEL_MORE);
    assert_int_equal(trommel_run_count(run, TROMMEL_ROWS_WRITTEN), 0);
    began = now_ms();
    for (int i = 0; i < 5; i++)
        assert_int_equal(trommel_run_step(run, 20), TROMMEL_MORE);
    assert_true(now_ms() - began >= 80);
    while ((text = trommel_run_message(run, &level)))
        told += strstr(text, "trommel_run_next()") != NULL;
    assert_int_equal(told, 1);
    /* Who takes one a step is not made to wait for each. */
    began = now_ms();
    for (int i = 0; i < 20; i++) {
        assert_int_equal(trommel_run_step(run, 1000), TROMMEL_MORE);
        assert_non_null(trommel_run_next(run));
        taken++;
    }
    assert_true(now_ms() - began < 5000);
    do {
        while ((r = trommel_run_next(run)))
            assert_int_equal(trommel_result_row(r), taken++);
    } while (trommel_run_step(run, 0) == TROMMEL_MORE);
    while ((r = trommel_run_next(run)))
        assert_int_equal(trommel_result_row(r), taken++);
    assert_int_equal(taken, ROWS);
    trommel_run_close(run);
}

/* ---- fork() ------------------------------------------------------------- */

enum { LINES = 3000 }; /* more than one step reads */

static void write_lines(const char *path)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs("text\n", f);
    for (int i = 0; i < LINES; i++)
        fprintf(f, "text %d\n", i);
    assert_int_equal(fclose(f), 0);
}

static int count_lines(const char *path)
{
    FILE *f = fopen(path, "r");
    int c, n = 0;

    assert_non_null(f);
    while ((c = getc(f)) != EOF)
        n += c == '\n';
    fclose(f);
    return n;
}

/* A folder with LINES texts in a file, and names in it for what a run makes. */
struct place {
    char folder[32], in[60], out[60], store[60];
};

static void make_place(struct place *at)
{
    snprintf(at->folder, sizeof at->folder, "/tmp/trommel-api-XXXXXX");
    assert_non_null(mkdtemp(at->folder));
    snprintf(at->in, sizeof at->in, "%s/in.csv", at->folder);
    snprintf(at->out, sizeof at->out, "%s/out.csv", at->folder);
    snprintf(at->store, sizeof at->store, "%s/store", at->folder);
    write_lines(at->in);
}

static void remove_place(const struct place *at)
{
    char command[60];

    snprintf(command, sizeof command, "rm -r %s", at->folder);
    assert_int_equal(system(command), 0);
}

static int open_at(trommel_run **run, const struct place *at)
{
    const char *const settings[SETTINGS][2] = {
        {"labels", "a,b"}, {"model", "openai/m"}, {"offline", "yes"},
        {"base-url", "http://127.0.0.1:9/v1"}, {"store", at->store},
        {"input", at->in}, {"output", at->out},
    };

    return open_run(run, settings);
}

/* As a child does that runs the destructors of the program around. */
static int close_in_a_child(trommel_run *run)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        int rc = trommel_run_step(run, 0);

        trommel_run_close(run);
        _exit(rc == TROMMEL_EUSAGE ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* What is buffered would be written twice, what is on its way be cut off, and
 * the store be told that nobody uses it. */
static void a_run_is_its_own_process_s(void **state)
{
    struct place at;
    trommel_run *run;
    int rc;
    (void)state;

    make_place(&at);
    assert_int_equal(open_at(&run, &at), 0);
    assert_int_equal(trommel_run_step(run, 0), TROMMEL_MORE);
    assert_int_equal(close_in_a_child(run), 0);
    do
        rc = trommel_run_step(run, 0);
    while (rc == TROMMEL_MORE);
    assert_int_equal(rc, TROMMEL_DONE);
    trommel_run_close(run);
    assert_int_equal(count_lines(at.out), 1 + LINES);
    remove_place(&at);
}

/* A child that lives on has our descriptors, and their locks. */
static void a_child_keeps_no_store_locked(void **state)
{
    struct place at;
    trommel_run *run;
    pid_t child;
    int rc;
    (void)state;

    make_place(&at);
    assert_int_equal(open_at(&run, &at), 0);
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    trommel_run_close(run); /* not finished: its partial output stays */
    rc = open_at(&run, &at);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    if (rc != 0)
        fail_msg("%s", trommel_run_error(run));
    trommel_run_close(run);
    remove_place(&at);
}

/* Answers that were paid for would find no store, nor a place to be rescued
 * to. */
static void a_store_stays_where_it_was_opened(void **state)
{
    struct place at;
    int rc, here = open(".", O_RDONLY);
    trommel_run *run;
    (void)state;

    assert_true(here >= 0);
    make_place(&at);
    snprintf(at.store, sizeof at.store, "store");
    assert_int_equal(chdir(at.folder), 0);
    rc = open_at(&run, &at);
    assert_int_equal(fchdir(here), 0); /* the program goes elsewhere */
    close(here);
    assert_int_equal(rc, 0);
    do
        rc = trommel_run_step(run, 0);
    while (rc == TROMMEL_MORE);
    if (rc != TROMMEL_DONE)
        fail_msg("%s", trommel_run_error(run));
    assert_int_equal(trommel_run_exit(run), 1);
    trommel_run_close(run);
    remove_place(&at);
}

/* The first file that the run opens would stand for it: a lock, a trace. */
static void a_closed_standard_output_is_no_output(void **state)
{
    struct place at;
    const char *const settings[SETTINGS][2] = {
        {"labels", "a,b"}, {"model", "openai/m"}, {"offline", "yes"},
        {"base-url", "http://127.0.0.1:9/v1"}, {"store", at.store},
        {"input", at.in},
    };
    int rc, kept[2];
    trommel_run *run;
    (void)state;

    make_place(&at);
    fflush(stdout);
    for (int fd = 0; fd < 2; fd++) {
        kept[fd] = fcntl(fd, F_DUPFD, 10);
        assert_true(kept[fd] >= 0);
        close(fd);
    }
    rc = open_run(&run, settings);
    for (int fd = 0; fd < 2; fd++) {
        dup2(kept[fd], fd);
        close(kept[fd]);
    }
    assert_int_equal(rc, TROMMEL_ECANTCREATE);
    assert_non_null(strstr(trommel_run_error(run), "standard output"));
    trommel_run_close(run);
    remove_place(&at);
}

static void loading_twice_is_loading_once(void **state)
{
    trommel_config *cfg = trommel_config_new();
    (void)state;

    assert_int_equal(setenv("TROMMEL_FALLBACK", "local", 1), 0);
    assert_int_equal(trommel_config_load(cfg), 0);
    assert_int_equal(trommel_config_load(cfg), 0);
    assert_string_equal(trommel_config_get_at(cfg, "fallback", 0), "local");
    assert_null(trommel_config_get_at(cfg, "fallback", 1));
    assert_int_equal(unsetenv("TROMMEL_FALLBACK"), 0);
    trommel_config_free(cfg);
}

/* ---- the libcurl at hand ------------------------------------------------ */

static const char *curl_version_said; /* NULL: its own */

curl_version_info_data *__real_curl_version_info(CURLversion stamp);
curl_version_info_data *__wrap_curl_version_info(CURLversion stamp);

curl_version_info_data *__wrap_curl_version_info(CURLversion stamp)
{
    static curl_version_info_data said;

    said = *__real_curl_version_info(stamp);
    if (curl_version_said)
        said.version = curl_version_said;
    return &said;
}

/* The first message about it, and its level; NULL: there is none. */
static const char *advice(trommel_run *run, int *level)
{
    const char *text;

    while ((text = trommel_run_message(run, level)))
        if (strncmp(text, "libcurl ", 8) == 0)
            return text;
    return NULL;
}

static void a_run_says_what_is_known_of_its_libcurl(void **state)
{
    static const struct {
        const char *version, *more[2]; /* a setting */
        int level;
        const char *named; /* NULL: nothing is said */
    } cases[] = {
        {"8.3.0", {"proxy", "http://127.0.0.1:9"}, 1, "CVE-2023-38545"},
        {"8.3.0", {NULL}, 0, NULL},
        {"8.2.1", {NULL}, 0, NULL},
        {"8.2.1", {"verbose", "yes"}, 3, "CVE-2023-38039"},
        {"8.20.0", {"proxy", "http://127.0.0.1:9"}, 0, NULL},
        {"8.20.0", {"verbose", "yes"}, 0, NULL},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const settings[SETTINGS][2] = {
            {"labels", "a,b"}, {"model", "openai/m"}, {"offline", "yes"},
            {"base-url", "http://127.0.0.1:9/v1"}, {"store", "none"},
            {cases[i].more[0], cases[i].more[1]}};
        trommel_run *run;
        const char *said;
        int level = 0;

        curl_version_said = cases[i].version;
        assert_int_equal(open_run(&run, settings), 0);
        said = advice(run, &level);
        if (!said != !cases[i].named ||
            (said && (!strstr(said, cases[i].named) ||
                      level != cases[i].level)))
            fail_msg("case %zu: level %d: %s", i, level, said ? said : "-");
        trommel_run_close(run);
    }
    curl_version_said = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_that_did_not_open_may_be_stepped),
        cmocka_unit_test(a_row_without_an_id_has_its_number),
        cmocka_unit_test(a_run_that_is_over_takes_no_rows),
        cmocka_unit_test(a_row_of_blanks_is_empty),
        cmocka_unit_test(a_stopped_run_has_no_output),
        cmocka_unit_test(a_step_without_a_limit_returns),
        cmocka_unit_test(results_that_nobody_takes_do_not_make_steps_spin),
        cmocka_unit_test(a_run_is_its_own_process_s),
        cmocka_unit_test(a_child_keeps_no_store_locked),
        cmocka_unit_test(a_store_stays_where_it_was_opened),
        cmocka_unit_test(a_closed_standard_output_is_no_output),
        cmocka_unit_test(loading_twice_is_loading_once),
        cmocka_unit_test(a_run_says_what_is_known_of_its_libcurl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
