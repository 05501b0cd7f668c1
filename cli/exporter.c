/* exporter.c - serves a run's numbers over HTTP: /metrics, /status.json.
 *
 * Read only, at most CONNECTIONS of them, each idle for a few seconds at
 * most.
 *
 * SPDX-License-Identifier: MIT */
#include "exporter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    CONNECTIONS = 16,
    IDLE_S = 5,
    CONNECTION_BYTES = 16 << 10,
    SNAPSHOT_MS = 500
};

enum { METRICS, STATUS, PAGES };

static const struct {
    const char *path, *type;
} pages[PAGES] = {
    [METRICS] = {"/metrics", "text/plain; version=0.0.4; charset=utf-8"},
    [STATUS] = {"/status.json", "application/json"},
};

struct exporter {
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    char *text[PAGES];    /* the snapshot; under lock */
    size_t n[PAGES];
    long long taken_ms;   /* monotonic; 0: never */
    bool is_public;
    char url[100];
};

/* ---- serving (libmicrohttpd's thread) --------------------------------- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned code,
                              const char *type, const char *text, size_t n)
{
    /* Copied: libmicrohttpd does not change it, whatever the type says. */
    struct MHD_Response *r = MHD_create_response_from_buffer(
        n, (void *)(size_t)text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result;

    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (code == 405)
        MHD_add_response_header(r, "Allow", "GET, HEAD");
    result = MHD_queue_response(connection, code, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned code,
                           const char *text)
{
    return answer(connection, code, "text/plain; charset=utf-8", text,
                  strlen(text));
}

static enum MHD_Result on_request(void *closure,
                                  struct MHD_Connection *connection,
                                  const char *path, const char *method,
                                  const char *version, const char *data,
                                  size_t *data_n, void **slot)
{
    static int seen; /* only its address is used */
    struct exporter *e = closure;
    enum MHD_Result result = MHD_NO;

    (void)version;
    (void)data;
    if (strcmp(method, "GET") && strcmp(method, "HEAD")) {
        if (*data_n) { /* thrown away */
            *data_n = 0;
            return MHD_YES;
        }
        return say(connection, 405, "only GET and HEAD\n");
    }
    if (!*slot) { /* the header is there, the request not complete yet */
        *slot = &seen;
        return MHD_YES;
    }
    *data_n = 0;
    for (int i = 0; i < PAGES; i++) {
        if (strcmp(path, pages[i].path))
            continue;
        pthread_mutex_lock(&e->lock);
        result = e->text[i] ? answer(connection, 200, pages[i].type,
                                     e->text[i], e->n[i])
                            : say(connection, 503, "the run is opening\n");
        pthread_mutex_unlock(&e->lock);
        return result;
    }
    return say(connection, 404, "there are /metrics and /status.json\n");
}

/* ---- snapshots (the run's thread) ------------------------------------- */

static long long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void renew(struct exporter *e, int page, const char *text)
{
    size_t n = strlen(text);
    char *copy = malloc(n + 1), *old;

    if (!copy)
        return; /* the snapshot before stays */
    memcpy(copy, text, n + 1);
    pthread_mutex_lock(&e->lock);
    old = e->text[page];
    e->text[page] = copy;
    e->n[page] = n;
    pthread_mutex_unlock(&e->lock);
    free(old);
}

void exporter_tick(struct exporter *e, trommel_run *run, bool now_please)
{
    long long now = now_ms();

    if (!now_please && e->taken_ms && now - e->taken_ms < SNAPSHOT_MS)
        return;
    e->taken_ms = now;
    renew(e, METRICS, trommel_run_metrics(run));
    renew(e, STATUS, trommel_run_stats_json(run));
}

/* ---- open and close --------------------------------------------------- */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* "ADDR:PORT": false when it is none. */
static bool read_address(const char *where, union address *a, bool *public)
{
    const char *colon = strrchr(where, ':');
    char host[64] = "127.0.0.1", *end;
    size_t n = colon ? (size_t)(colon - where) : 0;
    long port;

    if (!colon || colon[1] < '0' || colon[1] > '9' || n >= sizeof host)
        return false;
    port = strtol(colon + 1, &end, 10);
    if (*end || port < 0 || port > 65535)
        return false;
    if (n) {
        bool bracket = where[0] == '[' && where[n - 1] == ']';

        snprintf(host, sizeof host, "%.*s", (int)(bracket ? n - 2 : n),
                 bracket ? where + 1 : where);
        if (strcmp(host, "localhost") == 0)
            snprintf(host, sizeof host, "127.0.0.1");
    }
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons((uint16_t)port);
        *public = ntohl(a->v4.sin_addr.s_addr) >> 24 != 127;
        return true;
    }
    if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons((uint16_t)port);
        *public = !IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr);
        return true;
    }
    return false;
}

/* Signals are the business of the main thread: the new one takes none. */
static struct MHD_Daemon *start(struct exporter *e, const union address *a)
{
    sigset_t all, before;
    struct MHD_Daemon *daemon;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    daemon = MHD_start_daemon(
        MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD |
            (a->any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0),
        0, NULL, NULL, on_request, e, MHD_OPTION_SOCK_ADDR, &a->any,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

/* What a server could not have, and what to do. */
static int why_not(int errnum, const char *where, char *why, size_t why_n)
{
    static const struct {
        int errnum, code;
        const char *words;
    } list[] = {
        {EADDRINUSE, TROMMEL_ECONFIG, "it is in use; port 0 takes any free one"},
        {EADDRNOTAVAIL, TROMMEL_ECONFIG, "it is no address of this machine; "
         ":PORT listens on loopback"},
        {EACCES, TROMMEL_ECONFIG, "you may not; ports from 1024 on are free to "
         "all"},
        {EAGAIN, TROMMEL_ENOMEM, "there is no thread for it; raise the limit of "
         "processes (ulimit -u)"},
        {ENOMEM, TROMMEL_ENOMEM, "out of memory; raise the limit (ulimit -v)"},
        {EMFILE, TROMMEL_ECONFIG, "too many open files; raise the limit "
         "(ulimit -n)"},
    };
    const char *words = "is it in use? port 0 takes any free one";
    int code = TROMMEL_ECONFIG;

    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        if (list[i].errnum == errnum) {
            words = list[i].words;
            code = list[i].code;
        }
    }
    snprintf(why, why_n, "--metrics %s cannot be listened on: %s", where, words);
    return code;
}

int exporter_open(struct exporter **out, const char *where, char *why,
                  size_t why_n)
{
    struct exporter *e = calloc(1, sizeof *e);
    const union MHD_DaemonInfo *info = NULL;
    const char *colon = strrchr(where, ':');
    union address a;
    bool bare; /* an IPv6 address, which stands in brackets in a URL */
    int error;

    *out = NULL;
    if (!e || pthread_mutex_init(&e->lock, NULL)) {
        free(e);
        snprintf(why, why_n, "out of memory");
        return TROMMEL_ENOMEM;
    }
    if (!read_address(where, &a, &e->is_public)) {
        exporter_close(e);
        snprintf(why, why_n, "--metrics %s: an address and a port are wanted, "
                 "such as :9464 or 127.0.0.1:9464", where);
        return TROMMEL_EUSAGE;
    }
    errno = 0;
    e->daemon = start(e, &a);
    error = errno;
    if (e->daemon)
        info = MHD_get_daemon_info(e->daemon, MHD_DAEMON_INFO_BIND_PORT);
    if (!info) {
        exporter_close(e);
        return why_not(error, where, why, why_n);
    }
    bare = a.any.sa_family == AF_INET6 && where[0] != '[';
    snprintf(e->url, sizeof e->url, "http://%s%.*s%s:%u/metrics",
             bare ? "[" : "", colon == where ? 9 : (int)(colon - where),
             colon == where ? "127.0.0.1" : where, bare ? "]" : "",
             (unsigned)info->port);
    *out = e;
    return 0;
}

const char *exporter_url(const struct exporter *e)
{
    return e->url;
}

bool exporter_is_public(const struct exporter *e)
{
    return e->is_public;
}

void exporter_close(struct exporter *e)
{
    if (!e)
        return;
    if (e->daemon)
        MHD_stop_daemon(e->daemon);
    pthread_mutex_destroy(&e->lock);
    for (int i = 0; i < PAGES; i++)
        free(e->text[i]);
    free(e);
}
