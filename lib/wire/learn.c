/* learn.c - efforts by name, and what a 400 teaches about request fields.
 *
 * Every step makes something smaller (a field less, an effort higher), so
 * that learning ends. Which words of a message mean which field is the
 * dialect's to say.
 *
 * SPDX-License-Identifier: MIT */
#include "base/utf8.h"
#include "wire/provider.h"

#include <stdio.h>

/* A server that refuses the same field in that many replies in a row, though
 * it is not sent any more, means something else. */
#define STALE_MAX 256

/* ---- names ------------------------------------------------------------ */

static const char *const effort_names[] = {
#define X(name) #name,
    TR_EFFORTS(X)
#undef X
};

const char *tr_effort_name(int effort)
{
    return effort >= 0 && effort < TR_EFFORT_COUNT ? effort_names[effort] : "";
}

int tr_effort_find(struct tr_str name)
{
    for (int i = 0; i < TR_EFFORT_COUNT; i++) {
        if (tr_str_eq_c(name, effort_names[i]))
            return i;
    }
    return -1;
}

/* ---- learning from a 400 ---------------------------------------------- */

static bool holds(const char *text, const char *word)
{
    return strstr(text, word) != NULL;
}

/* "Extra inputs are not permitted", "Unsupported parameter", ... as opposed to
 * "max_tokens is too large". */
static bool is_unknown_field(const struct tr_wire_error *e)
{
    static const char *const words[] = {
        "nsupported",     "not supported", "ot support",  "nknown",
        "nrecognized",    "xtra inputs",   "not permitted",
        "extra_forbidden", "nexpected",    "not allowed",
    };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (holds(e->message, words[i]) || holds(e->code, words[i]) ||
            holds(e->type, words[i]))
            return true;
    }
    return false;
}

/* The field that is meant: by param, else the first one in the message. */
static unsigned field_of(const struct tr_wire_error *e,
                         const struct tr_field_word *words)
{
    const char *first = NULL;
    unsigned field = 0;

    for (; words->word; words++) {
        const char *at = strstr(e->message, words->word);

        if (holds(e->param, words->word))
            return words->field;
        if (at && (!first || at < first)) {
            first = at;
            field = words->field;
        }
    }
    return first ? field : 0;
}

/* The efforts in quotes or in capitals after p, as a mask. */
static unsigned efforts_in(const char *p)
{
    unsigned mask = 0;
    char word[16];

    for (int i = 0; i < TR_EFFORT_COUNT; i++) {
        for (const char *q = "'\"`"; *q; q++) {
            snprintf(word, sizeof word, "%c%s%c", *q, effort_names[i], *q);
            if (holds(p, word))
                mask |= 1u << i;
        }
        snprintf(word, sizeof word, " %s ", effort_names[i]);
        for (char *c = word; *c; c++)
            *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 0x20) : *c;
        if (holds(p, word))
            mask |= 1u << i;
    }
    return mask;
}

static int lowest(unsigned mask)
{
    for (int i = 0; i < TR_EFFORT_COUNT; i++) {
        if (mask >> i & 1)
            return i;
    }
    return -1;
}

/* The next effort worth trying after a refusal; true when q changed. */
static bool adapt_effort(struct tr_quirks *q, const struct tr_wire_error *e)
{
    const char *list = strstr(e->message, "values are");
    unsigned named = efforts_in(e->message), taken;
    int before = q->effort;

    if (!list)
        list = strstr(e->message, "one of");
    if (!list)
        list = strstr(e->message, "should be");
    taken = list ? efforts_in(list) : 0;
    if (before < 0 || q->effort_style == TR_STYLE_omit)
        return false;
    if (!taken && named && !(named >> before & 1))
        return false; /* about a value that is not sent any more */
    if (taken)
        q->efforts = taken;
    else if (q->effort_style == TR_STYLE_field &&
             (named || strcmp(e->code, "unsupported_value") == 0))
        q->efforts &= ~(1u << before);
    else if (q->effort_style == TR_STYLE_budget && !is_unknown_field(e))
        q->efforts &= ~(1u << before);
    else
        q->efforts = 0; /* the field itself is refused */
    q->effort = lowest(q->efforts);
    if (q->effort != before)
        q->refused |= TR_FIELD_EFFORT;
    return q->effort != before;
}

static bool adapt_cap(struct tr_quirks *q, unsigned field)
{
    bool old = field == TR_FIELD_NEW_CAP;
    unsigned other = old ? TR_FIELD_OLD_CAP : TR_FIELD_NEW_CAP;

    if (q->old_cap == old || q->refused & other)
        return false;
    q->refused |= field;
    q->old_cap = old;
    return true;
}

/* Whether a request written with q as it is now would send the field. */
static bool is_sent(const struct tr_quirks *q, unsigned field)
{
    switch (field) {
    case TR_FIELD_NEW_CAP: return !q->old_cap;
    case TR_FIELD_OLD_CAP: return q->old_cap;
    case TR_FIELD_SCHEMA: return !q->no_schema;
    case TR_FIELD_EFFORT: return q->effort >= 0;
    case TR_FIELD_TEMPERATURE: return q->zero_temperature;
    case TR_FIELD_CACHE: return !q->no_cache;
    case TR_FIELD_OFF: return q->effort == TR_EFFORT_none;
    }
    return false;
}

static bool adapt_field(struct tr_quirks *q, const struct tr_wire_error *e,
                        unsigned field)
{
    switch (field) {
    case TR_FIELD_NEW_CAP:
    case TR_FIELD_OLD_CAP:
        return is_unknown_field(e) && adapt_cap(q, field);
    case TR_FIELD_SCHEMA:
        q->no_schema = true;
        break;
    case TR_FIELD_TEMPERATURE:
        q->zero_temperature = false;
        break;
    case TR_FIELD_CACHE:
        q->no_cache = true;
        break;
    case TR_FIELD_OFF:
        q->efforts &= ~(1u << TR_EFFORT_none);
        q->effort = lowest(q->efforts);
        break;
    case TR_FIELD_EFFORT:
        return adapt_effort(q, e);
    }
    q->refused |= field;
    return true;
}

void tr_wire_adapt(struct tr_quirks *q, const struct tr_field_word *words,
                   const struct tr_wire_error *e, struct tr_reply *reply)
{
    unsigned field = field_of(e, words);
    bool sent = is_sent(q, field);

    if (!field)
        return;
    if (field & (TR_FIELD_EFFORT | TR_FIELD_OFF) && q->effort_fixed) {
        reply->outcome = TR_OUT_FATAL;
        snprintf(reply->message, sizeof reply->message,
                 "this model does not take --effort %s: %.220s",
                 tr_effort_name(q->effort), e->message);
        tr_utf8_tame(reply->message); /* the cut may have halved a character */
        return;
    }
    if (sent && adapt_field(q, e, field)) {
        q->stale = 0;
        reply->outcome = TR_OUT_ADAPT;
    } else if (q->refused & field && q->stale++ < STALE_MAX) {
        reply->outcome = TR_OUT_ADAPT; /* written before we learned */
    }
}
