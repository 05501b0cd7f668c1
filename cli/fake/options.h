/* options.h - what `trommel fake` was asked to do.
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_OPTIONS_H
#define TR_FAKE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum fake_fault {
#define FAULT(id, name, share, help) id,
#include "fake/options.def"
    FAKE_FAULT_COUNT
};
/* Faults below this one replace the answer, the others change it. */
#define FAKE_FAULT_REPLACING FAKE_MISSING

enum fake_retry { FAKE_RETRY_SECONDS, FAKE_RETRY_MS, FAKE_RETRY_DATE,
                  FAKE_RETRY_NONE };

/* Texts are borrowed from argv. Counts that are -1 were not given. */
struct fake_options {
    int64_t port, max_requests, seed, reasoning, rpm, tpm;
    int64_t quota_after, daily_after, retired_after, down_after;
    int64_t told_off_at, key_after, renamed_after;
    int64_t too_long_tokens;
    double quota_for_s, down_for_s; /* 0: for ever */
    double told_off_for_s, key_for_s;
    double gullible;              /* share of requests in which it obeys */
    const char *port_file, *key, *bill_file;
    const char *gold, *text, *label, *labels;
    const char *poison, *efforts;
    int64_t price_in, price_out;  /* pico-dollars per token */
    int64_t cache;                /* least prompt that is kept; -1: none */
    int64_t price_cached, price_cache_write; /* -1: as price_in */
    double latency_ms, latency_sigma;
    char stuck[256];              /* the text, or empty */
    double stuck_s;
    int64_t batch_price, batch_queue, batch_lose;
    double batch_delay_s, batch_fail, batch_expire, batch_drop,
        batch_garble;
    double bucket_s, window_s;    /* window 0: bucket */
    enum fake_retry retry_after;
    bool headers, charge_refused;
    bool no_schema, no_max_completion_tokens, no_max_tokens, no_effort;
    bool no_cache_options;
    double p[FAKE_FAULT_COUNT];
};

/* 0: go on; 1: help was asked for and written to out; -1: wrong, and why was
 * written to err. */
int fake_options_read(struct fake_options *o, int argc, char **argv,
                      FILE *out, FILE *err);

#endif
