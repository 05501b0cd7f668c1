/* fuzz_headers.c - limits, durations and dates of response headers: within
 * their ranges, later is never longer, and what is written in a known form is
 * read as it was meant.
 *
 * Input: twelve bytes for the forms that are written here, then headers.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "wire/provider.h"

#include <time.h>

#define DAY_MS 86400000
#define COUNT_MAX INT64_C(10000000000000000)

static void check_limit(const struct tr_limit *l)
{
    CHECK(l->limit >= -1 && l->limit <= COUNT_MAX);
    CHECK(l->remaining >= -1 && l->remaining <= COUNT_MAX);
    CHECK(l->reset_ms >= -1 && l->reset_ms <= DAY_MS);
    CHECK(l->window_ms >= 0 && l->window_ms <= DAY_MS);
}

static void check_headers(struct tr_str s, int64_t now)
{
    struct tr_limits a, b;
    int64_t wait, again;

    tr_wire_limits(s, now, &a, &wait);
    check_limit(&a.requests);
    check_limit(&a.tokens);
    check_limit(&a.input);
    check_limit(&a.output);
    CHECK(wait >= -1 && wait <= DAY_MS);
    tr_wire_limits(s, now, &b, &again);
    CHECK(memcmp(&a, &b, sizeof a) == 0 && wait == again);
}

/* Any text as a duration. */
static void check_duration(struct tr_str s, int64_t now, int64_t later)
{
    int64_t a = tr_wire_duration_ms(s, now), b = tr_wire_duration_ms(s, later);
    int64_t date = tr_wire_date_s(s), words = tr_wire_try_again_ms(s);
    char *padded = malloc(s.n + 4);

    CHECK(a >= -1 && a <= DAY_MS && (a < 0) == (b < 0));
    CHECK(b <= a); /* the same moment is nearer, a time span is the same */
    CHECK(b == a || a - b <= (later - now) * 1000);
    CHECK(date >= -1 && date < INT64_C(300000000000));
    CHECK(words >= -1 && words <= DAY_MS);

    CHECK(padded);
    padded[0] = ' ';
    if (s.n)
        memcpy(padded + 1, s.p, s.n);
    padded[s.n + 1] = '\r';
    CHECK(tr_wire_duration_ms(tr_str(padded, s.n + 2), now) == a);
    free(padded);
}

static int64_t clamp(int64_t ms)
{
    return ms < 0 ? 0 : ms > DAY_MS ? DAY_MS : ms;
}

static void check_span(const char *z, int64_t want)
{
    CHECK(tr_wire_duration_ms(tr_str_c(z), 1764500000) == clamp(want));
}

/* Numbers in the forms of different servers. */
static void check_forms(struct fuzz_in *in)
{
    unsigned h = fuzz_byte(in) % 30, m = fuzz_byte(in) % 60,
             s = fuzz_byte(in) % 60, ms = fuzz_byte(in) * 4 % 1000;
    int64_t all = ((h * 60 + m) * 60 + s) * INT64_C(1000);
    char text[100], headers[200];
    int64_t wait;
    struct tr_limits limits;

    snprintf(text, sizeof text, "%uh%um%us", h, m, s);
    check_span(text, all);
    snprintf(text, sizeof text, "%um%u.%03us", h * 60 + m, s, ms);
    check_span(text, all + ms);
    snprintf(text, sizeof text, "%lld.%03u", (long long)all / 1000, ms);
    check_span(text, all + ms);
    snprintf(headers, sizeof headers, "x: 1\nretry-after: %s\n", text);
    tr_wire_limits(tr_str_c(headers), 1764500000, &limits, &wait);
    CHECK(wait == clamp(all + ms));
    snprintf(headers, sizeof headers, "retry-after-ms: %lld\nretry-after: 7\n",
             (long long)all + ms);
    tr_wire_limits(tr_str_c(headers), 1764500000, &limits, &wait);
    CHECK(wait == clamp(all + ms));
    snprintf(text, sizeof text, "Slow. Please try again in %um%u.%03us. Bye",
             h * 60 + m, s, ms);
    CHECK(tr_wire_try_again_ms(tr_str_c(text)) == clamp(all + ms));
    snprintf(text, sizeof text, "-%u", 1 + s);
    CHECK(tr_wire_duration_ms(tr_str_c(text), 1764500000) == -1);
}

/* A day of the calendar that the C library makes, in four spellings. */
static void check_dates(struct fuzz_in *in)
{
    uint32_t at = fuzz_byte(in);
    char text[80];
    time_t t;
    struct tm tm;

    at = at << 8 | fuzz_byte(in);
    at = at << 8 | fuzz_byte(in);
    at = at << 8 | fuzz_byte(in);
    t = (time_t)at;
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    CHECK(tr_wire_date_s(tr_str_c(text)) == (int64_t)at);
    strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &tm);
    CHECK(tr_wire_date_s(tr_str_c(text)) == (int64_t)at);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.123Z", &tm);
    CHECK(tr_wire_date_s(tr_str_c(text)) == (int64_t)at);
    if (at > 86400) {
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S+01:30", &tm);
        CHECK(tr_wire_date_s(tr_str_c(text)) == (int64_t)at - 5400);
    }
    if (tm.tm_year >= 70 && tm.tm_year < 170) {
        strftime(text, sizeof text, "%A, %d-%b-%y %H:%M:%S GMT", &tm);
        CHECK(tr_wire_date_s(tr_str_c(text)) == (int64_t)at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const int64_t nows[] = {0, 1764500000, INT32_MAX,
                                   INT64_C(253402300799)};
    struct fuzz_in in = fuzz_begin(data, n);
    int64_t now, later;
    struct tr_str s, line;

    check_forms(&in);
    check_dates(&in);
    now = nows[fuzz_byte(&in) & 3];
    later = now + fuzz_byte(&in) * 97;
    fuzz_byte(&in);
    fuzz_byte(&in);
    s = fuzz_rest(&in);
    check_headers(s, now);
    check_duration(s, now, later);
    while (s.n) {
        const char *end = memchr(s.p, '\n', s.n);
        const char *colon;
        size_t len = end ? (size_t)(end - s.p) : s.n;

        line = tr_str(s.p, len);
        colon = len ? memchr(line.p, ':', len) : NULL;
        if (colon)
            check_duration(tr_str(colon + 1, len - (size_t)(colon + 1 - s.p)),
                           now, later);
        s = tr_str(s.p + len + (end != NULL), s.n - len - (end != NULL));
    }
    return 0;
}
