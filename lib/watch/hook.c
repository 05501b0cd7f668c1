/* hook.c - runs one program of the operator at a time.
 *
 * posix_spawn() and not fork(): other threads of ours (the local model, name
 * lookups) may hold locks, and a large process need not be copied.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* pipe2, environ */
#include "watch/hook.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    FDS_KEPT = 3,
    DYING_MS = 500 /* from SIGKILL to the end; later it will not come */
};

/* What a child may know. No key is in any of these. */
static const char *const allowed[] = {"PATH", "HOME", "USER", "LOGNAME",
                                      "LANG", "LC_ALL", "LC_CTYPE", "TZ",
                                      "TMPDIR"};
enum { ALLOWED = sizeof allowed / sizeof *allowed };

/* ---- which program ---------------------------------------------------- */

static int is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           access(path, X_OK) == 0;
}

/* Relative entries of PATH are passed over: which program they name would
 * depend on the folder we happen to be in. */
static char *look_up(const char *name)
{
    const char *dir = getenv("PATH");
    char path[4200];

    while (dir && *dir) {
        size_t n = strcspn(dir, ":");

        if (n && dir[0] == '/' && n + strlen(name) + 2 <= sizeof path) {
            snprintf(path, sizeof path, "%.*s/%s", (int)n, dir, name);
            if (is_program(path))
                return tr_dup(path, strlen(path));
        }
        dir += n + (dir[n] == ':');
    }
    return NULL;
}

int tr_hook_open(struct tr_hook *h, const char *program, struct tr_err *err)
{
    *h = (struct tr_hook){0};
    if (strchr(program, '/') && program[0] != '/')
        return tr_fail(err, TR_USAGE, "--alert-command %s: give an absolute "
                       "path, or a name that is found in PATH", program);
    if (program[0] != '/')
        h->path = look_up(program);
    else if (is_program(program))
        h->path = tr_dup(program, strlen(program));
    if (!h->path)
        return tr_fail(err, TR_USAGE, "--alert-command %s: there is no such "
                       "program%s; it is one executable file, without "
                       "arguments", program,
                       program[0] == '/' ? "" : " in PATH");
    return TR_OK;
}

/* ---- start ------------------------------------------------------------ */

/* A pipe that holds input already; its read end in *fd. */
static int fill_pipe(int *fd, struct tr_str input)
{
    int ends[2], bad = 0;

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
        return errno;
    fcntl(ends[0], F_SETFL, 0); /* the child reads as it is used to */
    if (write(ends[1], input.p, input.n) != (ssize_t)input.n)
        bad = EIO;
    close(ends[1]);
    *fd = ends[0];
    if (bad)
        close(ends[0]);
    return bad;
}

/* Signals as a program expects them: what we ignore or block is ours. */
static void plain_signals(posix_spawnattr_t *attr)
{
    static const int ours[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM,
                               SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t set;

    sigemptyset(&set);
    posix_spawnattr_setsigmask(attr, &set);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        sigaddset(&set, ours[i]);
    posix_spawnattr_setsigdefault(attr, &set);
}

static int spawn(struct tr_hook *h, int input, char **env)
{
    char *argv[] = {h->path, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int bad;

    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, input, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
    /* Ours are all close-on-exec; those of a program around us may not be. */
    posix_spawn_file_actions_addclosefrom_np(&files, FDS_KEPT);
#endif
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP |
                                        POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attr, 0);
    plain_signals(&attr);
    bad = posix_spawn(&h->child, h->path, &files, &attr, argv, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (bad)
        h->child = 0;
    return bad;
}

/* "NAME=value" as it stands in our own environment, or NULL. */
static char *entry_of(const char *name)
{
    size_t n = strlen(name);

    for (char **e = environ; e && *e; e++) {
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
            return *e;
    }
    return NULL;
}

int tr_hook_start(struct tr_hook *h, const char *kind, struct tr_str input,
                  int64_t now_ns, int64_t limit_ns, struct tr_err *err)
{
    char *env[ALLOWED + 2] = {NULL};
    char event[60];
    int fd = -1, bad, n = 0;

    TR_ASSERT(!h->child && input.n <= TR_HOOK_INPUT_MAX);
    for (int i = 0; i < ALLOWED; i++) {
        env[n] = entry_of(allowed[i]);
        n += env[n] != NULL;
    }
    snprintf(event, sizeof event, "TROMMEL_EVENT=%s", kind);
    env[n] = event;
    bad = fill_pipe(&fd, input);
    if (!bad) {
        bad = spawn(h, fd, env);
        close(fd);
    }
    if (bad)
        return tr_fail(err, TR_IO, "%s", strerror(bad));
    h->killed = 0;
    h->deadline_ns = now_ns + limit_ns;
    return TR_OK;
}

/* ---- end -------------------------------------------------------------- */

/* Its leader has ended (or never will): the rest of the group goes too, while
 * the leader, not reaped yet, keeps the group's number from being reused. It
 * may have left the group itself. */
static void kill_group(const struct tr_hook *h)
{
    kill(-h->child, SIGKILL);
    kill(h->child, SIGKILL);
}

int tr_hook_poll(struct tr_hook *h, int64_t now_ns, char *why, size_t why_n)
{
    siginfo_t info = {0};
    int bad = waitid(P_PID, (id_t)h->child, &info,
                     WEXITED | WNOHANG | WNOWAIT);

    if (bad && errno == EINTR)
        return TR_HOOK_BUSY;
    if (bad) { /* the application reaps every child, or ignores SIGCHLD */
        h->child = 0;
        return TR_HOOK_OK;
    }
    if (info.si_pid != h->child) {
        if (now_ns < h->deadline_ns)
            return TR_HOOK_BUSY;
        if (h->killed) { /* another user's, or in a call that does not end */
            snprintf(why, why_n, "it took too long and cannot be killed");
            h->child = 0;
            return TR_HOOK_FAILED;
        }
        h->killed = 1;
        h->deadline_ns = now_ns + DYING_MS * TR_MS;
        kill_group(h);
        return TR_HOOK_BUSY;
    }
    kill_group(h);
    waitpid(h->child, NULL, 0);
    h->child = 0;
    if (!h->killed && info.si_code == CLD_EXITED && info.si_status == 0)
        return TR_HOOK_OK;
    if (h->killed)
        snprintf(why, why_n, "it took too long and was killed");
    else
        snprintf(why, why_n, "%s %d",
                 info.si_code == CLD_EXITED ? "exit code" : "signal",
                 info.si_status);
    return TR_HOOK_FAILED;
}

void tr_hook_close(struct tr_hook *h)
{
    const struct timespec pause = {0, TR_MS};

    if (h->child) {
        siginfo_t info = {0};

        if (waitid(P_PID, (id_t)h->child, &info,
                   WEXITED | WNOHANG | WNOWAIT) == 0) {
            kill_group(h);
            for (int ms = 0; ms < DYING_MS &&
                             waitpid(h->child, NULL, WNOHANG) == 0; ms++)
                nanosleep(&pause, NULL);
        }
        h->child = 0;
    }
    tr_free(h->path);
    h->path = NULL;
}
