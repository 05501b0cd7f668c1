/* test_secret.c - a key is found in a text however it is spelt, and its page
 * is not to be read beyond.
 * SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY "canary+key/0123=x"

static void every_spelling_is_hidden(void **state)
{
    static const struct {
        const char *key, *in, *out;
    } cases[] = {
        {KEY, "no such thing", "no such thing"},
        {KEY, "Bearer " KEY " was refused", "Bearer [key] was refused"},
        {KEY, KEY KEY, "[key][key]"},
        {KEY, "?key=canary%2Bkey%2F0123%3Dx&b", "?key=[key]&b"},
        {KEY, "?key=canary%2bkey%2f0123%3dx&b", "?key=[key]&b"},
        {KEY, "63616e6172792b6b65792f303132333d78", "[key]"},
        {KEY, "63616E6172792B6B65792F303132333D78", "[key]"},
        /* base64 of the key alone, after ":", after "u:"; with 5 bits of the
         * neighbour at most left over. */
        {KEY, "Y2FuYXJ5K2tleS8wMTIzPXg=", "[key]g="},
        {KEY, "OmNhbmFyeStrZXkvMDEyMz14", "Om[key]"},
        {KEY, "dTpjYW5hcnkra2V5LzAxMjM9eA==", "dTp[key]A=="},
        {"ab\x7e\x7e\x7f\x7e\x7e?", "YWJ-fn9-fj8", "[key]8"}, /* URL alphabet */
        {KEY, "the answer ends in canary+key/0", "the answer ends in [key]"},
        {KEY, "a canary+", "a canary+"}, /* a beginning that may be a word */
        {"[key]", "is [key] it", "is [key] it"},  /* the mark is a key, too */
        {"[key", "is [key] it", "is [key] it"},
        {"abcd", "an abcd!", "an [key!"},
        {"abc", "an abc!", "an abc!"}, /* too short to be one */
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_secret *s = tr_secret_new(tr_str_c(cases[i].key));
        char text[300];

        assert_non_null(s);
        assert_string_equal(tr_secret_text(s), cases[i].key);
        snprintf(text, sizeof text, "%s", cases[i].in);
        tr_secret_hide(s, text, sizeof text);
        if (strcmp(text, cases[i].out) != 0)
            fail_msg("%s became %s", cases[i].in, text);
        tr_secret_free(s);
    }
}

/* A text that was cut to its room keeps no half of a key. */
static void what_a_cut_left_is_hidden(void **state)
{
    struct tr_secret *s = tr_secret_new(tr_str_c(KEY));
    (void)state;

    for (size_t room = 8; room < 40; room++) {
        char text[40];

        snprintf(text, room, "a key: %s and so on", KEY);
        tr_secret_hide(s, text, room);
        assert_null(strstr(text, "canar"));
    }
    tr_secret_free(s);
}

static void long_keys_fit(void **state)
{
    char key[2000], text[4000];
    struct tr_secret *s;
    (void)state;

    for (size_t n = 1; n <= sizeof key; n += n < 70 ? 1 : 643) {
        memset(key, '%', sizeof key); /* its URL form is the longest */
        s = tr_secret_new(tr_str(key, n));
        assert_non_null(s);
        snprintf(text, sizeof text, "<%.*s>", (int)n, key);
        tr_secret_hide(s, text, sizeof text);
        if (n >= 5)
            assert_string_equal(text, "<[key]>");
        tr_secret_free(s);
    }
    assert_string_equal(tr_secret_text(NULL), "");
    tr_secret_hide(NULL, text, sizeof text);
    tr_secret_free(NULL);
}

/* Reading on from the key soon meets the page that ends the process. */
static void reading_past_it_ends_the_process(void **state)
{
    struct tr_secret *s = tr_secret_new(tr_str_c(KEY));
    int status = 0;
    pid_t child = fork();
    (void)state;

    if (child == 0) {
        volatile const char *p = tr_secret_text(s);
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        for (size_t i = 0; i < 4096 + 32; i++)
            (void)p[i];
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    tr_secret_free(s);
}

/* Core dumps leave the page out: "dd" in the kernel's words. */
static void a_core_dump_leaves_it_out(void **state)
{
    struct tr_secret *s = tr_secret_new(tr_str_c(KEY));
    uintptr_t at = (uintptr_t)tr_secret_text(s);
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[600], flags[100] = "";
    bool inside = false;
    (void)state;

    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;

        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from <= at && at < to;
        if (inside && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(flags, sizeof flags, "%.90s", line);
    }
    if (maps)
        fclose(maps);
    if (!flags[0])
        skip(); /* a kernel without smaps */
    assert_non_null(strstr(flags, " dd"));
    tr_secret_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_is_hidden),
        cmocka_unit_test(what_a_cut_left_is_hidden),
        cmocka_unit_test(long_keys_fit),
        cmocka_unit_test(reading_past_it_ends_the_process),
        cmocka_unit_test(a_core_dump_leaves_it_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
