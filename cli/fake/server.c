/* server.c - libmicrohttpd in a loop of our own: requests that wait are
 * suspended and lie in a heap by the time they are due.
 *
 * One thread does everything, so that nothing needs a lock and a bill is
 * always whole. A suspended connection is not watched by libmicrohttpd: that
 * a client gave up on a request that hangs is found by looking now and then.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* ppoll */
#include "fake/server.h"

#include "fake/batches.h"

#include "base/clock.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define LOOK_NS (250 * TR_MS)         /* between looks at a hung client */
#define BODY_BYTES_MAX (256u << 20)   /* a file of a batch */
#define BODY_KEPT_MAX (256u << 10)    /* larger buffers are not kept */
#define PADDING 8                     /* room behind a body, for the parser */

enum state { READING, WAITING, READY };

/* One HTTP request; kept for the next one when it is over. */
struct exchange {
    struct fake_server *server;
    struct MHD_Connection *connection;
    struct tr_buf body;
    struct fake_reply reply;
    enum state state;
    const struct fake_dialect *dialect; /* of a request that is counted as in
                                           flight; NULL: a page */
    char model[96];     /* named in its path */
    int64_t due_ns;
    size_t sent;        /* FAKE_SEND_HALF: bytes given out */
    struct exchange *next; /* free list */
};

struct fake_server {
    struct fake_provider *provider;
    struct fake_batches batches;
    struct MHD_Daemon *daemon;
    struct exchange **heap; /* WAITING ones, the next due first; owned */
    size_t heap_n, heap_cap;
    struct exchange *free;
    uint64_t finished;      /* chat requests that are over */
    bool is_closing;
    int port;
};

static int64_t wall_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* ---- heap ------------------------------------------------------------- */

static bool heap_push(struct fake_server *s, struct exchange *x)
{
    size_t i = s->heap_n, up;

    if (s->heap_n == s->heap_cap) {
        size_t cap = s->heap_cap ? s->heap_cap * 2 : 256;
        struct exchange **heap = tr_resize(s->heap, cap * sizeof(void *));

        if (!heap)
            return false;
        s->heap = heap;
        s->heap_cap = cap;
    }
    for (s->heap_n++; i && s->heap[up = (i - 1) / 2]->due_ns > x->due_ns; i = up)
        s->heap[i] = s->heap[up];
    s->heap[i] = x;
    return true;
}

static struct exchange *heap_pop(struct fake_server *s)
{
    struct exchange *top = s->heap[0], *last = s->heap[--s->heap_n];
    size_t i = 0, down;

    while ((down = 2 * i + 1) < s->heap_n) {
        if (down + 1 < s->heap_n &&
            s->heap[down + 1]->due_ns < s->heap[down]->due_ns)
            down++;
        if (s->heap[down]->due_ns >= last->due_ns)
            break;
        s->heap[i] = s->heap[down];
        i = down;
    }
    s->heap[i] = last;
    return top;
}

/* ---- exchanges -------------------------------------------------------- */

static void buf_keep(struct tr_buf *b)
{
    if (b->cap > BODY_KEPT_MAX)
        tr_buf_release(b);
    else
        tr_buf_clear(b);
}

static struct exchange *exchange_new(struct fake_server *s)
{
    struct exchange *x = s->free;

    if (x) {
        s->free = x->next;
    } else {
        x = tr_alloc(sizeof *x);
        if (!x)
            return NULL;
        tr_buf_init(&x->body, BODY_BYTES_MAX);
        tr_buf_init(&x->reply.body, 0);
        x->server = s;
    }
    x->state = READING;
    x->dialect = NULL;
    x->sent = 0;
    return x;
}

static void exchange_over(struct exchange *x)
{
    struct fake_server *s = x->server;

    if (x->dialect) {
        s->provider->bill.in_flight--;
        s->finished++;
    }
    buf_keep(&x->body);
    buf_keep(&x->reply.body);
    x->next = s->free;
    s->free = x;
}

static void on_over(void *closure, struct MHD_Connection *connection,
                    void **slot, enum MHD_RequestTerminationCode why)
{
    (void)closure;
    (void)connection;
    (void)why;
    if (*slot)
        exchange_over(*slot);
    *slot = NULL;
}

/* ---- sending ---------------------------------------------------------- */

static void add_wait(struct MHD_Response *response, const char *name, int64_t ns)
{
    char text[48];

    fake_duration(text, sizeof text, ns);
    MHD_add_response_header(response, name, text);
}

static void add_count(struct MHD_Response *response, const char *name,
                      int64_t n)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)n);
    MHD_add_response_header(response, name, text);
}

static void add_retry(struct MHD_Response *response, enum fake_retry form,
                      int64_t wait_ns)
{
    char text[64];
    struct tm tm;
    time_t at;

    switch (form) {
    case FAKE_RETRY_SECONDS:
        add_count(response, "retry-after", (wait_ns + TR_S - 1) / TR_S);
        break;
    case FAKE_RETRY_MS:
        add_count(response, "retry-after-ms", (wait_ns + TR_MS - 1) / TR_MS);
        break;
    case FAKE_RETRY_DATE:
        /* Up to the next second: a date is never too early. */
        at = (time_t)((wall_ms() + wait_ns / TR_MS + 999) / 1000);
        if (gmtime_r(&at, &tm) && strftime(text, sizeof text,
                                           "%a, %d %b %Y %H:%M:%S GMT", &tm))
            MHD_add_response_header(response, "retry-after", text);
        break;
    case FAKE_RETRY_NONE:
        break;
    }
}

/* A limit in three headers, as text or as a point in time. */
static void add_limit(struct MHD_Response *response, const char *prefix,
                      const char *kind, const struct fake_limit_view *v,
                      enum fake_limit_style style)
{
    bool is_date = style == FAKE_LIMITS_ANTHROPIC;
    const char *const names[] = {"limit", "remaining", "reset"};
    char name[3][80], text[40];
    struct tm tm;
    time_t at;

    for (int i = 0; i < 3; i++)
        snprintf(name[i], sizeof name[i], "%s-%s-%s", prefix,
                 is_date ? kind : names[i], is_date ? names[i] : kind);
    add_count(response, name[1], v->remaining);
    if (style == FAKE_LIMITS_REMAINING)
        return;
    add_count(response, name[0], v->limit);
    if (!is_date) {
        add_wait(response, name[2], v->reset_ns);
        return;
    }
    at = (time_t)((wall_ms() + v->reset_ns / TR_MS + 999) / 1000);
    if (gmtime_r(&at, &tm) &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        MHD_add_response_header(response, name[2], text);
}

static void add_headers(struct MHD_Response *response,
                        const struct fake_server *s,
                        const struct fake_reply *reply)
{
    const struct fake_dialect *d = reply->dialect;
    enum fake_limit_style style = d ? d->limits : FAKE_LIMITS_NONE;
    bool is_anthropic = style == FAKE_LIMITS_ANTHROPIC;
    const char *prefix = is_anthropic ? "anthropic-ratelimit" : "x-ratelimit";
    char id[48];

    MHD_add_response_header(response, "content-type",
                            reply->is_html ? "text/html" : "application/json");
    snprintf(id, sizeof id, "req_fake%llu", (unsigned long long)reply->number);
    if (!d || d->id_header)
        MHD_add_response_header(response, d ? d->id_header : "x-request-id",
                                id);
    if (style == FAKE_LIMITS_NONE)
        return;
    if (reply->has_requests)
        add_limit(response, prefix, "requests", &reply->requests, style);
    if (reply->has_tokens) {
        add_limit(response, prefix, "tokens", &reply->tokens, style);
        if (is_anthropic)
            add_limit(response, prefix, "input-tokens", &reply->tokens, style);
    }
    if (reply->retry_ns >= 0)
        add_retry(response, s->provider->options->retry_after, reply->retry_ns);
}

/* Gives out half of the body; then the connection breaks. */
static ssize_t half_of_body(void *closure, uint64_t at, char *out, size_t max)
{
    struct exchange *x = closure;
    size_t half = x->reply.body.n / 2, n;

    if (at >= half)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    n = half - (size_t)at < max ? half - (size_t)at : max;
    memcpy(out, x->reply.body.p + at, n);
    return (ssize_t)n;
}

static enum MHD_Result send_reply(struct exchange *x)
{
    struct fake_server *s = x->server;
    struct fake_reply *reply = &x->reply;
    struct MHD_Response *response;
    enum MHD_Result result;

    if (s->is_closing || reply->manner == FAKE_CLOSE ||
        reply->manner == FAKE_SILENT || !tr_buf_ok(&reply->body))
        return MHD_NO;
    if (reply->manner == FAKE_SEND_HALF) {
        response = MHD_create_response_from_callback(reply->body.n, 4096,
                                                     half_of_body, x, NULL);
    } else {
        /* The body lives in x until on_over(). */
        response = MHD_create_response_from_buffer(
            reply->body.n, reply->body.p, MHD_RESPMEM_PERSISTENT);
    }
    if (!response)
        return MHD_NO;
    add_headers(response, s, reply);
    result = MHD_queue_response(x->connection, (unsigned)reply->status,
                                response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_page(struct exchange *x, int status)
{
    x->reply.dialect = NULL;
    x->reply.status = status;
    x->reply.manner = FAKE_SEND;
    x->reply.is_html = x->reply.has_requests = x->reply.has_tokens = false;
    x->reply.retry_ns = -1;
    x->reply.number = 0;
    return send_reply(x);
}

/* ---- pages ------------------------------------------------------------ */

static enum MHD_Result page_bill(struct exchange *x)
{
    struct fake_provider *p = x->server->provider;
    const char *reset = MHD_lookup_connection_value(
        x->connection, MHD_GET_ARGUMENT_KIND, "reset");

    fake_bill_write(&x->reply.body, &p->bill);
    if (reset && !strcmp(reset, "1"))
        fake_provider_reset(p);
    return send_page(x, 200);
}

static enum MHD_Result page_models(struct exchange *x)
{
    tr_buf_addz(&x->reply.body,
                "{\"object\":\"list\",\"data\":[{\"id\":\"fake\",\"object\":"
                "\"model\",\"created\":1,\"owned_by\":\"trommel\"}]}\n");
    return send_page(x, 200);
}

static enum MHD_Result page_ask(struct exchange *x)
{
    struct fake_server *s = x->server;
    const struct fake_dialect *d = x->dialect;
    int64_t now_ns = tr_clock_mono_ns();
    struct fake_ask ask = {.dialect = d, .model = x->model};

    ask.key = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND,
                                          d->key_header);
    if (d->must_header &&
        !MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND,
                                     d->must_header))
        ask.lacks_header = "a header that every request needs is missing";
    if (!tr_buf_room(&x->body, PADDING))
        return MHD_NO;
    ask.body = x->body.p;
    ask.n = x->body.n;
    fake_provider_ask(s->provider, &x->reply, &ask, now_ns, wall_ms());
    if (x->reply.manner == FAKE_SILENT)
        x->reply.delay_ns = LOOK_NS;
    if (x->reply.delay_ns <= 0)
        return send_reply(x);
    x->due_ns = now_ns + x->reply.delay_ns;
    x->state = WAITING;
    if (!heap_push(s, x))
        return MHD_NO;
    MHD_suspend_connection(x->connection);
    return MHD_YES;
}

static const char *value_of(struct exchange *x, enum MHD_ValueKind kind,
                            const char *name)
{
    return MHD_lookup_connection_value(x->connection, kind, name);
}

static enum MHD_Result page_batches(struct exchange *x, const char *path,
                                    const char *method)
{
    const struct fake_dialect *dialect = fake_batches_at(path);
    struct fake_batch_ask ask = {
        .dialect = dialect, .method = method, .path = path,
        .type = value_of(x, MHD_HEADER_KIND, "content-type"),
        .after = value_of(x, MHD_GET_ARGUMENT_KIND, "after"),
        .host = value_of(x, MHD_HEADER_KIND, "host"),
        .key = value_of(x, MHD_HEADER_KIND, dialect->key_header),
        .body = tr_buf_str(&x->body),
    };

    if (!ask.after)
        ask.after = value_of(x, MHD_GET_ARGUMENT_KIND, "after_id");
    fake_batches_serve(&x->server->batches, &x->reply, &ask,
                       tr_clock_mono_ns(), wall_ms());
    x->reply.dialect = NULL;
    return send_reply(x);
}

static const struct page {
    const char *method, *path;
    enum MHD_Result (*serve)(struct exchange *x);
} pages[] = {
    {"GET", "/v1/models", page_models},
    {"GET", "/bill", page_bill},
};

static enum MHD_Result page_none(struct exchange *x)
{
    struct fake_error e = {.type = "invalid_request_error",
                           .code = "unknown_url"};
    struct tr_buf message = {0};

    tr_buf_addz(&message, "Unknown request URL. There are POST ");
    fake_dialect_paths(&message);
    tr_buf_addz(&message, ", GET /v1/models and GET /bill.");
    e.message = message.p;
    fake_refuse_openai(&x->reply.body, &e, -1);
    tr_buf_release(&message);
    return send_page(x, 404);
}

static enum MHD_Result serve_page(struct exchange *x, const char *path,
                                  const char *method)
{
    tr_buf_clear(&x->reply.body);
    if (x->dialect)
        return page_ask(x);
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (!strcmp(path, pages[i].path) && !strcmp(method, pages[i].method))
            return pages[i].serve(x);
    if (fake_batches_at(path))
        return page_batches(x, path, method);
    return page_none(x);
}

/* Called when the header is there, for every piece of the body, at its end,
 * and again after a wait. */
static enum MHD_Result on_request(void *closure,
                                  struct MHD_Connection *connection,
                                  const char *path, const char *method,
                                  const char *version, const char *data,
                                  size_t *data_n, void **slot)
{
    struct fake_server *s = closure;
    struct exchange *x = *slot;

    (void)version;
    if (!x) {
        x = *slot = exchange_new(s);
        if (!x)
            return MHD_NO;
        x->connection = connection;
        if (!strcmp(method, "POST"))
            x->dialect = fake_dialect_at(path, x->model, sizeof x->model);
        if (x->dialect) {
            struct fake_bill *b = &s->provider->bill;

            if (++b->in_flight > b->in_flight_max)
                b->in_flight_max = b->in_flight;
        }
        return MHD_YES;
    }
    if (*data_n) {
        tr_buf_add(&x->body, data, *data_n);
        *data_n = 0;
        return tr_buf_ok(&x->body) ? MHD_YES : MHD_NO;
    }
    if (x->state == READY)
        return send_reply(x);
    return serve_page(x, path, method);
}

/* ---- the loop --------------------------------------------------------- */

static bool has_left(struct exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;

    return info && recv(info->connect_fd, &byte, 1,
                        MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void resume(struct exchange *x)
{
    x->state = READY;
    MHD_resume_connection(x->connection);
}

static bool resume_due(struct fake_server *s, int64_t now_ns)
{
    bool is_any = false;

    while (s->heap_n && s->heap[0]->due_ns <= now_ns) {
        struct exchange *x = heap_pop(s);

        if (x->reply.manner == FAKE_SILENT && !has_left(x)) {
            x->due_ns = now_ns + LOOK_NS;
            heap_push(s, x); /* has room: one was just taken */
        } else {
            resume(x);
            is_any = true;
        }
    }
    return is_any;
}

static int64_t sleep_ns(const struct fake_server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    int64_t ns = TR_S;

    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES && (int64_t)ms * TR_MS < ns)
        ns = (int64_t)ms * TR_MS;
    if (s->heap_n && ns > 0) {
        int64_t due_ns = s->heap[0]->due_ns - tr_clock_mono_ns();

        ns = due_ns < ns ? due_ns : ns;
    }
    return ns > 0 ? ns : 0;
}

static bool has_served_all(const struct fake_server *s)
{
    int64_t max = s->provider->options->max_requests;

    return max && s->finished >= (uint64_t)max;
}

void fake_server_run(struct fake_server *s, const volatile sig_atomic_t *stop,
                     const sigset_t *unblocked)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd fd = {.fd = info->epoll_fd, .events = POLLIN};

    /* The kernel's 50 us of slack would answer in bunches, which no provider
     * does and which costs the client its even pace. */
    prctl(PR_SET_TIMERSLACK, 1000UL);
    while (!*stop && !has_served_all(s)) {
        int64_t ns = sleep_ns(s);
        struct timespec wait = {ns / TR_S, ns % TR_S};

        ppoll(&fd, 1, &wait, unblocked);
        MHD_run(s->daemon);
        /* A resumed connection does not wake the poll: run it now. */
        if (s->heap_n && resume_due(s, tr_clock_mono_ns()))
            MHD_run(s->daemon);
    }
}

int fake_server_port(const struct fake_server *s)
{
    return s->port;
}

/* Thousands of clients at once: as many files as we may have. */
static unsigned raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 512;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > 65536 ? 65536 : (unsigned)limit.rlim_cur - 64;
}

int fake_server_open(struct fake_server **out, struct fake_provider *provider,
                     struct tr_err *err)
{
    struct fake_server *s = tr_alloc(sizeof *s);
    const union MHD_DaemonInfo *info;
    struct sockaddr_in at = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)provider->options->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = TR_OK;

    *out = NULL;
    if (!s)
        return tr_fail(err, TR_NOMEM, "out of memory");
    s->provider = provider;
    fake_batches_init(&s->batches, provider);
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO, 0, NULL, NULL,
        on_request, s, MHD_OPTION_SOCK_ADDR, &at,
        MHD_OPTION_NOTIFY_COMPLETED, on_over, s,
        MHD_OPTION_CONNECTION_LIMIT, raise_files(),
        MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096u, MHD_OPTION_END);
    info = s->daemon
               ? MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT)
               : NULL;
    if (!info) {
        rc = tr_fail(err, TR_UNAVAILABLE,
                     "port %d of 127.0.0.1 cannot be listened on; is it in "
                     "use? --port 0 takes any free one",
                     (int)provider->options->port);
        goto out;
    }
    s->port = info->port;
    *out = s;
    s = NULL;
out:
    fake_server_close(s);
    return rc;
}

void fake_server_close(struct fake_server *s)
{
    struct exchange *x;

    if (!s)
        return;
    s->is_closing = true;
    /* libmicrohttpd insists that nothing is suspended when it stops. */
    while (s->heap_n)
        resume(heap_pop(s));
    if (s->daemon) {
        MHD_run(s->daemon);
        MHD_run(s->daemon);
        MHD_stop_daemon(s->daemon);
    }
    while ((x = s->free) != NULL) {
        s->free = x->next;
        tr_buf_release(&x->body);
        tr_buf_release(&x->reply.body);
        tr_free(x);
    }
    fake_batches_release(&s->batches);
    tr_free(s->heap);
    tr_free(s);
}
