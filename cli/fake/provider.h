/* provider.h - what the fake does with one request: decided here, told the
 * time; sending and waiting are server.c's.
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_PROVIDER_H
#define TR_FAKE_PROVIDER_H

#include "fake/bill.h"
#include "fake/dialect.h"
#include "fake/limits.h"
#include "fake/options.h"
#include "fake/texts.h"

enum fake_manner {
    FAKE_SEND,
    FAKE_SEND_HALF, /* then close the connection */
    FAKE_CLOSE,     /* without a byte of reply */
    FAKE_SILENT     /* until the client gives up */
};

/* A request as it came. body is used up and has 4 bytes of room behind n. */
struct fake_ask {
    const struct fake_dialect *dialect;
    const char *model;        /* named in the path, or "" */
    char *body;
    size_t n;
    const char *key;          /* value of the dialect's key header, or NULL */
    const char *lacks_header; /* a sentence, when one is missing */
};

struct fake_reply {
    const struct fake_dialect *dialect; /* NULL: a page of ours */
    int status;
    enum fake_manner manner;
    bool is_html, has_requests, has_tokens;
    struct fake_limit_view requests, tokens; /* as far as has_* */
    int64_t retry_ns;  /* -1: not said */
    int64_t delay_ns;
    uint64_t number;   /* of the request */
    struct tr_buf body;
};

struct fake_provider {
    const struct fake_options *options; /* borrowed */
    struct fake_texts texts;
    struct fake_bill bill;
    struct fake_limit requests, tokens;
    /* when it began; 0: not yet */
    int64_t quota_since_ns, down_since_ns, key_since_ns;
    struct fake_request request;  /* the one being decided */
    struct fake_said *said;       /* its answer; owned */
    size_t said_n, said_cap;
    struct tr_buf content, odd;   /* its text; labels made up for it */
    struct gullible_said *obeyed; /* scratch of obey(); owned */
    size_t obeyed_cap;
    struct fake_cache cache;
    int64_t now_ns;               /* when the request came */
    bool is_batch;                /* asked in a batch: its price, no limits */
};

int fake_provider_open(struct fake_provider *p, const struct fake_options *o,
                       int64_t now_ns, struct tr_err *err);
void fake_provider_close(struct fake_provider *p);
/* A new bill: nobody has asked anything, and what began behind so many requests
 * has not begun. */
void fake_provider_reset(struct fake_provider *p);
/* Decides a request of any dialect and charges for it. */
void fake_provider_ask(struct fake_provider *p, struct fake_reply *reply,
                       const struct fake_ask *ask, int64_t now_ns,
                       int64_t wall_ms);
/* Is this the key? */
bool fake_provider_knows(const struct fake_provider *p,
                         const struct fake_dialect *dialect, const char *key);

#endif
