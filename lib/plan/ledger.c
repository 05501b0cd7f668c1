/* ledger.c - one budget over several stores and processes.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/ledger.h"

#include <inttypes.h>
#include <string.h>

#define CHUNK 16 /* a claim takes this part of what is free, or what it needs */

static int64_t plus(int64_t a, int64_t b)
{
    if (b < 0)
        return a + b;
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static struct tr_share *find(struct tr_ledger *l, const struct tr_key *store)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (tr_key_cmp(&l->shares[i].store, store) == 0)
            return &l->shares[i];
    return NULL;
}

/* Of an earlier period, and nobody at work who could still spend of it. */
static bool is_past(const struct tr_ledger *l, const struct tr_share *s)
{
    return s->period < l->period && !s->alive;
}

static int64_t held(const struct tr_ledger *l, const struct tr_share *s, int i)
{
    return is_past(l, s) ? 0 : s->held[i];
}

/* A free place, if need be that of a store which has long been at rest. */
static struct tr_share *place(struct tr_ledger *l)
{
    if (l->n < TR_SHARES_MAX)
        return &l->shares[l->n++];
    for (uint32_t i = 0; i < l->n; i++)
        if (is_past(l, &l->shares[i]))
            return &l->shares[i];
    return NULL;
}

static bool any_done(const struct tr_ledger *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->shares[i].done && l->shares[i].period == l->period)
            return true;
    return false;
}

static bool others_alive(const struct tr_ledger *l, const struct tr_key *store)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->shares[i].alive && tr_key_cmp(&l->shares[i].store, store) != 0)
            return true;
    return false;
}

/* What a share has used in this period, by its store's own sums. */
static int64_t used(const struct tr_share *s, const struct tr_ledger_ask *a,
                    int purse)
{
    int64_t here = a->spent[purse] - s->since[purse];
    int64_t lost = a->unknown[purse] - s->lost[purse];

    here = plus(here > 0 ? here : 0, lost > 0 ? lost : 0);
    return plus(plus(s->carried[purse], here), a->open[purse]);
}

/* What the store's sums say from now on counts. What is in flight goes on into
 * a period; what is unknown does not. */
static void begin_sums(struct tr_share *s, const struct tr_ledger_ask *a,
                       bool same_period)
{
    bool same_round = s->round == a->round;

    for (int i = 0; i < TR_PURSES; i++) {
        s->carried[i] = same_period ? s->held[i] : 0;
        s->since[i] = same_round ? a->spent[i] : 0;
        s->lost[i] = same_round ? a->unknown[i] : 0;
    }
}

/* A killed run was told more than it used, and gets the rest back: its store
 * says what it used. One that was put back from a copy says what was used when
 * the copy was made. Whoever told us anything had made a commit before, and who
 * opens the same store again makes one more. */
static bool is_older_copy(const struct tr_share *s,
                          const struct tr_ledger_ask *a)
{
    return a->opened && a->commits <= s->commits;
}

static int join(struct tr_ledger *l, const struct tr_key *store,
                const struct tr_ledger_ask *a, struct tr_err *err)
{
    struct tr_share *s = find(l, store);
    bool over = !a->per_day && !others_alive(l, store) &&
                (s && s->period == l->period ? s->done : any_done(l));

    if (a->per_day && a->day > l->period)
        l->period = a->day; /* never back */
    l->period += over;
    if (!s) {
        s = place(l);
        if (!s)
            return tr_fail(err, TR_STOPPED, "more than %d stores share the "
                           "budget of this job: give this run a --job of its "
                           "own", TR_SHARES_MAX);
        *s = (struct tr_share){.store = *store, .round = a->round};
    } else if (s->period < l->period) {
        begin_sums(s, a, false);
    } else if (s->round != a->round || is_older_copy(s, a)) {
        begin_sums(s, a, true); /* what is held counts on */
    }
    for (int i = 0; i < TR_PURSES; i++) /* forgiven: it hides nothing new */
        s->lost[i] = s->lost[i] < a->unknown[i] ? s->lost[i] : a->unknown[i];
    s->round = a->round;
    s->period = l->period;
    s->done = false;
    return TR_OK;
}

static void claim(struct tr_ledger *l, struct tr_share *s,
                  struct tr_ledger_ask *a)
{
    int64_t left[TR_PURSES];

    a->granted = true;
    for (int i = 0; i < TR_PURSES; i++) {
        left[i] = a->cap[i];
        a->more[i] = 0;
        for (uint32_t k = 0; k < l->n; k++)
            left[i] = left[i] > held(l, &l->shares[k], i)
                          ? left[i] - held(l, &l->shares[k], i) : 0;
        if (a->cap[i] >= 0 && a->want[i] > left[i]) {
            a->granted = false;
            a->lacking = i;
        }
    }
    for (int i = 0; a->granted && i < TR_PURSES; i++) {
        if (a->cap[i] < 0 || a->want[i] <= 0)
            continue;
        a->more[i] = left[i] / CHUNK > a->want[i] ? left[i] / CHUNK
                                                  : a->want[i];
        s->held[i] = plus(s->held[i], a->more[i]);
    }
}

int tr_ledger_apply(struct tr_ledger *l, const struct tr_key *store,
                    struct tr_ledger_ask *a, struct tr_err *err)
{
    struct tr_share *s;
    int rc = TR_OK;

    bool joins = a->op == TR_LEDGER_JOIN || !find(l, store);

    if (joins) /* or somebody removed the file */
        TRY(join(l, store, a, err));
    s = find(l, store);
    s->commits = a->commits;
    s->alive = true; /* who asks is at work */
    for (int i = 0; i < TR_PURSES; i++)
        if (joins || a->op == TR_LEDGER_LEAVE)
            s->held[i] = used(s, a, i);
    if (a->op == TR_LEDGER_CLAIM)
        claim(l, s, a);
    s->done = a->op == TR_LEDGER_LEAVE && a->finished;
    a->period = l->period;
    for (int i = 0; i < TR_PURSES; i++) {
        a->earlier[i] = plus(s->since[i], s->lost[i]) - s->carried[i];
        a->elsewhere[i] = 0;
        for (uint32_t k = 0; k < l->n; k++)
            if (&l->shares[k] != s)
                a->elsewhere[i] = plus(a->elsewhere[i],
                                       held(l, &l->shares[k], i));
    }
out:
    return rc;
}

/* ---- as text ------------------------------- */

#define NAME "trommel ledger "
enum {
    FORM_LOST = 2, /* the first one is without what is lost ... */
    FORM_COMMITS,  /* ... and the second without the commits */
    FORM = FORM_COMMITS
};

static void put_numbers(struct tr_buf *out, const int64_t *v)
{
    for (int i = 0; i < TR_PURSES; i++)
        tr_buf_addf(out, " %" PRId64, v[i]);
}

/* The last line says that nothing is missing. */
void tr_ledger_write(const struct tr_ledger *l, struct tr_buf *out)
{
    char hex[2 * sizeof l->shares[0].store.b + 1];
    struct tr_key sum;

    tr_buf_addf(out, NAME "%d\nperiod %" PRId64 " %u\n", FORM, l->period,
                (unsigned)l->n);
    for (uint32_t i = 0; i < l->n; i++) {
        const struct tr_share *s = &l->shares[i];

        tr_key_hex(&s->store, sizeof s->store.b, hex);
        tr_buf_addf(out, "%s %" PRId64 " %" PRId64 " %d %" PRId64, hex,
                    s->round, s->period, s->done, s->commits);
        put_numbers(out, s->since);
        put_numbers(out, s->lost);
        put_numbers(out, s->carried);
        put_numbers(out, s->held);
        tr_buf_addc(out, '\n');
    }
    sum = tr_digest(NULL, tr_buf_str(out));
    tr_key_hex(&sum, 8, hex);
    tr_buf_addf(out, "end %s\n", hex);
}

static bool take_number(struct tr_str *at, int64_t *v)
{
    bool negative, digits = false;

    while (at->n && (*at->p == ' ' || *at->p == '\n'))
        *at = tr_str(at->p + 1, at->n - 1);
    negative = at->n && *at->p == '-';
    if (negative)
        *at = tr_str(at->p + 1, at->n - 1);
    for (*v = 0; at->n && *at->p >= '0' && *at->p <= '9'; digits = true) {
        if (*v > (INT64_MAX - 9) / 10)
            *v = (INT64_MAX - 9) / 10;
        *v = *v * 10 + (*at->p - '0');
        *at = tr_str(at->p + 1, at->n - 1);
    }
    if (negative)
        *v = -*v;
    return digits;
}

static bool take_word(struct tr_str *at, const char *word)
{
    size_t n = strlen(word);

    while (at->n && (*at->p == ' ' || *at->p == '\n'))
        *at = tr_str(at->p + 1, at->n - 1);
    if (at->n < n || memcmp(at->p, word, n) != 0)
        return false;
    *at = tr_str(at->p + n, at->n - n);
    return true;
}

static bool take_key(struct tr_str *at, struct tr_key *key)
{
    static const char digits[] = "0123456789abcdef";

    while (at->n && *at->p == '\n')
        *at = tr_str(at->p + 1, at->n - 1);
    if (at->n < 2 * sizeof key->b)
        return false;
    for (size_t i = 0; i < 2 * sizeof key->b; i++) {
        const char *d = at->p[i] ? strchr(digits, at->p[i]) : NULL;

        if (!d)
            return false;
        key->b[i / 2] = (unsigned char)(key->b[i / 2] << 4 | (d - digits));
    }
    *at = tr_str(at->p + 2 * sizeof key->b, at->n - 2 * sizeof key->b);
    return true;
}

static bool take_numbers(struct tr_str *at, int64_t *v)
{
    for (int i = 0; i < TR_PURSES; i++)
        if (!take_number(at, &v[i]))
            return false;
    return true;
}

static bool take_all(struct tr_ledger *l, struct tr_str text)
{
    struct tr_str at = text;
    int64_t form, done, n;
    struct tr_key sum;
    char hex[17];

    if (!take_word(&at, NAME) || !take_number(&at, &form) || form < 1 ||
        form > FORM || !take_word(&at, "period") ||
        !take_number(&at, &l->period) || !take_number(&at, &n) || n < 0 ||
        n > TR_SHARES_MAX)
        return false;
    for (l->n = 0; l->n < n; l->n++) {
        struct tr_share *s = &l->shares[l->n];

        if (!take_key(&at, &s->store) || !take_number(&at, &s->round) ||
            !take_number(&at, &s->period) || !take_number(&at, &done) ||
            (form >= FORM_COMMITS && !take_number(&at, &s->commits)) ||
            !take_numbers(&at, s->since) ||
            (form >= FORM_LOST && !take_numbers(&at, s->lost)) ||
            !take_numbers(&at, s->carried) || !take_numbers(&at, s->held))
            return false;
        s->done = done != 0;
    }
    if (at.n && *at.p == '\n')
        at = tr_str(at.p + 1, at.n - 1);
    sum = tr_digest(NULL, tr_str(text.p, (size_t)(at.p - text.p)));
    tr_key_hex(&sum, 8, hex);
    return take_word(&at, "end ") && take_word(&at, hex);
}

static bool is_newer(struct tr_str text)
{
    int64_t form;

    return take_word(&text, NAME) && take_number(&text, &form) && form > FORM;
}

int tr_ledger_read(struct tr_ledger *l, struct tr_str text, const char *path,
                   struct tr_err *err)
{
    *l = (struct tr_ledger){0};
    if (text.n == 0 || take_all(l, text))
        return TR_OK;
    if (is_newer(text))
        return tr_fail(err, TR_CONFIG, "%s was written by a newer trommel, and "
                       "how much of the job's budget is used stands there: "
                       "upgrade trommel", path);
    return tr_fail(err, TR_CONFIG, "%s was changed or damaged: how much of the "
                   "job's budget is used is not known. Remove the file when "
                   "no run of the job is at work, and lower the budget by what "
                   "was spent (trommel store ls)", path);
}
