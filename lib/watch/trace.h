/* trace.h - one JSON line for each request that ended, with the attribute
 * names of OpenTelemetry's GenAI conventions.
 *
 * No row text, no answer, no message of a provider, no key. Lines are
 * gathered in a bounded buffer; a file that takes no more is said once, and
 * the run goes on.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TRACE_H
#define TR_TRACE_H

#include "base/buf.h"
#include "run.h"

struct tr_trace {
    int fd;                 /* -1: no trace */
    char *path;             /* owned */
    struct tr_buf lines;    /* not written yet */
    char trace_id[33];      /* of this run */
    int64_t dropped;        /* lines that found no room */
    bool said;
    void (*say)(void *ctx, int level, const char *line);
    void *ctx;
};

/* path NULL: no trace. Lines are added at the end of the file. */
int tr_trace_open(struct tr_trace *t, const char *path,
                  void (*say)(void *ctx, int level, const char *line),
                  void *ctx, struct tr_err *err);
void tr_trace_attempt(struct tr_trace *t, const struct tr_attempt *a,
                      int64_t wall_ns);
void tr_trace_flush(struct tr_trace *t);
void tr_trace_close(struct tr_trace *t);

#endif
