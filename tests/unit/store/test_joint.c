/* test_joint.c - a small file that several processes change, one at a time.
 *
 * SPDX-License-Identifier: MIT */
#include "store/joint.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/trommel-joint-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"n", "n.lock", "n.new"};
    char path[128];
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* Time that passes only while somebody waits for the lock that we hold. */
static struct {
    int fd;                /* of the lock; -1: time is real */
    int64_t slept_ns;
    int64_t writes_every_ns, writes_left; /* then we let go; 0: never */
} holder = {.fd = -1};

static void hold(void)
{
    char path[128];

    snprintf(path, sizeof path, "%s/n.lock", folder);
    holder.fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(flock(holder.fd, LOCK_EX), 0);
    holder.slept_ns = 0;
}

static void let_go(void)
{
    close(holder.fd);
    holder.fd = -1;
}

/* As the holder would. */
static void write_once_more(void)
{
    struct tr_joint j = {.lock_fd = -1};
    struct tr_err err;

    snprintf(j.path, sizeof j.path, "%s/n", folder);
    assert_int_equal(tr_joint_write(&j, TR_STR("300"), &err), TR_OK);
}

int __real_nanosleep(const struct timespec *want, struct timespec *left);
int __wrap_nanosleep(const struct timespec *want, struct timespec *left);
int __wrap_nanosleep(const struct timespec *want, struct timespec *left)
{
    static bool whole;
    int64_t ns = want->tv_sec * TR_S + want->tv_nsec;

    if (holder.fd < 0)
        return __real_nanosleep(want, left);
    whole = !whole;
    if (!whole) { /* a signal comes at half of it */
        holder.slept_ns += ns / 2;
        *left = (struct timespec){0, ns - ns / 2};
        errno = EINTR;
        return -1;
    }
    holder.slept_ns += ns;
    if (holder.writes_left &&
        holder.slept_ns >= holder.writes_every_ns) {
        holder.slept_ns = 0;
        write_once_more();
        if (!--holder.writes_left)
            let_go();
    }
    return 0;
}

static void add(int n)
{
    struct tr_joint j;
    struct tr_buf text;
    struct tr_err err;
    char now[32];

    tr_buf_init(&text, 0);
    if (tr_joint_open(&j, folder, "n", &text, &err) != TR_OK)
        _exit(3);
    snprintf(now, sizeof now, "%d", (text.n ? atoi(text.p) : 0) + n);
    if (tr_joint_write(&j, tr_str_c(now), &err) != TR_OK)
        _exit(4);
    tr_joint_close(&j);
    tr_buf_release(&text);
}

static int value(mode_t *mode)
{
    struct tr_joint j;
    struct tr_buf text;
    struct tr_err err;
    struct stat sb;
    int v;

    tr_buf_init(&text, 0);
    assert_int_equal(tr_joint_open(&j, folder, "n", &text, &err), TR_OK);
    v = text.n ? atoi(text.p) : 0;
    assert_int_equal(stat(j.path, &sb), 0);
    *mode = sb.st_mode & 0777;
    tr_joint_close(&j);
    tr_buf_release(&text);
    return v;
}

/* Of a writer that died before it was done: more than there is to say. */
static void leave_half(void)
{
    struct tr_joint j;
    struct tr_buf text;
    struct tr_err err;
    char path[128];
    FILE *f;

    tr_buf_init(&text, 0);
    snprintf(path, sizeof path, "%s/n.new", folder);
    if (tr_joint_open(&j, folder, "n", &text, &err) != TR_OK)
        _exit(3);
    f = fopen(path, "w");
    if (!f || fputs("99999999", f) < 0 || fclose(f) != 0)
        _exit(5);
    tr_joint_close(&j);
    tr_buf_release(&text);
}

/* Four processes, one of which leaves half a file behind each time. */
static void nothing_is_lost_between_processes(void **state)
{
    mode_t mode;
    (void)state;

    for (int p = 0; p < 4; p++)
        if (fork() == 0) {
            for (int i = 0; i < 50; i++) {
                if (p == 0)
                    leave_half();
                add(1);
            }
            _exit(0);
        }
    for (int p = 0; p < 4; p++) {
        int status;

        wait(&status);
        assert_int_equal(status, 0);
    }
    assert_int_equal(value(&mode), 200);
    assert_int_equal(mode, 0600);
}

static void a_dead_writer_leaves_the_old_file(void **state)
{
    char path[128];
    mode_t mode;
    FILE *f;
    (void)state;

    snprintf(path, sizeof path, "%s/n.new", folder);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("9999", f);
    fclose(f);
    assert_int_equal(value(&mode), 200);
    add(1);
    assert_int_equal(value(&mode), 201);
}

/* It is suspended, or its disk is stuck: neither do we wait without end, nor
 * do we take from it what guards money. */
static void a_holder_that_does_nothing_is_told_of(void **state)
{
    struct tr_joint j;
    struct tr_buf text;
    struct tr_err err;
    mode_t mode;
    (void)state;

    tr_buf_init(&text, 0);
    hold();
    assert_int_equal(tr_joint_open(&j, folder, "n", &text, &err), TR_STOPPED);
    assert_non_null(strstr(err.text, "/n.lock"));
    assert_non_null(strstr(err.text, "run the same command again"));
    assert_true(holder.slept_ns >= 9 * TR_S && holder.slept_ns <= 11 * TR_S);
    tr_joint_close(&j);
    tr_buf_release(&text);
    let_go();
    assert_int_equal(value(&mode), 201);
}

/* Many runs on a slow disk: as long as one after the other writes, it is only
 * not our turn yet. */
static void holders_that_write_are_waited_for(void **state)
{
    mode_t mode;
    (void)state;

    holder.writes_every_ns = 6 * TR_S;
    holder.writes_left = 5;
    hold();
    assert_int_equal(value(&mode), 300);
    assert_int_equal(holder.writes_left, 0);
}

/* Where everybody may put files: a pipe must not stall us, and what another user
 * says of our money is nothing to go by. */
static void what_is_planted_is_refused(void **state)
{
    struct tr_joint j;
    struct tr_buf text;
    struct tr_err err;
    char path[128];
    (void)state;

    snprintf(path, sizeof path, "%s/n", folder);
    tr_buf_init(&text, 0);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(tr_joint_open(&j, folder, "n", &text, &err), TR_CONFIG);
    assert_non_null(strstr(err.text, "is no regular file"));
    tr_joint_close(&j);
    assert_int_equal(unlink(path), 0);
    add(7);
    if (geteuid() == 0 && chown(path, 65534, 65534) == 0) {
        assert_int_equal(tr_joint_open(&j, folder, "n", &text, &err),
                         TR_CONFIG);
        assert_non_null(strstr(err.text, "belongs to another user"));
        tr_joint_close(&j);
    }
    assert_int_equal(unlink(path), 0);
    tr_buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_between_processes),
        cmocka_unit_test(a_dead_writer_leaves_the_old_file),
        cmocka_unit_test(a_holder_that_does_nothing_is_told_of),
        cmocka_unit_test(holders_that_write_are_waited_for),
        cmocka_unit_test(what_is_planted_is_refused),
    };

    alarm(60); /* a lock that is waited for without end */
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
