/* test_config.c - who may say what, which words are values, whose word holds.
 * SPDX-License-Identifier: MIT */
#include "config.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int put(struct tr_config *cfg, enum tr_rank rank, const char *name,
               const char *value, const char *where, struct tr_err *err)
{
    return tr_config_put(cfg, rank, name, tr_str_c(value), where, err);
}

static void test_defaults(void **state)
{
    struct tr_config *cfg = tr_config_new();
    const char *const *list;

    (void)state;
    assert_string_equal(tr_config_text(cfg, "model"), "local");
    assert_null(tr_config_text(cfg, "task"));
    assert_int_equal(tr_config_ms(cfg, "max-wait"), 15 * 60000);
    assert_int_equal(tr_config_ms(cfg, "grace"), 20000);
    assert_int_equal(tr_config_nano(cfg, "budget"), -1);
    assert_int_equal(tr_config_int(cfg, "pack"), 0);
    assert_int_equal(tr_config_list(cfg, "input", &list), 0);
    assert_false(tr_config_flag(cfg, "offline"));
    assert_false(tr_config_is_set(cfg, "model"));
    assert_string_equal(tr_config_dir(cfg), "");
    tr_config_free(cfg);
}

static void test_values(void **state)
{
    enum { MS, NANO, INT, YES, TEXT };
    static const struct {
        const char *name, *value;
        int read;
        int64_t is; /* -2: refused */
    } cases[] = {
        {"max-wait", "0", MS, 0},
        {"max-wait", "90", MS, 90000},
        {"max-wait", "15m", MS, 900000},
        {"max-wait", "1h30m", MS, 5400000},
        {"max-wait", "1d", MS, 86400000},
        {"max-wait", "1m500ms", MS, 60500},
        {"max-wait", "30m1h", MS, -2},
        {"max-wait", "1m1m", MS, -2},
        {"max-wait", "5 m", MS, -2},
        {"max-wait", "-5", MS, -2},
        {"max-wait", "m", MS, -2},
        {"max-wait", "5x", MS, -2},
        {"max-wait", "366d", MS, -2},
        {"max-wait", "99999999999999999999", MS, -2},
        {"budget", "2", NANO, 2000000000},
        {"budget", "2.00", NANO, 2000000000},
        {"budget", ".5", NANO, 500000000},
        {"budget", "0.000000001", NANO, 1},
        {"budget", "0", NANO, 0},
        {"budget", ".", NANO, -2},
        {"budget", "2,00", NANO, -2},
        {"budget", "$2", NANO, -2},
        {"budget", "1e3", NANO, -2},
        {"budget", "0.0000000001", NANO, -2},
        {"budget", "9999999999", NANO, -2},
        {"rpm", "600", INT, 600},
        {"rpm", "6x", INT, -2},
        {"rpm", "+6", INT, -2},
        {"rpm", "", INT, -2},
        {"rpm", "1000000000000000", INT, -2},
        {"pack", "0", INT, 0},
        {"head", "1", INT, 1},
        {"head", "0", INT, -2},
        {"head", "00", INT, -2},
        {"head", "1000000000000000", INT, -2},
        {"sample", "0", INT, -2},
        {"truncate", "yes", YES, 1},
        {"truncate", "true", YES, 1},
        {"truncate", "", YES, 1},
        {"truncate", "no", YES, 0},
        {"truncate", "off", YES, 0},
        {"truncate", "maybe", YES, -2},
        {"format", "tsv", TEXT, 0},
        {"format", "csv|tsv", TEXT, -2},
        {"format", "xml", TEXT, -2},
        {"model", "", TEXT, -2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tr_config *cfg = tr_config_new();
        const char *name = cases[i].name;
        struct tr_err err;
        int64_t is = -2;

        if (put(cfg, TR_FROM_SET, name, cases[i].value, NULL, &err) == 0) {
            switch (cases[i].read) {
            case MS:
                is = tr_config_ms(cfg, name);
                break;
            case NANO:
                is = tr_config_nano(cfg, name);
                break;
            case INT:
                is = tr_config_int(cfg, name);
                break;
            case YES:
                is = tr_config_flag(cfg, name);
                break;
            default:
                assert_string_equal(tr_config_text(cfg, name), cases[i].value);
                is = 0;
            }
        }
        if (is != cases[i].is)
            fail_msg("%s=\"%s\": %lld, not %lld", name, cases[i].value,
                     (long long)is, (long long)cases[i].is);
        tr_config_free(cfg);
    }
}

static void test_sentences(void **state)
{
    static const struct {
        enum tr_rank rank;
        const char *name, *value, *where;
        int code;
        const char *says;
    } cases[] = {
        {TR_FROM_SET, "rpm", "many", NULL, TR_USAGE,
         "--rpm: \"many\" is not a whole number, such as 16"},
        {TR_FROM_SET, "head", "0", NULL, TR_USAGE,
         "--head: \"0\" is not a whole number from 1 on; leave it out for the "
         "default, or add --dry-run to ask nothing"},
        {TR_FROM_SET, "rpm", "", NULL, TR_USAGE, "--rpm needs a value: N"},
        {TR_FROM_SET, "rmp", "6", "--rmp", TR_USAGE,
         "unknown option --rmp; did you mean --rpm?"},
        {TR_FROM_SET, "batch-token", "6", NULL, TR_USAGE,
         "unknown option --batch-token; did you mean --batch-tokens?"},
        {TR_FROM_SET, "openai-api-key", "6", NULL, TR_USAGE,
         "unknown option --openai-api-key; a key is not given in plain sight: "
         "set OPENAI_API_KEY (trommel models shows the variable of each "
         "provider), or name a file with --key-file"},
        {TR_FROM_SET, "xyzzyplugh", "6", NULL, TR_USAGE,
         "unknown option --xyzzyplugh; see trommel help classify"},
        {TR_FROM_SET, "format", "xml", NULL, TR_USAGE,
         "--format: \"xml\" is not one of auto|csv|tsv|jsonl|lines"},
        {TR_FROM_ENV, "max-wait", "soon", NULL, TR_USAGE,
         "TROMMEL_MAX_WAIT: \"soon\" is not a time, such as 20s, 15m or "
         "1h30m"},
        {TR_FROM_TASK, "budget", "2 USD", "t.yaml:3:9", TR_CONFIG,
         "t.yaml:3:9: budget: \"2 USD\" is not an amount in US dollars, such "
         "as 2.00"},
        {TR_FROM_TASK, "modell", "local", "t.yaml:3:1", TR_CONFIG,
         "t.yaml:3:1: unknown key modell; did you mean model?"},
        {TR_FROM_TASK, "output", "x.csv", "t.yaml:3:1", TR_CONFIG,
         "t.yaml:3:1: output cannot be set here; give it on the command line: "
         "--output"},
        {TR_FROM_ENV, "fresh", "yes", NULL, TR_USAGE,
         "TROMMEL_FRESH cannot be set here; give it on the command line: "
         "--fresh"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tr_config *cfg = tr_config_new();
        struct tr_err err;

        assert_int_equal(put(cfg, cases[i].rank, cases[i].name, cases[i].value,
                             cases[i].where, &err),
                         cases[i].code);
        assert_string_equal(err.text, cases[i].says);
        tr_config_free(cfg);
    }
}

/* Whoever speaks last: the rank decides. */
static void test_precedence(void **state)
{
    static const enum tr_rank all[] = {TR_FROM_CONFIG, TR_FROM_TASK,
                                       TR_FROM_ENV, TR_FROM_SET};
    static const char *const said[] = {"0", "1", "2", "3", "4"};

    (void)state;
    for (size_t a = 0; a < 4; a++) {
        for (size_t b = 0; b < 4; b++) {
            struct tr_config *cfg = tr_config_new();
            enum tr_rank win = all[a] > all[b] ? all[a] : all[b];

            assert_int_equal(put(cfg, all[a], "model", said[all[a]], "w", NULL),
                             0);
            assert_int_equal(put(cfg, all[b], "model", said[all[b]], "w", NULL),
                             0);
            assert_string_equal(tr_config_text(cfg, "model"), said[win]);
            assert_true(tr_config_is_set(cfg, "model"));
            tr_config_free(cfg);
        }
    }
}

/* Only a shell knows ~; a folder of that name would be made. */
static void test_home_is_written_out(void **state)
{
    static const struct {
        const char *name, *value;
        int rc;
    } cases[] = {
        {"store", "~/answers", TR_CONFIG}, {"store", "~", TR_CONFIG},
        {"store", "~ann/answers", TR_OK},  {"store", "./~/answers", TR_OK},
        {"store", "none", TR_OK},          {"key-file", "~/key", TR_CONFIG},
        {"as", "~/x", TR_OK}, /* no path */
    };
    struct tr_err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tr_config *cfg = tr_config_new();

        assert_int_equal(put(cfg, TR_FROM_CONFIG, cases[i].name,
                             cases[i].value, "config.yaml:1:1", &err),
                         cases[i].rc);
        if (cases[i].rc)
            assert_non_null(strstr(err.text, "only a shell knows ~"));
        tr_config_free(cfg);
    }
}

static void test_list_and_dup(void **state)
{
    struct tr_config *cfg = tr_config_new(), *copy;
    const char *const *list;

    (void)state;
    put(cfg, TR_FROM_SET, "input", "a.csv", NULL, NULL);
    put(cfg, TR_FROM_SET, "input", "b.csv", NULL, NULL);
    put(cfg, TR_FROM_SET, "model", "x", NULL, NULL);
    put(cfg, TR_FROM_SET, "model", "y", NULL, NULL);
    copy = tr_config_dup(cfg);
    tr_config_free(cfg);
    assert_int_equal(tr_config_list(copy, "input", &list), 2);
    assert_string_equal(list[0], "a.csv");
    assert_string_equal(list[1], "b.csv");
    assert_string_equal(tr_config_text(copy, "model"), "y");
    tr_config_free(copy);
}

static char config_home[64];

static const char *fake_env(const char *name)
{
    static const char *const vars[][2] = {
        {"TROMMEL_RPM", "600"}, {"TROMMEL_MODEL", ""},
        {"TROMMEL_FRESH", "yes"}, /* not taken from the environment */
        {"HOME", "/home/ann"},
    };

    if (strcmp(name, "XDG_CONFIG_HOME") == 0)
        return config_home;
    for (size_t i = 0; i < sizeof vars / sizeof vars[0]; i++) {
        if (strcmp(name, vars[i][0]) == 0)
            return vars[i][1];
    }
    return NULL;
}

static void test_environment(void **state)
{
    struct tr_config *cfg = tr_config_new();
    struct tr_err err;

    (void)state;
    strcpy(config_home, "relative/is/ignored");
    assert_int_equal(tr_config_load(cfg, fake_env, &err), 0);
    assert_int_equal(tr_config_int(cfg, "rpm"), 600);
    assert_string_equal(tr_config_text(cfg, "model"), "local");
    assert_false(tr_config_flag(cfg, "fresh"));
    assert_string_equal(tr_config_dir(cfg), "/home/ann/.config/trommel");
    tr_config_free(cfg);
}

/* $XDG_CONFIG_HOME/trommel/config.yaml with this text is loaded. */
static int load_text(struct tr_config *cfg, const char *text,
                     struct tr_err *err)
{
    char path[200];
    FILE *f;

    strcpy(config_home, "/tmp/test_config.XXXXXX");
    assert_non_null(mkdtemp(config_home));
    snprintf(path, sizeof path, "%s/trommel", config_home);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/trommel/config.yaml", config_home);
    f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    return tr_config_load(cfg, fake_env, err);
}

static void drop_config_home(void)
{
    char path[200];

    snprintf(path, sizeof path, "%s/trommel/config.yaml", config_home);
    unlink(path);
    snprintf(path, sizeof path, "%s/trommel", config_home);
    rmdir(path);
    rmdir(config_home);
}

static void test_config_file(void **state)
{
    struct tr_config *cfg = tr_config_new();
    struct tr_err err;

    (void)state;
    assert_int_equal(load_text(cfg,
                               "model: openai/x\nrpm: 5\ntruncate: on\n"
                               "providers:\n  mine: {dialect: openai}\n",
                               &err),
                     0);
    drop_config_home();
    assert_string_equal(tr_config_text(cfg, "model"), "openai/x");
    assert_int_equal(tr_config_int(cfg, "rpm"), 600); /* from TROMMEL_RPM */
    assert_true(tr_config_flag(cfg, "truncate"));
    tr_config_free(cfg);
}

static void test_config_file_errors(void **state)
{
    static const struct {
        const char *text, *says; /* after the path */
    } cases[] = {
        {"modell: x\n", ":1:1: unknown key modell; did you mean model?"},
        {"model: x\npack: many\n",
         ":2:7: pack: \"many\" is not a whole number, such as 16"},
        {"output: x\n", ":1:9: output cannot be set here; give it on the "
                        "command line: --output"},
        {"rpm: [1, 2]\n", ":1:6: rpm: one value belongs here"},
        {"fallback: [a/b, [c]]\n", ":1:11: fallback: one value belongs here"},
        {"fallback-on: [down, now]\n",
         ":1:14: fallback-on: \"down,now\" is not some of exhausted|gone|down|"
         "blocked|too_long|invalid"},
        {"- rpm\n", ": options belong here, one a line, such as model: local"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tr_config *cfg = tr_config_new();
        char says[400];
        struct tr_err err;

        assert_int_equal(load_text(cfg, cases[i].text, &err), TR_CONFIG);
        snprintf(says, sizeof says, "%s/trommel/config.yaml%s", config_home,
                 cases[i].says);
        drop_config_home();
        assert_string_equal(err.text, says);
        tr_config_free(cfg);
    }
}

/* A list is what a task file makes of it: its values, with commas. */
static void test_config_file_lists(void **state)
{
    struct tr_config *cfg = tr_config_new();
    const char *const *values;
    struct tr_err err;

    (void)state;
    assert_int_equal(load_text(cfg, "fallback: [mine/a, local]\n"
                                    "fallback-on: [down, blocked]\n", &err),
                     0);
    drop_config_home();
    assert_int_equal(tr_config_list(cfg, "fallback", &values), 1);
    assert_string_equal(values[0], "mine/a,local");
    assert_string_equal(tr_config_text(cfg, "fallback-on"), "down,blocked");
    tr_config_free(cfg);
}

/* Every allocation fails once: an error or nothing, never a leak or crash. */
static void test_memory(void **state)
{
    (void)state;
    for (long n = 1; n < 300; n++) {
        struct tr_config *cfg, *copy;
        struct tr_err err;

        tr_mem_fail_at(n, 1);
        cfg = tr_config_new();
        if (cfg) {
            load_text(cfg, "model: x\nproviders:\n  a: {b: c}\n", &err);
            drop_config_home();
            put(cfg, TR_FROM_SET, "input", "a.csv", NULL, &err);
            copy = tr_config_dup(cfg);
            tr_config_free(copy);
        }
        tr_config_free(cfg);
    }
    tr_mem_fail_at(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_values),
        cmocka_unit_test(test_sentences),    cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_home_is_written_out),
        cmocka_unit_test(test_list_and_dup), cmocka_unit_test(test_environment),
        cmocka_unit_test(test_config_file),
        cmocka_unit_test(test_config_file_errors),
        cmocka_unit_test(test_config_file_lists),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
