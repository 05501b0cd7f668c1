/* watch.c - what a run tells of itself while it goes: alerts, metrics, trace.
 * SPDX-License-Identifier: MIT */
#include "watch/watch.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "plan/tally.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef TROMMEL_VERSION
#define TROMMEL_VERSION "0.0.0"
#endif

#define LOOK_NS (100 * TR_MS)     /* between looks at the counts */
#define DELIVERY_NS (5 * TR_MS)   /* between looks at deliveries */
#define FILE_NS (10 * TR_S)       /* between writes of the metrics file */
#define DRAIN_NS (TR_ALERT_LIMIT_MS * TR_MS + TR_S / 2)
#define DRAIN_SAID_NS TR_S        /* then a person is told what we wait for */
enum {
    DELIVERY_LOOK_MS = 20,
    JOB_BYTES = 300,              /* of its name in an alert */
    JOB_SHOWN = 100               /* and in the sentence */
};

/* ---- open ------------------------------------------------------------- */

/* A new file takes the name each time: what else stands under it, a device
 * (/dev/null), a pipe or a link (/dev/stdout), would be gone for everybody. */
static int refuse_special(const char *file, struct tr_err *err)
{
    struct stat st;

    return lstat(file, &st) < 0 || S_ISREG(st.st_mode)
        ? TR_OK
        : tr_fail(err, TR_CANTCREATE, "--metrics-file %s: it is no regular "
                  "file, and each write puts a new one in its place; name "
                  "another file", file);
}

int tr_watch_open(struct tr_watch *w, const struct tr_config *cfg, bool silent,
                  void (*say)(void *ctx, int level, const char *line),
                  void *ctx, struct tr_err *err)
{
    struct tr_alert_opts o = {
        .webhook = tr_config_text(cfg, "alert-webhook"),
        .secret_env = tr_config_text(cfg, "alert-secret-env"),
        .secret_file = tr_config_text(cfg, "alert-secret-file"),
        .proxy = tr_config_text(cfg, "proxy"),
        .allow_http = tr_config_flag(cfg, "allow-http"),
        .allow_link_local = tr_config_flag(cfg, "allow-link-local"),
        .command = tr_config_text(cfg, "alert-command"),
    };
    const char *file = tr_config_flag(cfg, "dry-run")
        ? NULL : tr_config_text(cfg, "metrics-file"); /* it leaves no trace */
    struct tr_buf temp;
    int rc = TR_OK;

    w->say = say;
    w->ctx = ctx;
    w->silent = silent;
    w->alarm_opts = (struct tr_alarm_opts){
        .stall_ns = tr_config_ms(cfg, "alert-stall") * TR_MS,
        .error_pct = tr_config_small(cfg, "alert-errors"),
        .spend_per_hour = tr_config_nano(cfg, "alert-spend"),
    };
    tr_buf_init(&temp, 0);
    TRY(tr_alerts_open(&w->alerts, &o, say, ctx, err));
    TRY(tr_trace_open(&w->trace,
                      silent ? NULL : tr_config_text(cfg, "trace"), say, ctx,
                      err));
    if (file) { /* not *.prom: the collector must not read a half */
        TRY(refuse_special(file, err));
        tr_buf_addf(&temp, "%s.tmp", file);
        w->metrics_file = tr_dup(file, strlen(file));
        w->metrics_temp = tr_dup(temp.p, temp.n);
        if (!w->metrics_file || !w->metrics_temp)
            TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    }
out:
    tr_buf_release(&temp);
    return rc;
}

/* ---- the run as it stands --------------------------------------------- */

static int64_t rows_expected(const struct tr_watch *w)
{
    return w->env->rows_expected ? w->env->rows_expected(w->env->ctx) : -1;
}

static void view_of(const struct tr_watch *w, int64_t now,
                    struct tr_alarm_view *v)
{
    struct tr_counts c;
    struct tr_money m;

    tr_run_counts(w->run, &c);
    tr_run_money(w->run, &m);
    *v = (struct tr_alarm_view){
        .now = now,
        .rows_settled = c.rows_settled,
        .rows_failed = c.rows_failed,
        .rows_stored = c.rows_stored,
        .rows_expected = rows_expected(w),
        .rows_wait = c.rows_read > c.rows_settled,
        .attempts = w->metrics.attempts,
        .attempts_bad = w->metrics.attempts_bad,
        .priced = w->priced,
        .spent = m.spent + m.unknown,
        .budget = m.budget,
        .used = tr_money_used(&m),
        .row_estimate = c.row_estimate,
        .ended = w->ended,
        .exit_code = w->exit_code,
    };
}

/* The length of text, or less: at most max bytes, between two characters. */
static size_t cut(const char *text, size_t max)
{
    size_t n = strlen(text);

    if (n <= max)
        return n;
    for (n = max; n && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
        ;
    return n;
}

int tr_watch_begin(struct tr_watch *w, const struct tr_run *run,
                   struct tr_env *env, const char *job, bool priced,
                   struct tr_err *err)
{
    struct tr_alarm_view v;
    struct tr_money m;

    w->job = tr_dup(job, cut(job, JOB_BYTES));
    if (!w->job)
        return tr_fail(err, TR_NOMEM, "out of memory");
    tr_utf8_tame(w->job); /* names of files are in it, which are any bytes */
    w->run = run;
    w->env = env;
    w->priced = priced;
    tr_run_money(run, &m);
    w->spent_at_open = m.spent;
    w->unknown_at_open = m.unknown;
    w->started_s = w->progress_s = tr_clock_wall_s();
    view_of(w, tr_clock_mono_ns(), &v);
    tr_alarm_init(&w->alarm, &w->alarm_opts, &v);
    return TR_OK;
}

/* ---- alerts ----------------------------------------------------------- */

static void add_time(struct tr_buf *b)
{
    time_t now = (time_t)tr_clock_wall_s();
    struct tm tm;
    char text[40];

    if (gmtime_r(&now, &tm) &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        tr_buf_addf(b, "\"time\":\"%s\",", text);
}

static void add_run(struct tr_buf *b, const struct tr_watch *w)
{
    struct tr_counts c;
    struct tr_money m;

    tr_run_counts(w->run, &c);
    tr_run_money(w->run, &m);
    tr_buf_addf(b, "\"run\":{\"rows_read\":%" PRId64 ",\"rows_settled\":%"
                PRId64 ",\"rows_failed\":%" PRId64 ",\"requests\":%" PRId64
                ",\"spent_nanousd\":%" PRId64 ",\"budget_nanousd\":%" PRId64
                ",\"budget_used_nanousd\":%" PRId64 ",\"done\":%s",
                c.rows_read, c.rows_settled, c.rows_failed, c.requests,
                w->priced ? m.spent + m.unknown : -1, m.budget,
                tr_money_used(&m), w->ended ? "true" : "false");
    if (w->ended)
        tr_buf_addf(b, ",\"exit\":%d", w->exit_code);
    tr_buf_addc(b, '}');
}

static void write_alert(struct tr_buf *b, const struct tr_watch *w,
                        const struct tr_alert *a)
{
    struct tr_key id;
    char hex[33], text[JOB_SHOWN + sizeof a->text + 20];

    /* The sentence alone is what people see: it names the job, too. */
    snprintf(text, sizeof text, "trommel %.*s: %s",
             (int)cut(w->job, JOB_SHOWN), w->job, a->text);
    tr_random_fill(&id, sizeof id);
    tr_key_hex(&id, sizeof id, hex);
    tr_buf_addf(b, "{\"id\":\"%s\",\"event\":\"%s\",\"severity\":\"%s\",",
                hex, tr_event_word(a->kind), a->severity);
    add_time(b);
    tr_buf_addz(b, "\"job\":");
    tr_buf_add_json(b, tr_str_c(w->job));
    tr_buf_addz(b, ",\"model\":");
    tr_buf_add_json(b, tr_str_c(a->lane));
    tr_buf_addz(b, ",\"text\":");
    tr_buf_add_json(b, tr_str_c(text));
    tr_buf_addf(b, ",\"value\":%" PRId64 ",\"limit\":%" PRId64 ",", a->value,
                a->limit);
    add_run(b, w);
    tr_buf_addz(b, "}\n");
}

static void send(struct tr_watch *w, const struct tr_alert *a)
{
    struct tr_buf b;

    w->raised[a->kind]++;
    if (w->silent || !tr_alerts_wanted(&w->alerts))
        return;
    tr_buf_init(&b, TR_HOOK_INPUT_MAX);
    write_alert(&b, w, a);
    if (tr_buf_ok(&b))
        tr_alerts_add(&w->alerts, a->kind, tr_buf_str(&b));
    else
        w->alerts.undelivered++;
    tr_buf_release(&b);
}

void tr_watch_event(struct tr_watch *w, const struct tr_event *event)
{
    struct tr_alert alert;

    if (w->run && tr_alarm_raise(&w->alarm, event, &alert))
        send(w, &alert);
}

void tr_watch_attempt(struct tr_watch *w, const struct tr_attempt *a)
{
    if (a->lane->is_local) /* no request */
        return;
    tr_metrics_attempt(&w->metrics, a);
    if (w->trace.fd >= 0)
        tr_trace_attempt(&w->trace, a, tr_clock_wall_ns());
}

static void look(struct tr_watch *w, int64_t now)
{
    struct tr_alarm_view v;
    struct tr_alert alert;

    view_of(w, now, &v);
    if (v.rows_settled != w->settled)
        w->progress_s = tr_clock_wall_s();
    w->settled = v.rows_settled;
    while (tr_alarm_next(&w->alarm, &v, &alert))
        send(w, &alert);
}

/* ---- metrics ---------------------------------------------------------- */

void tr_watch_metrics(const struct tr_watch *w, struct tr_buf *out)
{
    struct tr_metrics_view v = {
        .version = TROMMEL_VERSION,
        .spent_at_open = w->spent_at_open,
        .unknown_at_open = w->unknown_at_open,
        .priced = w->priced,
        .rows_expected = -1,
        .started_s = w->started_s,
        .progress_s = w->progress_s,
        .alerts = w->raised,
        .undelivered = w->alerts.undelivered,
        .done = w->ended,
        .exit_code = w->exit_code,
    };

    if (w->run) {
        tr_run_counts(w->run, &v.counts);
        tr_run_money(w->run, &v.money);
        v.rows_expected = rows_expected(w);
    }
    tr_metrics_text(&w->metrics, &v, out);
}

static int write_all(int fd, struct tr_str text)
{
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        text.p += n;
        text.n -= (size_t)n;
    }
    return 0;
}

/* Under a name the collector does not read, then renamed: whoever reads sees
 * the whole of one moment. Anyone may read it: the collector is not us. */
static int replace_file(const struct tr_watch *w, struct tr_str text)
{
    int fd = open(w->metrics_temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
                  O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0644);
    int bad;

    if (fd < 0)
        return errno;
    bad = write_all(fd, text);
    if (close(fd) && !bad)
        bad = errno;
    if (!bad && rename(w->metrics_temp, w->metrics_file))
        bad = errno;
    if (bad)
        unlink(w->metrics_temp);
    return bad;
}

static void file_metrics(struct tr_watch *w, int64_t now)
{
    struct tr_buf b;
    char line[700];
    int bad;

    if (!w->metrics_file)
        return;
    w->filed_at = now;
    tr_buf_init(&b, 0);
    tr_watch_metrics(w, &b);
    bad = tr_buf_ok(&b) ? replace_file(w, tr_buf_str(&b)) : ENOMEM;
    tr_buf_release(&b);
    if (!bad || w->file_said)
        return;
    w->file_said = true;
    snprintf(line, sizeof line, "--metrics-file %.400s: %s (said once; the "
             "run goes on)", w->metrics_file, strerror(bad));
    w->say(w->ctx, 1, line);
}

/* ---- time passes ------------------------------------------------------ */

void tr_watch_tick(struct tr_watch *w, int64_t now)
{
    if (!w->run)
        return;
    if (!w->ticked_at || now - w->ticked_at >= LOOK_NS) {
        look(w, now);
        tr_trace_flush(&w->trace);
        w->ticked_at = now;
    }
    if (!w->filed_at || now - w->filed_at >= FILE_NS)
        file_metrics(w, now);
    if (now - w->delivered_at >= DELIVERY_NS) {
        w->delivered_at = now;
        tr_alerts_tick(&w->alerts, now);
    }
}

void tr_watch_end(struct tr_watch *w, int exit_code, int64_t now)
{
    if (!w->run || w->ended)
        return;
    w->ended = true;
    w->exit_code = exit_code;
    w->ended_at = now;
    w->alerts.last_tries = true;
    look(w, now);
    tr_trace_flush(&w->trace);
    file_metrics(w, now);
}

bool tr_watch_busy(struct tr_watch *w, int64_t now)
{
    char line[200];
    uint32_t n;

    if (!w->ended)
        return false;
    tr_alerts_tick(&w->alerts, now);
    n = tr_alerts_open_count(&w->alerts);
    if (n && now - w->ended_at >= DRAIN_NS) {
        w->alerts.undelivered += n;
        w->say(w->ctx, 1, "some alerts were not delivered in time");
        tr_alerts_close(&w->alerts);
        n = 0;
    }
    if (n && !w->drain_said && now - w->ended_at >= DRAIN_SAID_NS) {
        w->drain_said = true;
        snprintf(line, sizeof line, "the run is over; waiting up to 10 s for "
                 "%u alert%s to be delivered; Ctrl-C drops %s", (unsigned)n,
                 n == 1 ? "" : "s", n == 1 ? "it" : "them");
        w->say(w->ctx, 2, line);
    }
    if (!n && w->alerts.undelivered)
        file_metrics(w, now);
    return n > 0;
}

void tr_watch_hurry(struct tr_watch *w)
{
    if (!w->ended)
        return;
    w->alerts.undelivered += tr_alerts_open_count(&w->alerts);
    tr_alerts_close(&w->alerts);
}

int tr_watch_wait_ms(const struct tr_watch *w, int wait_ms)
{
    bool soon = tr_alerts_open_count(&w->alerts) > 0;

    return soon && wait_ms > DELIVERY_LOOK_MS ? DELIVERY_LOOK_MS : wait_ms;
}

void tr_watch_close(struct tr_watch *w)
{
    tr_alerts_close(&w->alerts);
    if (w->trace.path)
        tr_trace_close(&w->trace);
    tr_free(w->job);
    tr_free(w->metrics_file);
    tr_free(w->metrics_temp);
}
