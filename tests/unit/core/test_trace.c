/* test_trace.c - where the lines of a trace go when their file takes no more.
 *
 * What stands in them is looked at in tests/watch.
 *
 * SPDX-License-Identifier: MIT */
#include "watch/trace.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char said[700];
static int times_said;

static void say(void *ctx, int level, const char *line)
{
    (void)ctx;
    (void)level;
    snprintf(said, sizeof said, "%s", line);
    times_said++;
}

/* A reader that goes away ends the trace, and not the program. */
static void reader_gone(void **state)
{
    struct sigaction default_action = {.sa_handler = SIG_DFL};
    struct tr_lane lane = {.model = "openai/m"};
    struct tr_reply reply = {.outcome = TR_OUT_OK};
    struct tr_attempt a = {.lane = &lane, .reply = &reply};
    char dir[] = "/tmp/trommel-trace-XXXXXX", path[60];
    struct tr_trace t;
    int fd;
    (void)state;

    sigaction(SIGPIPE, &default_action, NULL);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/gone", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(tr_trace_open(&t, path, say, NULL, NULL), TR_OK);
    close(fd);
    for (int i = 0; i < 3; i++) {
        tr_trace_attempt(&t, &a, 0);
        tr_trace_flush(&t);
    }
    assert_int_equal(t.fd, -1);
    assert_int_equal(times_said, 1);
    assert_non_null(strstr(said, "the trace ends here"));
    tr_trace_close(&t);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
