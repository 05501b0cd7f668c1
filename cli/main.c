/* main.c - the program trommel: finds the command and runs it.
 * SPDX-License-Identifier: MIT */
#include "commands.h"
#include "guard.h"
#include "term.h"

#include <trommel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Descriptors 0, 1 and 2 must exist, or a file of ours could become standard
 * output. What is written to one that was closed fails: rows must not
 * vanish. */
static void open_missing_streams(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDONLY);
    } while (fd >= 0 && fd <= 2);
    if (fd >= 0)
        close(fd);
}

/* Where address space is limited (ulimit -v) none of it is reserved: glibc
 * takes 64 MiB and more for each thread that allocates. */
static void spare_address_space(void)
{
#ifdef __GLIBC__
    struct rlimit limit;

    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        mallopt(M_ARENA_MAX, 1);
#endif
}

static int unknown(struct term *term, const char *name)
{
    const char *near = command_nearest(name);
    char text[200];

    snprintf(text, sizeof text, "unknown command \"%.80s\"; %s%s%s", name,
             near ? "did you mean trommel " : "trommel help lists them",
             near ? near : "", near ? "?" : "");
    term_say(term, SAY_ERROR, text);
    return 2;
}

static int run(int argc, char **argv)
{
    struct term term;
    const char *name = argc > 1 ? argv[1] : "";
    const struct command *command;

    term_init(&term);
    if (argc < 2) {
        commands_help(stderr);
        return 2;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("trommel %s\n", trommel_version());
        return 0;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
        (strcmp(name, "help") == 0 &&
         (argc == 2 || argv[2][0] == '-' || strcmp(argv[2], "help") == 0))) {
        commands_help(stdout);
        return 0;
    }
    if (strcmp(name, "help") == 0) {
        char *words[] = {argv[2], (char *)"--help", NULL};

        command = command_find(argv[2]);
        return command ? command->run(2, words) : unknown(&term, argv[2]);
    }
    command = command_find(name);
    return command ? command->run(argc - 1, argv + 1) : unknown(&term, name);
}

int main(int argc, char **argv)
{
    int code;

    open_missing_streams();
    spare_address_space();
    if (!guard_raise()) {
        fputs("trommel: it runs with more rights than yours (setuid or "
              "setgid); it is not made for that\n", stderr);
        return 77;
    }
    code = run(argc, argv);
    if (fflush(stdout) != 0 && errno != EPIPE) {
        fprintf(stderr, "trommel: standard output: %s\n", strerror(errno));
        return 74;
    }
    return code;
}
