/* webhook.h - one POST at a time to an address that is no model.
 *
 * Each request has a transport of its own, opened for it and closed after it:
 * no key of a model can be among its headers, and no connection is shared.
 * https or loopback only (unless allow_http), redirects are not followed. An
 * address of a webhook is a secret itself: messages name its host only.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_WEBHOOK_H
#define TR_WIRE_WEBHOOK_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct tr_webhook;

struct tr_webhook_opts {
    const char *url;
    const char *secret_env;  /* NULL: none; variable that holds the secret */
    const char *secret_file; /* NULL: none; mode 0600 */
    const char *proxy;       /* as in tr_http_opts */
    bool allow_http, allow_link_local;
};

/* Checks everything that can be checked without sending. */
int tr_webhook_open(struct tr_webhook **out, const struct tr_webhook_opts *o,
                    struct tr_err *err);
const char *tr_webhook_host(const struct tr_webhook *w);

/* Begins a POST of body (copied). With a secret the header
 * X-Trommel-Signature says "sha256=" and the HMAC-SHA256 of the body in hex. */
int tr_webhook_post(struct tr_webhook *w, struct tr_str body, int64_t limit_ms,
                    struct tr_err *err);

enum {
    TR_WEBHOOK_BUSY,
    TR_WEBHOOK_TAKEN,   /* 2xx */
    TR_WEBHOOK_FAILED,  /* worth another try: no answer, 5xx, 408, 429 */
    TR_WEBHOOK_REFUSED  /* it will not take it */
};
/* Never waits. When it is no longer BUSY, why tells what came of it. */
int tr_webhook_poll(struct tr_webhook *w, char *why, size_t why_n);
void tr_webhook_close(struct tr_webhook *w); /* drops a POST; accepts NULL */

#endif
