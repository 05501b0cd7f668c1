/* test_sink.c - the output: complete or not there, never an input's end.
 * SPDX-License-Identifier: MIT */
#include "rows_fixture.h"

#include "rows/sink.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static void expect_file(const char *path, const char *want)
{
    char got[100] = "";
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    got[fread(got, 1, sizeof got - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(got, want);
}

static struct tr_sink *open_sink(const char *path)
{
    struct tr_sink *sink;
    struct tr_err err;

    assert_int_equal(tr_sink_open(&sink, path, NULL, 0, &err), TR_OK);
    return sink;
}

static void appears_when_complete(void **state)
{
    struct tr_err err;
    struct tr_sink *sink;
    struct stat st;
    mode_t mask = umask(027);
    (void)state;

    put_file("out.csv", TR_STR("old"));
    sink = open_sink("out.csv");
    assert_false(tr_sink_is_stream(sink));
    assert_string_equal(tr_sink_partial(sink), "out.csv.partial");
    assert_int_equal(tr_sink_write(sink, TR_STR("new"), &err), TR_OK);
    assert_int_equal(tr_sink_flush(sink, &err), TR_OK);
    expect_file("out.csv", "old");
    expect_file("out.csv.partial", "new");
    assert_int_equal(tr_sink_write(sink, TR_STR("er"), &err), TR_OK);
    assert_int_equal(tr_sink_finish(sink, &err), TR_OK);
    assert_string_equal(tr_sink_partial(sink), "");
    expect_file("out.csv", "newer");
    assert_false(there("out.csv.partial"));
    assert_int_equal(stat("out.csv", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    tr_sink_close(sink);
    umask(mask);
}

static int mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (int)(st.st_mode & 0777);
}

/* A file that others may not read is replaced by one that they may not read
 * either, not even half of it; a new one follows the umask. */
static void modes_stay(void **state)
{
    static const struct {
        const char *path;
        int before, after; /* before 0: there is no file */
    } table[] = {
        {"private.csv", 0600, 0600},
        {"shared.csv", 0666, 0666},
        {"group.csv", 0640, 0640},
        {"new.csv", 0, 0644},
    };
    mode_t mask = umask(022);
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_sink *sink;
        struct tr_err err;

        if (table[i].before) {
            put_file(table[i].path, TR_STR("old"));
            assert_int_equal(chmod(table[i].path, (mode_t)table[i].before), 0);
        }
        sink = open_sink(table[i].path);
        assert_int_equal(mode_of(tr_sink_partial(sink)), table[i].after);
        assert_int_equal(tr_sink_write(sink, TR_STR("new"), &err), TR_OK);
        assert_int_equal(tr_sink_finish(sink, &err), TR_OK);
        tr_sink_close(sink);
        assert_int_equal(mode_of(table[i].path), table[i].after);
        expect_file(table[i].path, "new");
    }
    umask(mask);
}

static void stopped_leaves_partial(void **state)
{
    struct tr_err err;
    struct tr_sink *sink = open_sink("stop.csv");
    (void)state;

    assert_int_equal(tr_sink_write(sink, TR_STR("a,b\n"), &err), TR_OK);
    tr_sink_close(sink);
    assert_false(there("stop.csv"));
    expect_file("stop.csv.partial", "a,b\n");
    /* The next run begins anew. */
    sink = open_sink("stop.csv");
    assert_int_equal(tr_sink_finish(sink, &err), TR_OK);
    tr_sink_close(sink);
    expect_file("stop.csv", "");
}

static void more_than_the_buffer(void **state)
{
    static char big[TR_SINK_BYTES * 2 + 7], back[sizeof big];
    static const size_t sizes[] = {1, TR_SINK_BYTES - 1, TR_SINK_BYTES,
                                   TR_SINK_BYTES + 1, sizeof big, 3};
    struct tr_err err;
    struct tr_sink *sink = open_sink("big.bin");
    FILE *f;
    (void)state;

    /* No period that fits into the buffer: what changes places shows. */
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i % 251);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_int_equal(tr_sink_write(sink, tr_str(big, sizes[i]), &err),
                         TR_OK);
    assert_int_equal(tr_sink_finish(sink, &err), TR_OK);
    tr_sink_close(sink);
    f = fopen("big.bin", "rb");
    assert_non_null(f);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(fread(back, 1, sizes[i], f), sizes[i]);
        assert_memory_equal(back, big, sizes[i]);
    }
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
}

static void refusals(void **state)
{
    static const struct {
        const char *path, *input, *sentence;
    } table[] = {
        {"in.csv", "in.csv",
         "in.csv is the same file as in.csv, which this run reads; name "
         "another file with -o"},
        {"./in.csv", "hard.csv",
         "./in.csv is the same file as hard.csv, which this run reads; name "
         "another file with -o"},
        {"link.csv", "in.csv",
         "link.csv is the same file as in.csv, which this run reads; name "
         "another file with -o"},
        {"x.csv", "x.csv.partial",
         "x.csv.partial is the same file as x.csv.partial, which this run "
         "reads; name another file with -o"},
        {"none/out.csv", "in.csv",
         "none/out.csv.partial cannot be created: No such file or directory; "
         "create its folder first, or name another place with -o"},
        {"in.csv/out.csv", "in.csv",
         "in.csv/out.csv cannot be created: Not a directory; create its "
         "folder first, or name another place with -o"},
        {"folder", "in.csv", "folder is a folder; name a file in it with -o"},
        {"trap.csv", "in.csv",
         "trap.csv.partial is in the way and is not a regular file; remove "
         "it"},
        {"pipe.csv", "in.csv",
         "pipe.csv.partial is in the way and is not a regular file; remove "
         "it"},
        {"read-only.csv", "in.csv",
         "read-only.csv cannot be created: Permission denied; name a place you "
         "may write to with -o"},
        {"", "in.csv", "the output has no name; name a file with -o"},
        /* The last: only root can make what it is about. */
        {"theirs.csv", "in.csv",
         "theirs.csv.partial is in the way and belongs to another user, who "
         "could read what is written there; remove it"},
    };
    size_t count = sizeof table / sizeof *table;
    (void)state;

    put_file("theirs.csv.partial", TR_STR(""));
    if (geteuid() != 0 || chown("theirs.csv.partial", 65534, 65534) != 0)
        count--;

    put_file("in.csv", TR_STR("text\na\n"));
    put_file("x.csv.partial", TR_STR("text\na\n"));
    put_file("read-only.csv", TR_STR("old"));
    assert_int_equal(chmod("read-only.csv", 0444), 0);
    assert_int_equal(link("in.csv", "hard.csv"), 0);
    assert_int_equal(symlink("in.csv", "link.csv"), 0);
    assert_int_equal(symlink("in.csv", "trap.csv.partial"), 0);
    assert_int_equal(mkfifo("pipe.csv.partial", 0600), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    for (size_t i = 0; i < count; i++) {
        struct tr_sink *sink;
        struct tr_err err;

        assert_int_equal(tr_sink_open(&sink, table[i].path, &table[i].input, 1,
                                      &err),
                         TR_CANTCREATE);
        assert_string_equal(err.text, table[i].sentence);
        assert_null(sink);
        expect_file("in.csv", "text\na\n");
        expect_file("x.csv.partial", "text\na\n");
        expect_file("read-only.csv", "old");
    }
}

static void one_writer(void **state)
{
    struct tr_sink *first = open_sink("both.csv"), *second;
    struct tr_err err;
    (void)state;

    assert_int_equal(tr_sink_open(&second, "both.csv", NULL, 0, &err),
                     TR_CANTCREATE);
    assert_string_equal(err.text,
                        "another run is writing both.csv.partial; wait for it "
                        "or name another file with -o");
    tr_sink_close(first);
}

static void streams(void **state)
{
    struct tr_sink *sink;
    struct tr_err err;
    char got[8] = "";
    int fd;
    (void)state;

    assert_int_equal(mkfifo("stream", 0600), 0);
    fd = open("stream", O_RDWR | O_CLOEXEC);
    sink = open_sink("stream");
    assert_true(tr_sink_is_stream(sink));
    assert_string_equal(tr_sink_partial(sink), "");
    assert_int_equal(tr_sink_write(sink, TR_STR("row\n"), &err), TR_OK);
    assert_int_equal(tr_sink_finish(sink, &err), TR_OK);
    tr_sink_close(sink);
    assert_int_equal(read(fd, got, sizeof got), 4);
    assert_string_equal(got, "row\n");
    close(fd);
}

/* The file behind a link is replaced as any other; the link stays. */
static void links_are_followed(void **state)
{
    static const struct {
        const char *link, *to, *partial;
    } table[] = {
        {"soft.csv", "behind.csv", "behind.csv.partial"},
        {"softer.csv", "deep/soft.csv", "deep/behind.csv.partial"},
        {"deep/up.csv", "../behind.csv", "deep/../behind.csv.partial"},
        {"to-none.csv", "deep/none.csv", "deep/none.csv.partial"},
    };
    (void)state;

    assert_int_equal(mkdir("deep", 0700), 0);
    assert_int_equal(symlink("behind.csv", "deep/soft.csv"), 0);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_sink *sink;
        struct stat st;
        struct tr_err err;

        put_file("behind.csv", TR_STR("a long old text"));
        put_file("deep/behind.csv", TR_STR("a long old text"));
        assert_int_equal(symlink(table[i].to, table[i].link), 0);
        sink = open_sink(table[i].link);
        assert_false(tr_sink_is_stream(sink));
        assert_string_equal(tr_sink_partial(sink), table[i].partial);
        assert_int_equal(tr_sink_write(sink, TR_STR("new"), &err), TR_OK);
        assert_int_equal(tr_sink_flush(sink, &err), TR_OK);
        if (i < 3)
            expect_file(table[i].link, "a long old text");
        assert_int_equal(tr_sink_finish(sink, &err), TR_OK);
        tr_sink_close(sink);
        expect_file(table[i].link, "new");
        assert_int_equal(lstat(table[i].link, &st), 0);
        assert_true(S_ISLNK(st.st_mode));
    }
}

/* A descriptor that the system shows as a link, and links to what is no file,
 * are written as they come; other links say what is wrong with them. */
static void links_to_no_file(void **state)
{
    static const struct {
        const char *link, *to, *says;
    } table[] = {
        {"round.csv", "round.csv",
         "round.csv cannot be created: Too many levels of symbolic links; "
         "check the name"},
        {"to-folder.csv", ".",
         "to-folder.csv is a folder; name a file in it with -o"},
        /* The last: only root can make what it is about. */
        {"theirs.csv", "in.csv",
         "theirs.csv is a link of another user, who could lead it to any file "
         "of yours; name the file itself with -o"},
    };
    struct tr_sink *sink;
    struct tr_err err;
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        unlink(table[i].link);
        assert_int_equal(symlink(table[i].to, table[i].link), 0);
        if (i == 2 &&
            (geteuid() != 0 || lchown(table[i].link, 65534, 65534) != 0))
            continue;
        assert_int_equal(tr_sink_open(&sink, table[i].link, NULL, 0, &err),
                         TR_CANTCREATE);
        assert_string_equal(err.text, table[i].says);
    }
    assert_int_equal(symlink("/dev/null", "to-null"), 0);
    sink = open_sink("to-null");
    assert_true(tr_sink_is_stream(sink));
    tr_sink_close(sink);
}

/* A descriptor of ours is written where it stands, as the shell has opened it:
 * what is in its file stays, and whoever shares it goes on behind us. */
static void descriptors_stand_where_they_stand(void **state)
{
    static const struct {
        const char *folder;
        int flags;
        const char *gives;
    } table[] = {
        {"/proc/self/fd", O_RDWR | O_APPEND, "old text[row]"},
        {"/proc/self/fd", O_RDWR, "[row]ext"},
        {"/proc/self/fd", O_RDWR | O_TRUNC, "[row]"},
        {"/dev/fd", O_RDWR | O_APPEND, "old text[row]"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_sink *sink;
        struct tr_err err;
        char name[40];
        int fd;

        put_file("open.csv", TR_STR("old text"));
        fd = open("open.csv", table[i].flags | O_CLOEXEC);
        assert_int_equal(write(fd, "[", 1), 1);
        snprintf(name, sizeof name, "%s/%d", table[i].folder, fd);
        sink = open_sink(name);
        assert_true(tr_sink_is_stream(sink));
        assert_int_equal(tr_sink_write(sink, TR_STR("row"), &err), TR_OK);
        assert_int_equal(tr_sink_finish(sink, &err), TR_OK);
        tr_sink_close(sink);
        assert_int_equal(write(fd, "]", 1), 1);
        close(fd);
        expect_file("open.csv", table[i].gives);
    }
}

/* Nothing is asked for before it is known that it can be written. */
static void descriptor_to_read(void **state)
{
    struct tr_sink *sink;
    struct tr_err err;
    char name[40], says[200];
    int fd;
    (void)state;

    put_file("read.csv", TR_STR("old text"));
    fd = open("read.csv", O_RDONLY | O_CLOEXEC);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    snprintf(says, sizeof says, "%s cannot be created: Permission denied; name "
             "a place you may write to with -o", name);
    assert_int_equal(tr_sink_open(&sink, name, NULL, 0, &err), TR_CANTCREATE);
    assert_string_equal(err.text, says);
    close(fd);
    expect_file("read.csv", "old text");
}

/* FILE.partial changes between a link, a second name of another file, a pipe
 * and nothing all the time. */
static void swapped_names_do_not_escape(void **state)
{
    enum { TRIES = 10000 };
    int opened = 0, refused = 0;
    pid_t child;
    (void)state;

    put_file("victim", TR_STR("precious"));
    child = fork();
    if (child == 0) {
        alarm(120);
        for (;;) {
            (void)!symlink("victim", "race.csv.partial");
            unlink("race.csv.partial");
            (void)!link("victim", "race.csv.partial");
            unlink("race.csv.partial");
            (void)!mkfifo("race.csv.partial", 0600);
            unlink("race.csv.partial");
        }
    }
    for (int i = 0; i < TRIES; i++) {
        struct tr_sink *sink;
        struct tr_err err;

        if (tr_sink_open(&sink, "race.csv", NULL, 0, &err) != TR_OK) {
            refused++;
            continue;
        }
        opened++;
        tr_sink_write(sink, TR_STR("row"), &err);
        tr_sink_close(sink);
        if (opened % 64 == 0)
            expect_file("victim", "precious");
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    expect_file("victim", "precious");
    assert_true(opened > 0 && refused > 0);
}

/* A reader that goes away is a code and a sentence, not a signal; and the
 * program's own way with SIGPIPE stays as it was. */
static void reader_gone(void **state)
{
    struct sigaction default_action = {.sa_handler = SIG_DFL}, after;
    struct tr_sink *sink;
    struct tr_err err;
    sigset_t mask;
    int fd;
    (void)state;

    sigaction(SIGPIPE, &default_action, NULL);
    assert_int_equal(mkfifo("gone", 0600), 0);
    fd = open("gone", O_RDWR | O_CLOEXEC);
    sink = open_sink("gone");
    close(fd);
    assert_int_equal(tr_sink_write(sink, TR_STR("row\n"), &err), TR_OK);
    assert_int_equal(tr_sink_flush(sink, &err), TR_IO);
    assert_string_equal(err.text,
                        "whoever read gone has stopped reading; run the same "
                        "command again to get the rest; every answer so far "
                        "is safe");
    assert_int_equal(tr_sink_finish(sink, &err), TR_IO);
    tr_sink_close(sink);
    sigaction(SIGPIPE, NULL, &after);
    assert_true(after.sa_handler == SIG_DFL);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    assert_false(sigismember(&mask, SIGPIPE));
}

/* Whoever waits for a slow reader awaits no replies and hears of no stop. */
static void a_full_pipe_makes_nobody_wait(void **state)
{
    static char row[10001], got[1 << 20];
    struct tr_sink *sink;
    struct tr_err err;
    size_t wrote = 0, read_n = 0;
    ssize_t n;
    int fd, rc;
    (void)state;

    memset(row, 'x', sizeof row - 1);
    assert_int_equal(mkfifo("slow", 0600), 0);
    fd = open("slow", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    sink = open_sink("slow");
    while (tr_sink_has_room(sink, sizeof row)) {
        assert_int_equal(tr_sink_write(sink, tr_str(row, sizeof row), &err),
                         TR_OK);
        wrote += sizeof row;
    }
    assert_int_equal(tr_sink_drain(sink, &err), 0);
    assert_int_equal(tr_sink_drain(sink, &err), 0);
    while (read_n < wrote) {
        n = read(fd, got + read_n, 5000);
        assert_true(n > 0);
        read_n += (size_t)n;
        rc = tr_sink_drain(sink, &err);
        assert_true(rc >= 0);
    }
    assert_true(tr_sink_has_room(sink, wrote));
    for (size_t i = 0; i < wrote; i++)
        assert_int_equal(got[i], row[i % sizeof row]);
    /* What is left when it closes waits for nobody either. */
    while (tr_sink_has_room(sink, sizeof row))
        assert_int_equal(tr_sink_write(sink, tr_str(row, sizeof row), &err),
                         TR_OK);
    tr_sink_close(sink);
    close(fd);
}

static void disk_full(void **state)
{
    struct tr_sink *sink;
    struct tr_err err;
    (void)state;

    if (!there("/dev/full")) {
        print_message("no /dev/full here\n");
        skip();
    }
    sink = open_sink("/dev/full");
    assert_true(tr_sink_is_stream(sink));
    assert_int_equal(tr_sink_write(sink, TR_STR("row\n"), &err), TR_OK);
    assert_int_equal(tr_sink_finish(sink, &err), TR_IO);
    assert_string_equal(err.text,
                        "/dev/full cannot be written: No space left on device; "
                        "free space and run the same command again; "
                        "every answer so far is safe");
    tr_sink_close(sink);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appears_when_complete),
        cmocka_unit_test(modes_stay),
        cmocka_unit_test(stopped_leaves_partial),
        cmocka_unit_test(more_than_the_buffer),
        cmocka_unit_test(refusals),
        cmocka_unit_test(one_writer),
        cmocka_unit_test(streams),
        cmocka_unit_test(links_are_followed),
        cmocka_unit_test(links_to_no_file),
        cmocka_unit_test(descriptors_stand_where_they_stand),
        cmocka_unit_test(descriptor_to_read),
        cmocka_unit_test(swapped_names_do_not_escape),
        cmocka_unit_test(reader_gone),
        cmocka_unit_test(a_full_pipe_makes_nobody_wait),
        cmocka_unit_test(disk_full),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
