/* trace.c - one JSON line for each request that ended.
 *
 *   {"name":"chat gpt-6-luna","trace_id":"...","span_id":"...",
 *    "start_time_unix_nano":...,"end_time_unix_nano":...,
 *    "attributes":{"gen_ai.operation.name":"chat",...}}
 *
 * SPDX-License-Identifier: MIT */
#include "watch/trace.h"

#include "base/digest.h"
#include "base/mem.h"
#include "base/pipe.h"
#include "plan/tally.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINES_MAX = 256 << 10, LINES_FULL = 32 << 10 };

/* Providers that the conventions name otherwise than we do. */
static const struct {
    const char *ours, *theirs;
} names[] = {{"azure", "azure.ai.openai"},
             {"gemini", "gcp.gemini"},
             {"mistral", "mistral_ai"},
             {"xai", "x_ai"}};

/* ---- file ------------------------------------------------------------- */

/* The line that a killed run could not end is ended now. */
static bool ends_in_the_middle(int fd)
{
    struct stat st;
    char last = '\n';

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
           pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
}

int tr_trace_open(struct tr_trace *t, const char *path,
                  void (*say)(void *ctx, int level, const char *line),
                  void *ctx, struct tr_err *err)
{
    struct tr_key id;
    struct stat st;
    int flags = O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

    *t = (struct tr_trace){.fd = -1, .say = say, .ctx = ctx};
    tr_buf_init(&t->lines, LINES_MAX);
    if (!path)
        return TR_OK;
    /* A pipe is only written: whoever reads it must be there already. */
    flags |= stat(path, &st) == 0 && !S_ISREG(st.st_mode) ? O_WRONLY : O_RDWR;
    t->path = tr_dup(path, strlen(path));
    if (!t->path)
        return tr_fail(err, TR_NOMEM, "out of memory");
    t->fd = open(path, flags, 0600);
    if (t->fd < 0)
        return tr_fail(err, TR_CANTCREATE, "--trace %s: %s", path,
                       strerror(errno));
    if (ends_in_the_middle(t->fd))
        tr_buf_addc(&t->lines, '\n');
    tr_random_fill(&id, sizeof id);
    tr_key_hex(&id, sizeof id, t->trace_id);
    return TR_OK;
}

static void give_up(struct tr_trace *t, const char *why, bool for_good)
{
    char line[700];

    if (!t->said) {
        snprintf(line, sizeof line, "--trace %.400s: %s; %s (said once; the "
                 "run goes on)", t->path, why,
                 for_good ? "the trace ends here" : "lines are missing");
        t->say(t->ctx, 1, line);
    }
    t->said = true;
    if (!for_good)
        return;
    close(t->fd);
    t->fd = -1;
}

void tr_trace_flush(struct tr_trace *t)
{
    size_t at = 0;

    while (t->fd >= 0 && at < t->lines.n) {
        ssize_t n = tr_pipe_write(t->fd, t->lines.p + at,
                                  t->lines.n - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break; /* a slow reader: the buffer holds some */
        if (n < 0)
            give_up(t, strerror(errno), true);
        else
            at += (size_t)n;
    }
    if (t->fd < 0)
        at = t->lines.n;
    if (at == 0)
        return;
    memmove(t->lines.p, t->lines.p + at, t->lines.n - at);
    t->lines.n -= at;
}

void tr_trace_close(struct tr_trace *t)
{
    tr_trace_flush(t);
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
    tr_buf_release(&t->lines);
    tr_free(t->path);
    t->path = NULL;
}

/* ---- a line ----------------------------------------------------------- */

static void add_text(struct tr_buf *b, const char *name, struct tr_str value)
{
    tr_buf_addf(b, ",\"%s\":", name);
    tr_buf_add_json(b, value);
}

static void add_number(struct tr_buf *b, const char *name, int64_t value)
{
    if (value >= 0)
        tr_buf_addf(b, ",\"%s\":%" PRId64, name, value);
}

static void add_provider(struct tr_buf *b, struct tr_str provider)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (tr_str_eq_c(provider, names[i].ours))
            provider = tr_str_c(names[i].theirs);
    }
    add_text(b, "gen_ai.provider.name", provider);
}

/* "host:port", "[::1]:port" or "host". */
static void add_server(struct tr_buf *b, const char *host)
{
    const char *bracket = strchr(host, ']');
    const char *colon = strchr(bracket ? bracket : host, ':');
    int64_t port = 0;

    add_text(b, "server.address",
             tr_str(host, colon ? (size_t)(colon - host) : strlen(host)));
    for (const char *c = colon ? colon + 1 : ""; *c >= '0' && *c <= '9' &&
                                                 port < 65536; c++)
        port = port * 10 + (*c - '0');
    if (port)
        add_number(b, "server.port", port);
}

static void add_usage(struct tr_buf *b, const struct tr_usage *u)
{
    add_number(b, "gen_ai.usage.input_tokens", u->in);
    add_number(b, "gen_ai.usage.output_tokens", u->out);
    add_number(b, "gen_ai.usage.cache_read.input_tokens", u->cached);
    add_number(b, "gen_ai.usage.cache_creation.input_tokens", u->cache_write);
    add_number(b, "gen_ai.usage.reasoning.output_tokens", u->reasoning);
}

static void add_own(struct tr_buf *b, const struct tr_attempt *a)
{
    static const char *const billing[] = {"none", "usage", "unknown"};
    const struct tr_reply *r = a->reply;

    add_number(b, "trommel.attempt", (int64_t)a->number);
    add_number(b, "trommel.items", a->items);
    add_text(b, "trommel.outcome", tr_str_c(tr_outcome_word(r->outcome)));
    add_text(b, "trommel.billing", tr_str_c(billing[r->billing]));
    if (r->request_id[0])
        add_text(b, "trommel.request_id", tr_str_c(r->request_id));
    if (r->billing == TR_BILL_USAGE && r->usage.in >= 0 && r->usage.out >= 0)
        add_number(b, "trommel.cost_nano_usd",
                   tr_cost(&a->lane->facts, &r->usage));
}

static void add_line(struct tr_trace *t, const struct tr_attempt *a,
                     int64_t wall_ns)
{
    const struct tr_reply *r = a->reply;
    const char *slash = strchr(a->lane->model, '/');
    struct tr_str provider = tr_str(a->lane->model,
                                    slash ? (size_t)(slash - a->lane->model)
                                          : strlen(a->lane->model));
    struct tr_str model = tr_str_c(slash ? slash + 1 : a->lane->model);
    int64_t took = tr_attempt_took_ns(a);
    int64_t start = wall_ns - (a->ended_at - a->sent_at);
    struct tr_buf *b = &t->lines;
    char name[200];

    snprintf(name, sizeof name, "chat %.*s", (int)model.n, model.p);
    tr_buf_addz(b, "{\"name\":");
    tr_buf_add_json(b, tr_str_c(name));
    tr_buf_addf(b, ",\"trace_id\":\"%s\",\"span_id\":\"%016" PRIx64 "\","
                "\"start_time_unix_nano\":%" PRId64
                ",\"end_time_unix_nano\":%" PRId64
                ",\"attributes\":{\"gen_ai.operation.name\":\"chat\"",
                t->trace_id, a->number, start, start + took);
    add_provider(b, provider);
    add_text(b, "gen_ai.request.model", model);
    if (a->cap_tokens > 0)
        add_number(b, "gen_ai.request.max_tokens", a->cap_tokens);
    add_text(b, "gen_ai.output.type",
             a->schema ? TR_STR("json") : TR_STR("text"));
    if (r->served[0])
        add_text(b, "gen_ai.response.model", tr_str_c(r->served));
    add_usage(b, &r->usage);
    add_server(b, a->lane->host);
    if (r->status)
        add_number(b, "http.response.status_code", r->status);
    if (r->outcome != TR_OUT_OK && r->outcome != TR_OUT_CUT_SHORT)
        add_text(b, "error.type", tr_str_c(tr_outcome_word(r->outcome)));
    add_own(b, a);
    tr_buf_addz(b, "}}\n");
}

void tr_trace_attempt(struct tr_trace *t, const struct tr_attempt *a,
                      int64_t wall_ns)
{
    size_t before = t->lines.n;

    if (t->fd < 0)
        return;
    add_line(t, a, wall_ns);
    if (!tr_buf_ok(&t->lines)) { /* no room: the line goes, the rest stays */
        t->lines.failed = false;
        t->lines.n = before;
        t->dropped++;
        give_up(t, "what reads it is too slow", false);
    }
    if (t->lines.n >= LINES_FULL)
        tr_trace_flush(t);
}
