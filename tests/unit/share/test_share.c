/* test_share.c - leases in a file, with real processes that die and files
 * that were tampered with.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/rng.h"
#include "share/share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define LIVE (3 * TR_S)
#define ACCOUNT "0123456789abcdef0123456789abcdef"

static char root[64], folder[96], file[200];

static int set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/trommel-share-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(folder, sizeof folder, "%s/state/share", root);
    return 0;
}

static int tear_down(void **state)
{
    char command[120];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static struct tr_share *join_patient(int64_t stuck_ns)
{
    struct tr_share_opts o = {folder, ACCOUNT, stuck_ns};
    struct tr_share *s;
    struct tr_err err;

    assert_int_equal(tr_share_open(&s, &o, &err), TR_OK);
    return s;
}

static struct tr_share *join(void)
{
    return join_patient(0);
}

/* The name of the one file in the folder. */
static void find_file(void)
{
    DIR *dir = opendir(folder);
    struct dirent *e;
    int n = 0;

    assert_non_null(dir);
    while ((e = readdir(dir)))
        if (e->d_name[0] != '.') {
            snprintf(file, sizeof file, "%s/%.80s", folder, e->d_name);
            n++;
        }
    closedir(dir);
    assert_int_equal(n, 1);
}

/* One exchange; how many others there are, or -1 when it is not our turn. */
static int exchange(struct tr_share *s, double part, struct tr_lease *all)
{
    struct tr_lease room[TR_SHARE_SLOTS];
    struct tr_lease mine = {.beat_at = tr_clock_mono_ns(), .part = {part, part}};
    struct tr_err err;
    uint32_t n;
    bool no_place;
    int rc = tr_share_get(s, all ? all : room, &n, &err);

    if (rc == TR_SHARE_BUSY)
        return -1;
    assert_int_equal(rc, TR_OK);
    assert_int_equal(tr_share_put(s, &mine, LIVE, &no_place, &err), TR_OK);
    return no_place ? -2 : (int)n;
}

static void each_sees_the_others(void **state)
{
    struct tr_share *a = join(), *b = join();
    struct tr_lease all[TR_SHARE_SLOTS];
    struct stat sb;

    (void)state;
    assert_int_equal(exchange(a, 0.25, NULL), 0);
    assert_int_equal(exchange(b, 0.5, all), 1);
    assert_true(all[0].part[0] == 0.25 && all[0].beat_at > 0);
    assert_int_equal(exchange(a, 0.25, all), 1);
    assert_true(all[0].part[0] == 0.5);
    find_file();
    assert_int_equal(stat(file, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    assert_true(sb.st_size <= 16384);
    assert_int_equal(stat(folder, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0700);
    /* Who leaves is dead at once, and its last words stay. */
    tr_share_close(b);
    assert_int_equal(exchange(a, 0.25, all), 1);
    assert_true(all[0].beat_at == 0 && all[0].part[0] == 0.5);
    tr_share_close(a);
}

static void one_at_a_time(void **state)
{
    struct tr_share *a = join(), *b = join();
    struct tr_lease all[TR_SHARE_SLOTS], mine = {.beat_at = 1};
    struct tr_err err;
    bool no_place;
    uint32_t n;

    (void)state;
    assert_int_equal(tr_share_get(a, all, &n, &err), TR_OK);
    assert_int_equal(tr_share_get(b, all, &n, &err), TR_SHARE_BUSY);
    assert_int_equal(tr_share_put(a, &mine, LIVE, &no_place, &err), TR_OK);
    assert_int_equal(tr_share_get(b, all, &n, &err), TR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(tr_share_put(b, &mine, LIVE, &no_place, &err), TR_OK);
    tr_share_close(a);
    tr_share_close(b);
}

/* Whatever is in the file: no harm, and the next exchange repairs it. */
static void broken_files_count_as_empty(void **state)
{
    struct tr_share *a = join(), *b = join();
    struct tr_rng rng = {7};
    char bytes[20000];

    (void)state;
    find_file();
    for (int i = 0; i < 300; i++) {
        int fd = open(file, O_RDWR);
        size_t n = tr_rng_below(&rng, sizeof bytes);

        assert_true(fd >= 0);
        for (size_t k = 0; k < n; k++)
            bytes[k] = (char)tr_rng_next(&rng);
        if (i % 3 == 0)
            memset(bytes, 0, n);
        if (i % 2)
            assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, bytes, n, 0), (ssize_t)n);
        close(fd);
        if (n < 200) /* not all of it was overwritten */
            continue;
        assert_int_equal(exchange(a, 0.5, NULL), 0);
        assert_int_equal(exchange(b, 0.5, NULL), 1);
        assert_int_equal(exchange(a, 0.5, NULL), 1);
    }
    tr_share_close(a);
    tr_share_close(b);
}

/* One changed byte anywhere: that record is gone, and only that one. */
static void torn_records_are_found(void **state)
{
    struct tr_share *a = join(), *b = join(), *c = join();

    (void)state;
    find_file();
    for (off_t at = 0; at < 128; at++) {
        int fd = open(file, O_RDWR);
        char byte;

        exchange(a, 0.1, NULL); /* a's is the first in the file */
        exchange(b, 0.2, NULL);
        assert_int_equal(exchange(c, 0.3, NULL), 2);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        assert_int_equal(exchange(c, 0.3, NULL), 1);
    }
    tr_share_close(a);
    tr_share_close(b);
    tr_share_close(c);
}

static int try_open(void)
{
    struct tr_share_opts o = {folder, ACCOUNT, 0};
    struct tr_share *s;
    struct tr_err err;
    int rc = tr_share_open(&s, &o, &err);

    tr_share_close(s);
    return rc;
}

static void only_a_file_of_ones_own(void **state)
{
    char other[120];
    int fd;

    (void)state;
    snprintf(other, sizeof other, "%s/victim", root);
    tr_share_close(join());
    find_file();
    assert_int_equal(unlink(file), 0);
    fd = open(other, O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_int_equal(symlink(other, file), 0);
    assert_int_equal(try_open(), TR_IO);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(link(other, file), 0);
    assert_int_equal(try_open(), TR_IO);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkfifo(file, 0600), 0);
    assert_int_equal(try_open(), TR_IO);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkdir(file, 0700), 0);
    assert_int_equal(try_open(), TR_IO);
    assert_int_equal(rmdir(file), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(try_open(), TR_IO);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(try_open(), TR_OK);
    snprintf(folder + strlen(folder) - 5, 6, "link"); /* .../link */
    assert_int_equal(symlink(root, folder), 0);
    assert_int_equal(try_open(), TR_IO);
}

/* A name that changes between file and symbolic link all the time. */
static void swapped_names_do_not_escape(void **state)
{
    char other[120], content[16] = "";
    struct tr_share *a = join();
    int fd, swapped = 0;
    pid_t child;

    (void)state;
    find_file();
    snprintf(other, sizeof other, "%s/victim", root);
    fd = open(other, O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    child = fork();
    if (child == 0) {
        alarm(60);
        for (;;) {
            if ((unlink(file) == 0 || errno == ENOENT) &&
                symlink(other, file) != 0)
                continue; /* the other was faster */
            unlink(file);
        }
    }
    for (int i = 0; i < 20000; i++) {
        struct tr_lease all[TR_SHARE_SLOTS], mine = {.beat_at = 1};
        struct tr_err err;
        bool no_place;
        uint32_t n;

        if (tr_share_get(a, all, &n, &err) != TR_OK) {
            swapped++;
            continue;
        }
        tr_share_put(a, &mine, LIVE, &no_place, &err);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(swapped > 0);
    assert_int_equal(pread(fd, content, sizeof content, 0), 8);
    assert_string_equal(content, "precious");
    close(fd);
    unlink(file);
    tr_share_close(a);
}

static void a_removed_file_is_made_again(void **state)
{
    struct tr_share *a = join(), *b = join();

    (void)state;
    exchange(a, 0.5, NULL);
    assert_int_equal(exchange(b, 0.5, NULL), 1);
    find_file();
    assert_int_equal(unlink(file), 0);
    assert_int_equal(exchange(b, 0.5, NULL), 0);
    assert_int_equal(exchange(a, 0.5, NULL), 1);
    assert_int_equal(exchange(b, 0.5, NULL), 1);
    tr_share_close(a);
    tr_share_close(b);
}

static void files_of_other_times_are_removed(void **state)
{
    struct timespec long_ago[2] = {{1000000000, 0}, {1000000000, 0}};
    char old[220], note[220];
    struct stat sb;

    (void)state;
    tr_share_close(join());
    find_file();
    snprintf(old, sizeof old, "%s/%032x.leases", folder, 5);
    snprintf(note, sizeof note, "%s/README", folder);
    assert_int_equal(rename(file, old), 0);
    close(open(note, O_RDWR | O_CREAT, 0600));
    assert_int_equal(utimensat(AT_FDCWD, old, long_ago, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, note, long_ago, 0), 0);
    tr_share_close(join());
    assert_int_equal(stat(old, &sb), -1);
    assert_int_equal(stat(note, &sb), 0); /* none of ours */
    assert_int_equal(stat(file, &sb), 0);
}

static void a_full_table_takes_nobody_more(void **state)
{
    struct tr_share *s[TR_SHARE_SLOTS + 1];

    (void)state;
    for (int i = 0; i < TR_SHARE_SLOTS; i++) {
        s[i] = join();
        assert_int_equal(exchange(s[i], 0, NULL), i);
    }
    s[TR_SHARE_SLOTS] = join();
    assert_int_equal(exchange(s[TR_SHARE_SLOTS], 0, NULL), -2);
    tr_share_close(s[7]);
    assert_int_equal(exchange(s[TR_SHARE_SLOTS], 0, NULL), TR_SHARE_SLOTS);
    for (int i = 0; i <= TR_SHARE_SLOTS; i++)
        if (i != 7)
            tr_share_close(s[i]);
}

/* ---- processes ------------------------------- */

static void pause_ms(int64_t ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * TR_MS}, NULL);
}

/* Takes and gives parts for ever; dies when it sees more than the whole. */
_Noreturn static void member(uint64_t seed)
{
    struct tr_rng rng = {seed};
    struct tr_share *s = join();
    double part = 0;

    alarm(60);
    for (;;) {
        struct tr_lease all[TR_SHARE_SLOTS];
        struct tr_lease mine = {.beat_at = tr_clock_mono_ns()};
        struct tr_err err;
        bool no_place;
        uint32_t n;
        double held = 0;
        int rc = tr_share_get(s, all, &n, &err);

        if (rc == TR_SHARE_BUSY)
            continue;
        if (rc != TR_OK)
            _exit(2);
        for (uint32_t i = 0; i < n; i++)
            if (mine.beat_at - all[i].beat_at <= LIVE)
                held += all[i].part[0];
        if (held + part > 1 + 1e-9)
            _exit(3);
        part = tr_rng_unit(&rng) * (1 - held);
        mine.part[0] = part;
        if (tr_share_put(s, &mine, LIVE, &no_place, &err) != TR_OK)
            _exit(4);
    }
}

static void the_killed_hold_up_nobody(void **state)
{
    struct tr_share *s = join();
    struct tr_rng rng = {11};
    pid_t child[6] = {0};

    (void)state;
    for (int round = 0; round < 60; round++) {
        int k = (int)tr_rng_below(&rng, 6), status;

        if (child[k] > 0) {
            kill(child[k], SIGKILL);
            assert_int_equal(waitpid(child[k], &status, 0), child[k]);
            /* did not leave by itself, nor by a fault */
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        }
        child[k] = fork();
        if (child[k] == 0)
            member(100 + (uint64_t)round);
        pause_ms(5);
    }
    for (int k = 0; k < 6; k++)
        if (child[k] > 0) {
            int status;

            kill(child[k], SIGKILL);
            waitpid(child[k], &status, 0);
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        }
    assert_true(exchange(s, 0, NULL) > 0);
    tr_share_close(s);
}

static void the_stopped_are_left_behind(void **state)
{
    struct tr_share *s = join_patient(TR_S / 5);
    int64_t began = tr_clock_mono_ns();
    int ready[2], tries;
    pid_t child;
    char c;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) { /* stops while it has the lock */
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* should a check fail meanwhile */
        struct tr_share *own = join();
        struct tr_lease all[TR_SHARE_SLOTS];
        struct tr_lease mine = {.beat_at = tr_clock_mono_ns()};
        struct tr_err err;
        bool no_place;
        uint32_t n;

        while (tr_share_get(own, all, &n, &err) != TR_OK)
            ;
        c = 1;
        if (write(ready[1], &c, 1) != 1)
            _exit(1);
        raise(SIGSTOP);
        tr_share_put(own, &mine, LIVE, &no_place, &err);
        while (exchange(own, 0.5, NULL) < 0)
            ;
        _exit(exchange(own, 0.5, NULL) == 1 ? 0 : 1); /* sees us */
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(exchange(s, 0.5, NULL), -1);
    for (tries = 0; tries < 2000 && exchange(s, 0.5, NULL) < 0; tries++)
        pause_ms(5);
    assert_true(tries < 2000);
    assert_true(tr_clock_mono_ns() - began >= TR_S / 5);
    kill(child, SIGCONT);
    {
        int status;

        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_int_equal(exchange(s, 0.5, NULL), 1);
    close(ready[0]);
    close(ready[1]);
    tr_share_close(s);
}

#define UNIT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(each_sees_the_others),
        UNIT(one_at_a_time),
        UNIT(broken_files_count_as_empty),
        UNIT(torn_records_are_found),
        UNIT(only_a_file_of_ones_own),
        UNIT(swapped_names_do_not_escape),
        UNIT(a_removed_file_is_made_again),
        UNIT(files_of_other_times_are_removed),
        UNIT(a_full_table_takes_nobody_more),
        UNIT(the_killed_hold_up_nobody),
        UNIT(the_stopped_are_left_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
