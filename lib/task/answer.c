/* answer.c - the model's text into one checked label set per item.
 *
 * The text is read line by line. A line is one of
 *
 *   blank, or a code fence        skipped
 *   JSON with ids in it           pairs.c, may span lines
 *   ID SEPARATOR LABELS           a claim; the rules stand at read_line()
 *   anything else                 prose: skipped, but it can take back a
 *                                 claim made above it
 *
 * docs/internals/packing.md has the grammar and the reasons.
 *
 * SPDX-License-Identifier: MIT */
#include "task/answer.h"

#include "base/bounds.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "task/reading.h"

#define DIGITS_MAX 9
#define WRAPS_MAX 3       /* quotes or marks around a line or an id */
#define TAKE_BACKS_MAX 16 /* prose lines about claimed ids: then it is no
                             answer but a discussion */
#define PROSE_BYTES_MAX 4096 /* so is a longer line about one: all labels are
                                looked for in it */

/* ---- one line ----------------------------------------------------------- */

enum line { LINE_PROSE, LINE_LABEL, LINE_NO_LABEL, LINE_UNKNOWN_ID };

struct claim {
    uint64_t id;
    enum tr_match match;
    uint64_t set;
};

static bool digit(char c) { return c >= '0' && c <= '9'; }

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (unsigned char)c >= 0x80;
}

static void skip(struct tr_str *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

/* Skips one of words (NULL ends them); false when none is there. */
static bool skip_word(struct tr_str *s, const char *const *words)
{
    for (; *words; words++) {
        size_t n;

        if (!s->n || s->p[0] != **words)
            continue;
        n = strlen(*words);
        if (s->n >= n && memcmp(s->p, *words, n) == 0) {
            skip(s, n);
            return true;
        }
    }
    return false;
}

/* "- ", "* " and the like before, table bars around. */
static struct tr_str without_marker(struct tr_str s)
{
    static const char *const markers[] = {"- ",  "* ", "+ ",
                                          "> ",  "\xe2\x80\xa2 ", "-\t",
                                          "*\t", NULL};

    s = tr_utf8_trim(s);
    if (skip_word(&s, markers))
        s = tr_utf8_trim(s);
    if (s.n > 1 && s.p[0] == '|') {
        skip(&s, 1);
        if (s.p[s.n - 1] == '|')
            s.n--;
        s = tr_utf8_trim(s);
    }
    return s;
}

/* The id that begins a line and what follows it. */
struct head {
    uint64_t id;
    size_t digits;
    bool canonical;      /* no leading zero */
    bool numbered;       /* "1." or "1)": perhaps the number of a list */
    struct tr_str plain; /* what follows at once: ID LABEL */
    struct tr_str rest;  /* what follows after a separator: ID: LABEL */
    bool after_blank;    /* a blank follows the id */
};

static bool read_head(struct tr_str s, struct head *h)
{
    static const char *const id_words[] = {"ID ", "Id ", "id ", "ID:", "Id:",
                                           "id:", "ID",  "id",  NULL};
    static const char *const separators[] = {
        "->", "=>", "\xe2\x86\x92", ":", "\xe2\x80\x93", "\xe2\x80\x94",
        "-",  "=",  ",", "|",
        "\xef\xbc\x9a", "\xef\xbc\x8c", /* full-width colon and comma */
        NULL};
    char open = 0;
    struct tr_str before;

    *h = (struct head){0};
    for (int i = 0; i < WRAPS_MAX && s.n && strchr("#([*\"'`_", s.p[0]); i++) {
        if (s.p[0] == '[' || s.p[0] == '(')
            open = s.p[0] == '[' ? ']' : ')';
        skip(&s, 1);
    }
    if (skip_word(&s, id_words))
        s = tr_utf8_trim(s);
    if (s.n == 0 || !digit(s.p[0]))
        return false;
    h->canonical = s.p[0] != '0';
    while (s.n && digit(s.p[0])) {
        if (++h->digits > DIGITS_MAX)
            return false;
        h->id = h->id * 10 + (uint64_t)(s.p[0] - '0');
        skip(&s, 1);
    }
    for (int i = 0; i < WRAPS_MAX && s.n && strchr("])*\"'`_", s.p[0]); i++) {
        if (s.p[0] == open)
            open = 0;
        else if (s.p[0] == ')')
            h->numbered = true;
        skip(&s, 1);
    }
    before = s;
    s = tr_utf8_trim(s);
    h->after_blank = s.n < before.n;
    h->plain = s;
    if (!h->after_blank && s.n && s.p[0] == '.') {
        if (s.n > 1 && s.p[1] != ' ' && s.p[1] != '\t')
            return false; /* 4.5 is no id */
        h->numbered = true;
        skip(&s, 1);
    } else if (!skip_word(&s, separators) && !h->after_blank && s.n &&
               !h->numbered && s.p == before.p && letter(s.p[0])) {
        return false; /* 4th, 3D */
    }
    h->rest = tr_utf8_trim(s);
    if (open) { /* [417, refund] needs its other bracket */
        while (h->rest.n && strchr(",;", h->rest.p[h->rest.n - 1]))
            h->rest = tr_utf8_trim(tr_str(h->rest.p, h->rest.n - 1));
        if (h->rest.n && h->rest.p[h->rest.n - 1] == open)
            h->rest = tr_utf8_trim(tr_str(h->rest.p, h->rest.n - 1));
        else
            h->rest.n = 0;
        h->plain.n = 0;
    }
    return true;
}

/* "417-1", or with a longer dash: a separator, or the sign of a label "-1"? */
static bool maybe_signed(const struct tr_task *task, struct tr_str line,
                         struct tr_str rest)
{
    static const char *const dashes[] = {"-", "\xe2\x80\x93", "\xe2\x80\x94"};
    struct tr_str before = tr_str(line.p, (size_t)(rest.p - line.p));
    char name[1 + TR_LABEL_BYTES_MAX] = "-";
    size_t n = 0;
    uint32_t label;

    while (n < rest.n && n + 1 < sizeof name && !strchr("|,", rest.p[n])) {
        name[n + 1] = rest.p[n];
        n++;
    }
    for (size_t i = 0; i < sizeof dashes / sizeof *dashes; i++)
        if (tr_str_ends(before, dashes[i]))
            return tr_match_label(task, tr_str(name, n + 1), &label) !=
                   TR_MATCH_NOT;
    return false;
}

static enum line read_claim(struct tr_reading *r, struct tr_str s, int depth,
                            struct claim *c)
{
    struct claim inner;
    struct head h;
    bool drawn;

    s = without_marker(s);
    if (!read_head(s, &h))
        return LINE_PROSE;
    drawn = h.canonical && tr_find_item(r, h.id) >= 0;
    c->id = h.id;
    c->match = TR_MATCH_NOT;
    if (h.after_blank && h.plain.n)
        c->match = tr_match_labels(r, h.plain, &c->set);
    if (c->match == TR_MATCH_NOT && r->rc == TR_OK && h.rest.n &&
        !maybe_signed(r->task, s, h.rest))
        c->match = tr_match_labels(r, h.rest, &c->set);
    if (c->match != TR_MATCH_NOT)
        return drawn ? LINE_LABEL : LINE_UNKNOWN_ID;
    if (h.numbered && depth == 0 && r->rc == TR_OK) {
        enum line what = read_claim(r, h.rest, 1, &inner);

        if (what != LINE_PROSE && drawn)
            return LINE_UNKNOWN_ID; /* two ids: a number of a list or one? */
        if (what != LINE_PROSE) {
            *c = inner;
            return what;
        }
    }
    if (drawn)
        return LINE_NO_LABEL;
    /* Ids have three digits; other numbers begin sentences and lists too. */
    return h.digits == 3 ? LINE_UNKNOWN_ID : LINE_PROSE;
}

/* ID SEPARATOR LABELS, with list markers, quotes and marks around the id or
 * the line forgiven:
 *   id drawn, labels known        a claim
 *   id drawn, anything else       the item's answer is invalid
 *   id not drawn, labels known    void
 *   three digits not drawn        void
 *   any other number              prose, or the number of a list before one
 *                                 of the above */
static enum line read_line(struct tr_reading *r, struct tr_str s,
                           struct claim *c)
{
    enum line first = read_claim(r, s, 0, c);
    struct claim other;

    /* **417: refund** and `417 refund` have marks around the whole. */
    s = without_marker(s);
    for (int i = 0; i < WRAPS_MAX && first != LINE_LABEL && r->rc == TR_OK &&
                    tr_unwrap(&s);
         i++) {
        enum line what = read_claim(r, s, 0, &other);

        if (what == LINE_LABEL)
            other.match = TR_MATCH_FORGIVEN;
        if (what == LINE_LABEL || first == LINE_PROSE) {
            first = what;
            *c = other;
        }
    }
    return first;
}

/* ---- prose -------------------------------------------------------------- */

static bool same_nocase(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char x = a[i], y = b[i];

        x = (char)(x >= 'A' && x <= 'Z' ? x + 32 : x);
        y = (char)(y >= 'A' && y <= 'Z' ? y + 32 : y);
        if (x != y)
            return false;
    }
    return true;
}

/* Is byte i of a letter or digit? Beyond ASCII all from U+00C0 to U+1FFF are;
 * before are signs, and behind, too, and scripts without blanks between words
 * (Chinese) or with endings at all of them (Korean). */
static bool word_part(struct tr_str line, size_t i)
{
    unsigned char lead;

    while (i > 0 && ((unsigned char)line.p[i] & 0xc0) == 0x80)
        i--;
    lead = (unsigned char)line.p[i];
    if (lead < 0x80)
        return letter(line.p[i]) || digit(line.p[i]);
    return lead > 0xc2 && lead < 0xe2;
}

/* Does the line have this name in it, as words of their own? */
static bool mentions(struct tr_str line, struct tr_str name)
{
    for (size_t i = 0; i + name.n <= line.n; i++)
        if (same_nocase(line.p + i, name.p, name.n) &&
            (i == 0 || !word_part(line, i - 1)) &&
            (i + name.n == line.n || !word_part(line, i + name.n)))
            return true;
    return false;
}

static bool mentions_other_label(const struct tr_reading *r,
                                 struct tr_str line, uint64_t set)
{
    const uint32_t *labels;
    uint32_t n = tr_task_set_labels(r->task, set, &labels), k = 0;

    for (uint32_t i = 0; i < r->task->label_count; i++) {
        while (k < n && labels[k] < i)
            k++;
        if ((k == n || labels[k] != i) &&
            mentions(line, r->task->labels[i].name))
            return true;
    }
    return false;
}

/* "Correction: 417 should be bug" after "417 refund": neither counts. */
static void read_prose(struct tr_reading *r, struct tr_str line, int *left)
{
    size_t i = 0;

    while (i < line.n && tr_may_go_on(r)) {
        uint64_t id = 0;
        size_t from = i;
        ptrdiff_t item;

        while (i < line.n && digit(line.p[i]) && i - from < DIGITS_MAX)
            id = id * 10 + (uint64_t)(line.p[i++] - '0');
        if (i == from) {
            i++;
            continue;
        }
        item = (i < line.n && word_part(line, i)) ||
                       (from > 0 && word_part(line, from - 1))
                   ? -1
                   : tr_find_item(r, id);
        if (item < 0 || r->said[item].result != TR_ITEM_OK)
            continue;
        if (--*left < 0 || line.n > PROSE_BYTES_MAX)
            r->void_why = "a discussion instead of an answer";
        else if (mentions_other_label(r, line, r->said[item].set))
            r->said[item].result = TR_ITEM_INVALID;
    }
}

/* ---- the whole text ----------------------------------------------------- */

/* Where JSON may begin in a line: at its start, after a list marker, after
 * ':' or a code mark. SIZE_MAX: nowhere. */
static size_t json_start(struct tr_str line)
{
    struct tr_str s = without_marker(line), before;
    size_t at;

    if (s.n && (s.p[0] == '[' || s.p[0] == '{'))
        return (size_t)(s.p - line.p);
    for (at = 0; at < line.n && line.p[at] != '[' && line.p[at] != '{'; at++)
        ;
    if (at == line.n)
        return SIZE_MAX;
    before = tr_utf8_trim(tr_str(line.p, at));
    if (before.n >= 4 && memcmp(before.p + before.n - 4, "json", 4) == 0)
        before.n -= 4;
    if (before.n && (before.p[before.n - 1] == ':' ||
                     before.p[before.n - 1] == '`'))
        return at;
    return SIZE_MAX;
}

/* End of the line that byte `at` stands in; its line feed, or the end. */
static size_t line_end(struct tr_str text, size_t at)
{
    const char *nl = at < text.n ? memchr(text.p + at, '\n', text.n - at)
                                 : NULL;

    return nl ? (size_t)(nl - text.p) : text.n;
}

/* JSON from here on, as long as it goes; true when it was an answer. *next:
 * where to read on. */
static bool read_json_lines(struct tr_reading *r, struct tr_str text,
                            size_t from, size_t *next)
{
    size_t start = *next, at;
    bool any = false;

    at = json_start(tr_str(text.p + start, from - start));
    if (at == SIZE_MAX)
        return false;
    at += start;
    while (tr_may_go_on(r) && at < text.n &&
           (text.p[at] == '[' || text.p[at] == '{')) {
        enum tr_json what = tr_read_json(r, text, &at);

        if (what == TR_JSON_NOT)
            break;
        any = true;
        if (what == TR_JSON_STUCK) {
            /* Lines go on where it got stuck, once past this one. */
            size_t line = at;

            while (line > start && text.p[line - 1] != '\n')
                line--;
            *next = line > from ? line : line_end(text, at) + 1;
            return true;
        }
        while (at < text.n && text.p[at] != '\n' &&
               strchr(" \t\r,;`", text.p[at]))
            at++;
    }
    if (any)
        *next = line_end(text, at) + 1;
    return any;
}

/* What reasoning models put before their answer. Where the template of a model
 * writes the opening tag, only the closing one is in the text. */
static size_t skip_thoughts(struct tr_str text)
{
    static const char close[] = "</think>";
    bool opened = tr_str_begins(tr_utf8_trim(text), "<think>");
    struct tr_str rest = text;
    size_t at = opened ? text.n : 0, found;

    while ((found = tr_str_find(rest, close)) < rest.n) {
        found += sizeof close - 1;
        rest = tr_str(rest.p + found, rest.n - found);
        at = text.n - rest.n;
        if (opened)
            break;
    }
    return at;
}

/* One text was asked about, and the whole answer is one label. */
static void read_bare_label(struct tr_reading *r, struct tr_str only)
{
    uint64_t set = 0;

    if (tr_match_labels(r, only, &set) != TR_MATCH_NOT)
        tr_claim(r, r->items[0].id, TR_MATCH_FORGIVEN, set);
}

static void read_text(struct tr_reading *r, struct tr_str text)
{
    struct tr_str only = {0};
    size_t at = skip_thoughts(text), lines = 0;
    int left = TAKE_BACKS_MAX;
    bool unknown = false;

    while (at < text.n && tr_may_go_on(r)) {
        size_t end = line_end(text, at);
        struct tr_str line = tr_utf8_trim(tr_str(text.p + at, end - at));
        bool complete = end < text.n || !r->truncated;
        struct claim c = {0};

        if (line.n == 0 || (line.n >= 3 && line.n < 12 &&
                            memcmp(line.p, "```", 3) == 0)) {
            at = end + 1;
            continue;
        }
        lines++;
        if (read_json_lines(r, text, end, &at))
            continue;
        at = end + 1;
        if (!complete)
            break;
        switch (read_line(r, line, &c)) {
        case LINE_LABEL:
            tr_claim(r, c.id, c.match, c.set);
            break;
        case LINE_NO_LABEL:
            tr_claim(r, c.id, TR_MATCH_NOT, 0);
            break;
        case LINE_UNKNOWN_ID: /* or a label that looks like one */
            unknown = true;
            only = line;
            break;
        case LINE_PROSE:
            only = line;
            read_prose(r, line, &left);
            break;
        }
    }
    if (r->n == 1 && lines == 1 && only.n && r->claims == 0 &&
        !r->truncated && tr_may_go_on(r)) {
        read_bare_label(r, only);
        unknown = unknown && !r->claims;
    }
    if (unknown && !r->void_why)
        r->void_why = "an id that was not asked about";
}

/* [id, its own text] where the text is a label's name: an answer, unless the
 * model has repeated other data too, or was cut off before it could. */
static void settle_echoes(struct tr_reading *r)
{
    for (size_t i = 0; i < r->n && tr_may_go_on(r); i++)
        if (r->said[i].echo && r->echoes == 0 && !r->truncated)
            tr_claim(r, r->items[i].id, TR_MATCH_EXACT, r->said[i].echo_set);
}

static void report(const struct tr_reading *r, struct tr_answer *answer,
                   struct tr_item_answer *out)
{
    answer->is_void = r->void_why != NULL;
    answer->void_why = r->void_why;
    for (size_t i = 0; i < r->n; i++) {
        const struct tr_said *said = &r->said[i];

        out[i] = (struct tr_item_answer){.result = TR_ITEM_MISSING};
        if (answer->is_void) {
            answer->missing++;
            continue;
        }
        out[i].result = said->result;
        out[i].set = said->result == TR_ITEM_OK ? said->set : 0;
        answer->ok += said->result == TR_ITEM_OK;
        answer->missing += said->result == TR_ITEM_MISSING;
        answer->invalid += said->result == TR_ITEM_INVALID;
        answer->forgiven += said->result == TR_ITEM_OK && said->forgiven;
    }
}

int tr_answer_read(struct tr_answer *answer, struct tr_item_answer *out,
                   struct tr_task *task, const struct tr_item *items, size_t n,
                   struct tr_str text, bool truncated, struct tr_err *err)
{
    struct tr_reading r = {.task = task,
                           .items = items,
                           .n = n,
                           .truncated = truncated,
                           .err = err};

    *answer = (struct tr_answer){0};
    r.said = tr_array(n ? n : 1, sizeof *r.said);
    if (!r.said)
        return tr_fail(err, TR_NOMEM, "out of memory for an answer");
    if (text.n > TR_REPLY_BYTES_MAX)
        r.void_why = "far too long";
    else
        read_text(&r, text);
    settle_echoes(&r);
    report(&r, answer, out);
    tr_free(r.labels);
    tr_free(r.said);
    return r.rc;
}
