/* fault.c - the C library's calls with faults by number: see fault.h.
 *
 * $TROMMEL_FAULT is the plan, $TROMMEL_FAULT_COUNT a file that gets the number
 * of calls counted when the program ends, and $TROMMEL_FAULT_STORM=USEC sends
 * a signal that nobody wants that often, which interrupts what is waiting.
 *
 * SPDX-License-Identifier: MIT */
#undef _FORTIFY_SOURCE /* its read() and write() are inline: ours are not */
#define _GNU_SOURCE
#include "fault.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#pragma GCC visibility push(default) /* else the libraries go past us */

enum deed { GO, KILL, TEAR, SHORT, FAIL, STOP, SPIN, HANG, DOZE };

static struct {
    char classes[10]; /* "": nothing counts */
    enum deed deed;
    int error;
    long at, until;  /* first and last call that it befalls */
} plan;
static atomic_long calls;

/* ---- plans ------------------------------------------------------------ */

static const struct {
    const char *name;
    enum deed deed;
    int error;
    long row; /* calls that + means; 0: all from there on */
} deeds[] = {
    {"kill",       KILL,  0,          0},
    {"tear",       TEAR,  0,          0},
    {"short",      SHORT, 0,          0},
    {"spin",       SPIN,  0,          0},
    {"hang",       HANG,  0,          0},
    {"doze",       DOZE,  0,          0},
    {"TERM",       STOP,  SIGTERM,    2},
    {"INT",        STOP,  SIGINT,     2},
    {"HUP",        STOP,  SIGHUP,     2},
    {"leave",      STOP,  0,          0},
    {"fail",       FAIL,  ENOMEM,     0},
    {"EIO",        FAIL,  EIO,        0},
    {"ENOSPC",     FAIL,  ENOSPC,     0},
    {"EINTR",      FAIL,  EINTR,      4},
    {"EMFILE",     FAIL,  EMFILE,     0},
    {"EDQUOT",     FAIL,  EDQUOT,     0},
    {"ECONNRESET", FAIL,  ECONNRESET, 0},
};

/* Only modules that promise to live with a failed malloc(). */
static const char *const careful[] = {
    "/libcurl.so", "/libsqlite3.so", "/libyaml", "/libz.so", "/libzstd.so",
    "/libsodium.so", "/libc.so",
};
static struct {
    uintptr_t from, to;
} ranges[64];
static int range_count;

static int add_module(struct dl_phdr_info *info, size_t size, void *ctx)
{
    bool ours = !info->dlpi_name[0]; /* the program itself */

    (void)size;
    (void)ctx;
    for (size_t i = 0; i < sizeof careful / sizeof *careful; i++)
        ours |= strstr(info->dlpi_name, careful[i]) != NULL;
    for (int i = 0; ours && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || range_count == 64)
            continue;
        ranges[range_count].from = info->dlpi_addr + p->p_vaddr;
        ranges[range_count++].to = info->dlpi_addr + p->p_vaddr + p->p_memsz;
    }
    return 0;
}

int fault_arm(const char *text)
{
    char classes[sizeof plan.classes] = "", name[16] = "";
    long at = 0;
    char more = 0;

    plan.classes[0] = '\0';
    if (!text)
        return 0;
    if (!range_count)
        dl_iterate_phdr(add_module, NULL);
    if (sscanf(text, "%9[wsnrcliem]:%15[a-zA-Z]:%ld%c", classes, name, &at,
               &more) < 3)
        return -1;
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        if (strcmp(name, deeds[i].name) != 0)
            continue;
        plan.deed = deeds[i].deed;
        plan.error = deeds[i].error;
        plan.at = plan.until = at;
        if (more == '+')
            plan.until = deeds[i].row ? at + deeds[i].row - 1 : INT64_MAX;
        calls = 0;
        memcpy(plan.classes, classes, sizeof classes);
        return 0;
    }
    return -1;
}

long fault_count(void)
{
    return calls;
}

static void write_count(void);

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* What befalls this call. */
static enum deed deed_of(char class)
{
    static const struct timespec nap = {1, 600000000};
    long n;

    if (!plan.classes[0] || !strchr(plan.classes, class))
        return GO;
    n = ++calls;
    if (n < plan.at || n > plan.until)
        return GO;
    if (plan.deed == SPIN || plan.deed == HANG)
        write_count(); /* the file's time is that of the last sign of life */
    if (plan.deed == SPIN)
        for (;;)
            ;
    if (plan.deed == HANG)
        for (;;)
            pause();
    if (plan.deed == DOZE) {
        nanosleep(&nap, NULL);
        kill(getpid(), SIGSTOP);
        nanosleep(&nap, NULL);
        return GO;
    }
    if (plan.deed == KILL)
        die();
    if (plan.deed == STOP)
        kill(getpid(), plan.error ? plan.error
                       : n < plan.at + 2 ? SIGTERM : SIGHUP);
    if (plan.deed == FAIL)
        errno = plan.error;
    return plan.deed == STOP ? GO : plan.deed;
}

/* ---- calls that move bytes -------------------------------------------- */

#define NEXT(name)                                                             \
    do {                                                                       \
        if (!next)                                                             \
            *(void **)&next = dlsym(RTLD_NEXT, #name);                         \
    } while (0)

#define TRANSFER(class, name, parameters, arguments)                           \
    ssize_t name parameters;                                                   \
    ssize_t name parameters                                                    \
    {                                                                          \
        static ssize_t(*next) parameters;                                      \
        enum deed deed = deed_of(class);                                       \
        ssize_t done;                                                          \
                                                                               \
        if (deed == FAIL)                                                      \
            return -1;                                                         \
        NEXT(name);                                                            \
        if (deed != GO && n > 1)                                               \
            n /= 2;                                                            \
        done = next arguments;                                                 \
        if (deed == TEAR)                                                      \
            die();                                                             \
        return done;                                                           \
    }

TRANSFER('w', write, (int fd, const void *p, size_t n), (fd, p, n))
TRANSFER('w', pwrite, (int fd, const void *p, size_t n, off_t at),
         (fd, p, n, at))
TRANSFER('w', pwrite64, (int fd, const void *p, size_t n, off_t at),
         (fd, p, n, at))
TRANSFER('r', read, (int fd, void *p, size_t n), (fd, p, n))
TRANSFER('r', pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
TRANSFER('r', pread64, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
TRANSFER('c', send, (int fd, const void *p, size_t n, int flags),
         (fd, p, n, flags))
TRANSFER('c', recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))

/* ---- calls that happen or not ----------------------------------------- */

#define CALL(class, name, parameters, arguments)                               \
    int name parameters;                                                       \
    int name parameters                                                        \
    {                                                                          \
        static int(*next) parameters;                                          \
        enum deed deed = deed_of(class);                                       \
        int result;                                                            \
                                                                               \
        if (deed == FAIL)                                                      \
            return -1;                                                         \
        NEXT(name);                                                            \
        result = next arguments;                                               \
        if (deed == TEAR)                                                      \
            die();                                                             \
        return result;                                                         \
    }

CALL('s', fsync, (int fd), (fd))
CALL('s', fdatasync, (int fd), (fd))
CALL('n', ftruncate, (int fd, off_t n), (fd, n))
CALL('n', ftruncate64, (int fd, off_t n), (fd, n))
CALL('n', rename, (const char *from, const char *to), (from, to))
CALL('n', unlink, (const char *path), (path))
CALL('n', mkdir, (const char *path, mode_t mode), (path, mode))
CALL('n', mkstemp, (char *path), (path))
CALL('n', flock, (int fd, int how), (fd, how))
CALL('n', unlinkat, (int folder, const char *path, int flags),
     (folder, path, flags))
CALL('n', fchmod, (int fd, mode_t mode), (fd, mode))
CALL('n', dup, (int fd), (fd))
CALL('i', stat, (const char *path, struct stat *st), (path, st))
CALL('i', stat64, (const char *path, struct stat64 *st), (path, st))
CALL('i', lstat, (const char *path, struct stat *st), (path, st))
CALL('i', lstat64, (const char *path, struct stat64 *st), (path, st))
CALL('i', fstat, (int fd, struct stat *st), (fd, st))
CALL('i', fstat64, (int fd, struct stat64 *st), (fd, st))
CALL('i', fstatat, (int folder, const char *path, struct stat *st, int flags),
     (folder, path, st, flags))
CALL('i', access, (const char *path, int how), (path, how))
CALL('e', epoll_create1, (int flags), (flags))
CALL('e', epoll_ctl, (int fd, int op, int of, struct epoll_event *e),
     (fd, op, of, e))
CALL('e', eventfd, (unsigned count, int flags), (count, flags))
CALL('e', pipe, (int ends[2]), (ends))
CALL('e', pipe2, (int ends[2], int flags), (ends, flags))
CALL('e', socketpair, (int domain, int type, int protocol, int ends[2]),
     (domain, type, protocol, ends))
CALL('c', socket, (int domain, int type, int protocol),
     (domain, type, protocol))
CALL('c', connect, (int fd, __CONST_SOCKADDR_ARG to, socklen_t n), (fd, to, n))

/* A name of this machine that libcurl looks up like any other: localhost it
 * knows by itself. */
static const char *host_of(const char *name)
{
    return name && strcmp(name, "torture.test") == 0 ? "127.0.0.1" : name;
}

CALL('l', getaddrinfo, (const char *host, const char *service,
     const struct addrinfo *hints, struct addrinfo **out),
     (host_of(host), service, hints, out))

/* The same with another word for failure, and what else tells of it. */
#define OTHER(class, type, failure, name, parameters, arguments)               \
    type name parameters;                                                      \
    type name parameters                                                       \
    {                                                                          \
        static type(*next) parameters;                                         \
        enum deed deed = deed_of(class);                                       \
        type result;                                                           \
                                                                               \
        if (deed == FAIL)                                                      \
            return failure;                                                    \
        NEXT(name);                                                            \
        result = next arguments;                                               \
        if (deed == TEAR)                                                      \
            die();                                                             \
        return result;                                                         \
    }

OTHER('n', int, plan.error, posix_fallocate, (int fd, off_t at, off_t n),
      (fd, at, n))
OTHER('e', int, plan.error, posix_spawn,
      (pid_t *child, const char *path, const posix_spawn_file_actions_t *files,
       const posix_spawnattr_t *attr, char *const *argv, char *const *env),
      (child, path, files, attr, argv, env))
OTHER('n', FILE *, NULL, fopen, (const char *path, const char *how),
      (path, how))
OTHER('n', DIR *, NULL, opendir, (const char *path), (path))
OTHER('n', DIR *, NULL, fdopendir, (int fd), (fd))
OTHER('i', struct dirent *, NULL, readdir, (DIR *folder), (folder))
OTHER('i', char *, NULL, realpath, (const char *path, char *out), (path, out))
/* What realpath() is in a fortified build. */
OTHER('i', char *, NULL, __realpath_chk,
      (const char *path, char *out, size_t n), (path, out, n))
OTHER('i', ssize_t, -1, readlink, (const char *path, char *out, size_t n),
      (path, out, n))
OTHER('r', size_t, (f->_flags |= _IO_ERR_SEEN, 0), fread,
      (void *p, size_t size, size_t n, FILE *f), (p, size, n, f))

#define CONTROL(name)                                                          \
    int name(int fd, int what, ...);                                           \
    int name(int fd, int what, ...)                                            \
    {                                                                          \
        static int (*next)(int fd, int what, ...);                             \
        enum deed deed = deed_of('i');                                         \
        void *more;                                                            \
        va_list ap;                                                            \
        int result;                                                            \
                                                                               \
        if (deed == FAIL)                                                      \
            return -1;                                                         \
        NEXT(name);                                                            \
        va_start(ap, what);                                                    \
        more = va_arg(ap, void *); /* or an int in the same place */           \
        va_end(ap);                                                            \
        result = next(fd, what, more);                                         \
        if (deed == TEAR)                                                      \
            die();                                                             \
        return result;                                                         \
    }

CONTROL(fcntl)
CONTROL(fcntl64)

/* The descriptor is gone also when close() fails. */
int close(int fd)
{
    static int (*next)(int);
    enum deed deed = deed_of('n');
    int result;

    NEXT(close);
    result = next(fd);
    if (deed == TEAR)
        die();
    if (deed == FAIL) {
        errno = plan.error;
        return -1;
    }
    return result;
}

#define OPEN(name, parameters, ...)                                            \
    int name parameters;                                                       \
    int name parameters                                                        \
    {                                                                          \
        static int (*next)parameters;                                          \
        enum deed deed = deed_of('n');                                         \
        mode_t mode;                                                           \
        va_list ap;                                                            \
        int fd;                                                                \
                                                                               \
        if (deed == FAIL)                                                      \
            return -1;                                                         \
        NEXT(name);                                                            \
        va_start(ap, flags);                                                   \
        mode = flags & O_CREAT ? (mode_t)va_arg(ap, int) : 0;                  \
        va_end(ap);                                                            \
        fd = next(__VA_ARGS__, flags, mode);                                   \
        if (deed == TEAR)                                                      \
            die();                                                             \
        return fd;                                                             \
    }

OPEN(open, (const char *path, int flags, ...), path)
OPEN(open64, (const char *path, int flags, ...), path)
OPEN(openat, (int folder, const char *path, int flags, ...), folder, path)

/* ---- memory ----------------------------------------------------------- */

/* dlsym() allocates, so it cannot be what finds the next malloc(). A module
 * that comes behind the sanitizer's runtime is never asked. */
#if defined __SANITIZE_ADDRESS__ || defined FAULT_BESIDE_TSAN /* tests.cmake */
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#endif
extern void *REAL(malloc)(size_t);
extern void *REAL(calloc)(size_t, size_t);
extern void *REAL(realloc)(void *, size_t);

static bool refused(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;

    if (!plan.classes[0] || !strchr(plan.classes, 'm'))
        return false;
    for (int i = 0; i < range_count; i++)
        if (at >= ranges[i].from && at < ranges[i].to)
            return deed_of('m') == FAIL;
    return false;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t n)
{
    return refused(CALLER) ? NULL : REAL(malloc)(n);
}

void *calloc(size_t count, size_t n)
{
    return refused(CALLER) ? NULL : REAL(calloc)(count, n);
}

void *realloc(void *p, size_t n)
{
    return refused(CALLER) ? NULL : REAL(realloc)(p, n);
}

char *strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = refused(CALLER) ? NULL : REAL(malloc)(n);

    return copy ? memcpy(copy, text, n) : NULL;
}

/* ---- as a module ------------------------------------------------------ */

static void on_storm(int sig)
{
    (void)sig;
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("TROMMEL_FAULT");
    const char *storm = getenv("TROMMEL_FAULT_STORM");

    if (text && fault_arm(text) != 0) {
        static const char words[] = "TROMMEL_FAULT: not a plan\n";

        (void)!write(2, words, sizeof words - 1);
        _exit(99);
    }
    if (storm) {
        struct sigaction act = {.sa_handler = on_storm}; /* no SA_RESTART */
        struct itimerval every = {{0, atol(storm)}, {0, atol(storm)}};

        sigaction(SIGALRM, &act, NULL);
        setitimer(ITIMER_REAL, &every, NULL);
    }
}

static void write_count(void)
{
    const char *path = getenv("TROMMEL_FAULT_COUNT");
    FILE *f = path ? fopen(path, "w") : NULL;

    if (f) {
        fprintf(f, "%ld\n", (long)calls);
        fclose(f);
    }
}

__attribute__((destructor)) static void end(void)
{
    plan.classes[0] = '\0';
    write_count();
}
