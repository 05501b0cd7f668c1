/* test_joint.c - a small file that several processes change, one at a time.
 *
 * SPDX-License-Identifier: MIT */
#include "store/joint.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

/* Four processes, one of which leaves half a file behind each time. */
static void nothing_is_lost_between_processes(void **state)
{
    mode_t mode;
    (void)state;

    for (int p = 0; p < 4; p++)
        if (fork() == 0) {
            for (int i = 0; i < 50; i++)
                add(1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_between_processes),
        cmocka_unit_test(a_dead_writer_leaves_the_old_file),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
