/* limits.c - what response headers say about limits and waiting.
 * SPDX-License-Identifier: MIT */
#include "wire/provider.h"

#include <stddef.h>

#define DAY_MS INT64_C(86400000)
#define NS_PER_MS INT64_C(1000000)

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes word off the front of s, case ignored. */
static bool take(struct tr_str *s, const char *word)
{
    size_t n = strlen(word);

    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (lower(s->p[i]) != word[i])
            return false;
    }
    s->p += n;
    s->n -= n;
    return true;
}

static int64_t clamp_ms(int64_t ms)
{
    return ms < 0 ? 0 : ms > DAY_MS ? DAY_MS : ms;
}

/* ---- numbers ---------------------------------------------------------- */

/* A decimal number in thousandths of a millionth (1e-9), saturating at 1e9
 * whole units: "3.5" is 3500000000. No sign, exponent or locale. */
#define WHOLE_MAX INT64_C(1000000000)

static bool take_number(struct tr_str *s, int64_t *whole, int64_t *nano)
{
    int64_t unit = 100000000;

    *whole = *nano = 0;
    if (!s->n || !is_digit(s->p[0]))
        return false;
    for (; s->n && is_digit(s->p[0]); s->p++, s->n--) {
        if (*whole < WHOLE_MAX * 1000000)
            *whole = 10 * *whole + (s->p[0] - '0');
    }
    if (s->n < 2 || s->p[0] != '.' || !is_digit(s->p[1]))
        return true;
    for (s->p++, s->n--; s->n && is_digit(s->p[0]); s->p++, s->n--) {
        *nano += unit * (s->p[0] - '0');
        unit /= 10;
    }
    return true;
}

/* whole.nano units of unit_ns as milliseconds, rounded up: waiting a little
 * longer is right, a little shorter is a refusal. */
static int64_t to_ms(int64_t whole, int64_t nano, int64_t unit_ns)
{
    int64_t max = DAY_MS * NS_PER_MS / unit_ns + 1;
    int64_t ns;

    if (whole > max)
        whole = max;
    /* Of a day, too, all of it fits. */
    ns = whole * unit_ns + (nano + 999) / 1000 * (unit_ns / 1000) / 1000;
    return (ns + NS_PER_MS - 1) / NS_PER_MS;
}

/* Longer names first where one begins another. */
static const struct {
    const char *name;
    int64_t ns;
} units[] = {
    {"milliseconds", NS_PER_MS}, {"millisecond", NS_PER_MS},
    {"ms", NS_PER_MS}, {"us", 1000}, {"\xc2\xb5s", 1000}, {"ns", 1},
    {"seconds", 1000000000}, {"second", 1000000000}, {"sec", 1000000000},
    {"s", 1000000000}, {"minutes", 60000000000}, {"minute", 60000000000},
    {"min", 60000000000}, {"m", 60000000000}, {"hours", 3600000000000},
    {"hour", 3600000000000}, {"h", 3600000000000},
    {"days", 86400000000000}, {"day", 86400000000000}, {"d", 86400000000000},
};

static int64_t take_unit(struct tr_str *s)
{
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (take(s, units[i].name))
            return units[i].ns;
    }
    return 0;
}

/* 1h12m0s off the front of s; -1 when there is none. */
static int64_t take_go_duration(struct tr_str *s)
{
    int64_t total = -1;

    while (s->n && is_digit(s->p[0])) {
        struct tr_str rest = *s;
        int64_t whole, nano, unit;

        take_number(&rest, &whole, &nano);
        while (rest.n && rest.p[0] == ' ')
            rest.p++, rest.n--;
        unit = take_unit(&rest);
        if (!unit)
            return total;
        *s = rest;
        total = (total < 0 ? 0 : total) + to_ms(whole, nano, unit);
        if (total > DAY_MS)
            total = DAY_MS;
    }
    return total;
}

/* ---- dates ------------------------------------------------------------ */

/* Days from 1970-01-01 in the Gregorian calendar; m from 1. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
    int64_t era, year_of_era, day_of_year;

    y -= m <= 2;
    era = y / 400;
    year_of_era = y - era * 400;
    day_of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 -
           year_of_era / 100 + day_of_year - 719468;
}

static bool take_int(struct tr_str *s, size_t digits_min, size_t digits_max,
                     int64_t *value)
{
    size_t n = 0;

    *value = 0;
    for (; n < digits_max && s->n && is_digit(s->p[0]); n++) {
        *value = 10 * *value + (s->p[0] - '0');
        s->p++;
        s->n--;
    }
    return n >= digits_min;
}

static bool take_clock(struct tr_str *s, int64_t *seconds)
{
    int64_t h, m, sec;

    if (!take_int(s, 2, 2, &h) || !take(s, ":") || !take_int(s, 2, 2, &m) ||
        !take(s, ":") || !take_int(s, 2, 2, &sec))
        return false;
    *seconds = h * 3600 + m * 60 + sec;
    return h < 24 && m < 60 && sec <= 60;
}

static bool is_date(int64_t y, int64_t m, int64_t d)
{
    return y >= 1970 && y < 10000 && m >= 1 && m <= 12 && d >= 1 && d <= 31;
}

/* 2026-05-29T13:15:17.5Z, also with a blank for T and an offset for Z */
static int64_t rfc3339_s(struct tr_str s)
{
    int64_t y, m, d, clock, oh = 0, om = 0, sign = 0;

    if (!take_int(&s, 4, 4, &y) || !take(&s, "-") || !take_int(&s, 2, 2, &m) ||
        !take(&s, "-") || !take_int(&s, 2, 2, &d) ||
        !(take(&s, "t") || take(&s, " ")) || !take_clock(&s, &clock))
        return -1;
    if (take(&s, ".")) {
        while (s.n && is_digit(s.p[0]))
            s.p++, s.n--;
    }
    if (take(&s, "+") || take(&s, "-")) {
        sign = s.p[-1] == '+' ? 1 : -1;
        if (!take_int(&s, 2, 2, &oh) || !take(&s, ":") ||
            !take_int(&s, 2, 2, &om) || oh > 23 || om > 59)
            return -1;
    } else if (!take(&s, "z") && s.n) {
        return -1;
    }
    if (s.n || !is_date(y, m, d))
        return -1;
    return days_from_civil(y, m, d) * 86400 + clock -
           sign * (oh * 3600 + om * 60);
}

static int64_t take_month(struct tr_str *s)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    char word[4] = "";

    for (int i = 0; i < 12; i++) {
        memcpy(word, names + 3 * i, 3);
        if (take(s, word))
            return i + 1;
    }
    return 0;
}

/* Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT; and
 * Sun Nov  6 08:49:37 1994. */
static int64_t http_date_s(struct tr_str s)
{
    int64_t y, m, d, clock;

    while (s.n && ((s.p[0] | 0x20) >= 'a' && (s.p[0] | 0x20) <= 'z'))
        s.p++, s.n--;
    if (take(&s, ",")) {
        take(&s, " ");
        if (!take_int(&s, 1, 2, &d) || !(take(&s, " ") || take(&s, "-")))
            return -1;
        m = take_month(&s);
        if (!m || !(take(&s, " ") || take(&s, "-")) ||
            !take_int(&s, 2, 4, &y) || !take(&s, " ") ||
            !take_clock(&s, &clock))
            return -1;
        if (y < 100)
            y += y < 70 ? 2000 : 1900;
    } else {
        if (!take(&s, " "))
            return -1;
        m = take_month(&s);
        while (take(&s, " "))
            ;
        if (!m || !take_int(&s, 1, 2, &d) || !take(&s, " ") ||
            !take_clock(&s, &clock) || !take(&s, " ") ||
            !take_int(&s, 4, 4, &y))
            return -1;
    }
    if (!is_date(y, m, d))
        return -1;
    return days_from_civil(y, m, d) * 86400 + clock;
}

int64_t tr_wire_date_s(struct tr_str s)
{
    int64_t at;

    s = tr_str_trim(s);
    at = s.n && is_digit(s.p[0]) ? rfc3339_s(s) : http_date_s(s);
    return at < 0 ? -1 : at; /* an hour west of 1970 is no time of ours */
}

/* ---- durations -------------------------------------------------------- */

int64_t tr_wire_duration_ms(struct tr_str s, int64_t now_wall_s)
{
    struct tr_str rest = tr_str_trim(s);
    int64_t whole, nano, ms, date;

    s = rest;
    ms = take_go_duration(&rest);
    if (ms >= 0 && !rest.n)
        return clamp_ms(ms);
    rest = s;
    if (take_number(&rest, &whole, &nano) && !rest.n) {
        if (whole >= WHOLE_MAX * 100) /* epoch milliseconds: OpenRouter */
            return clamp_ms(whole - now_wall_s * 1000);
        if (whole >= WHOLE_MAX)
            return clamp_ms((whole - now_wall_s) * 1000);
        return clamp_ms(to_ms(whole, nano, 1000000000));
    }
    date = tr_wire_date_s(s);
    if (date < 0)
        return -1;
    return clamp_ms((date - now_wall_s) * 1000);
}

int64_t tr_wire_try_again_ms(struct tr_str message)
{
    for (; message.n; message.p++, message.n--) {
        struct tr_str at = message;
        int64_t whole, nano, ms;

        if (!take(&at, "try again in ") && !take(&at, "retry after ") &&
            !take(&at, "retry in "))
            continue;
        ms = take_go_duration(&at);
        if (ms < 0 && take_number(&at, &whole, &nano))
            ms = to_ms(whole, nano, 1000000000);
        if (ms >= 0)
            return clamp_ms(ms);
    }
    return -1;
}

/* ---- headers ---------------------------------------------------------- */

static bool next_line(struct tr_str *headers, struct tr_str *name,
                      struct tr_str *value)
{
    while (headers->n) {
        const char *end = memchr(headers->p, '\n', headers->n);
        size_t n = end ? (size_t)(end - headers->p) : headers->n;
        const char *colon = memchr(headers->p, ':', n);

        if (colon) {
            *name = tr_str(headers->p, (size_t)(colon - headers->p));
            *value = tr_str_trim(
                tr_str(colon + 1, n - (size_t)(colon + 1 - headers->p)));
        }
        headers->p += n + (end != NULL);
        headers->n -= n + (end != NULL);
        if (colon)
            return true;
    }
    return false;
}

struct tr_str tr_wire_header(struct tr_str headers, const char *name)
{
    struct tr_str n, v;

    while (next_line(&headers, &n, &v)) {
        if (tr_str_eq_c(n, name))
            return v;
    }
    return (struct tr_str){0};
}

enum family {
    REQUESTS, TOKENS, PROJECT_TOKENS, INPUT, OUTPUT, DAY_REQUESTS, DAY_TOKENS,
    FAMILIES
};
enum part { LIMIT, REMAINING, RESET };

#define SECOND_MS 1000
#define MINUTE_MS 60000

/* A header name is FRONT part BACK or FRONT part alone; the table lists what
 * stands around limit, remaining and reset, and the window where the name
 * says it. Looked up 2026-11. */
static const struct shape {
    const char *front, *back;
    enum family family;
    int64_t window_ms;
} shapes[] = {
    {"x-ratelimit-", "-requests", REQUESTS, 0}, /* OpenAI, Azure, Groq */
    {"x-ratelimit-", "-tokens", TOKENS, 0},
    {"x-ratelimit-", "-project-tokens", PROJECT_TOKENS, 0},
    {"x-ratelimit-", "", REQUESTS, 0}, /* Together, OpenRouter */
    {"x-tokenlimit-", "", TOKENS, 0},
    {"x-ratelimit-", "-req-second", REQUESTS, SECOND_MS}, /* Mistral */
    {"x-ratelimit-", "-req-minute", REQUESTS, MINUTE_MS},
    {"x-ratelimit-", "-tokens-minute", TOKENS, MINUTE_MS},
    {"x-ratelimit-", "-requests-minute", REQUESTS, MINUTE_MS}, /* Cerebras */
    {"x-ratelimit-", "-requests-day", DAY_REQUESTS, DAY_MS},
    {"x-ratelimit-", "-tokens-day", DAY_TOKENS, DAY_MS},
    {"ratelimit-", "", REQUESTS, 0}, /* IETF draft */
    {"anthropic-ratelimit-requests-", "", REQUESTS, MINUTE_MS},
    {"anthropic-ratelimit-tokens-", "", TOKENS, MINUTE_MS},
    {"anthropic-ratelimit-input-tokens-", "", INPUT, MINUTE_MS},
    {"anthropic-ratelimit-output-tokens-", "", OUTPUT, MINUTE_MS},
};

static const struct shape *find_shape(struct tr_str name, enum part *part)
{
    static const char *const parts[] = {"limit", "remaining", "reset"};

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct tr_str s = name;

        if (!take(&s, shapes[i].front))
            continue;
        for (int k = 0; k < 3; k++) {
            struct tr_str rest = s;

            if (take(&rest, parts[k]) && tr_str_eq_c(rest, shapes[i].back)) {
                *part = (enum part)k;
                return &shapes[i];
            }
        }
    }
    return NULL;
}

static int64_t count_of(struct tr_str value)
{
    int64_t whole, nano;

    if (!take_number(&value, &whole, &nano))
        return -1;
    /* "100, 100;w=60" of the IETF draft: the first number counts */
    if (value.n && value.p[0] != ',' && value.p[0] != ';')
        return -1;
    return whole;
}

/* The limit that leaves less room is the one that binds. */
static struct tr_limit tighter(struct tr_limit a, struct tr_limit b)
{
    if (b.remaining < 0)
        return a;
    return a.remaining < 0 || b.remaining < a.remaining ? b : a;
}

/* "100, 100;w=60" of the IETF draft: the window in seconds, 0: not said. */
static int64_t window_of(struct tr_str value)
{
    for (; value.n; value.p++, value.n--) {
        struct tr_str at = value;
        int64_t whole, nano;

        if (take(&at, ";w=") && take_number(&at, &whole, &nano))
            return clamp_ms(to_ms(whole, nano, 1000 * NS_PER_MS));
    }
    return 0;
}

/* A day's limit is told beside a minute's and matters when it is used up. */
static struct tr_limit unless_spent(struct tr_limit minute, struct tr_limit day)
{
    return day.remaining == 0 ? day : minute;
}

static int64_t retry_after(struct tr_str headers, int64_t now_wall_s)
{
    struct tr_str ms = tr_wire_header(headers, "retry-after-ms");
    int64_t whole, nano;

    if (ms.p && take_number(&ms, &whole, &nano) && !ms.n)
        return clamp_ms(to_ms(whole, nano, NS_PER_MS));
    return tr_wire_duration_ms(tr_wire_header(headers, "retry-after"),
                               now_wall_s);
}

void tr_wire_limits(struct tr_str headers, int64_t now_wall_s,
                    struct tr_limits *limits, int64_t *retry_after_ms)
{
    struct tr_limit seen[FAMILIES];
    struct tr_str rest = headers, name, value;
    int64_t server_s;

    for (int i = 0; i < FAMILIES; i++)
        seen[i] = (struct tr_limit)TR_LIMIT_UNSAID;
    /* Our clock may be wrong; the server's own date is what it counts by. */
    server_s = tr_wire_date_s(tr_wire_header(headers, "date"));
    if (server_s >= 0)
        now_wall_s = server_s;
    while (next_line(&rest, &name, &value)) {
        enum part part;
        const struct shape *shape = find_shape(name, &part);
        struct tr_limit *l;

        if (!shape)
            continue;
        l = &seen[shape->family];
        l->window_ms = shape->window_ms ? shape->window_ms : l->window_ms;
        if (part == LIMIT) {
            l->limit = count_of(value);
            l->window_ms = l->window_ms ? l->window_ms : window_of(value);
        } else if (part == REMAINING) {
            l->remaining = count_of(value);
        } else {
            l->reset_ms = tr_wire_duration_ms(value, now_wall_s);
        }
    }
    limits->requests = unless_spent(seen[REQUESTS], seen[DAY_REQUESTS]);
    limits->tokens = unless_spent(tighter(seen[TOKENS], seen[PROJECT_TOKENS]),
                                  seen[DAY_TOKENS]);
    limits->input = seen[INPUT];
    limits->output = seen[OUTPUT];
    /* Anthropic's "tokens" repeats the tighter of the two in unknown units. */
    if (limits->input.limit >= 0 && limits->output.limit >= 0)
        limits->tokens = (struct tr_limit)TR_LIMIT_UNSAID;
    *retry_after_ms = retry_after(headers, now_wall_s);
}
