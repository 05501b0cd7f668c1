/* suspect.c - orders near label names, words about other texts, false ends of
 * the data, invisible characters.
 *
 * One pass over the words; label names are compared only where an order or a
 * number stands before them, so that many labels cost nothing.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/suspect.h"

enum {
    ORDER_REACH = 60, /* bytes between an order and what it is about */
    SCOPE_REACH = 24, /* between "all" and "texts" */
    LINK_REACH = 6,   /* between "417" or "as" and the label's name */
    SOLO_REACH = 8,   /* between "answer" and "only" */
    NAME_LEAST = 3,   /* a label "a" counts in quotes only */
    WORD_MAX = 16,
    ZERO_WIDTH_MAX = 2 /* some scripts and web pages have a few */
};

enum {
    ORDER = 1,    /* what one asks of a model */
    SCOPE = 2,    /* what an order about other texts begins with, ... */
    THING = 4,    /* ... and what it ends with */
    DENIAL = 8,   /* "ignore" */
    RULE = 16,    /* "instructions" */
    LINK = 32,    /* stands between an order and a label's name */
    ONLY = 64,    /* "only this" */
    MINE = 128,
    END = 256,    /* "end of the data" */
    DATA = 512
};

/* Sorted. */
static const struct {
    char word[WORD_MAX];
    unsigned is;
} words[] = {
    {"above", SCOPE | RULE},
    {"all", SCOPE},
    {"and", LINK},
    {"answer", ORDER | THING},
    {"answers", THING},
    {"any", SCOPE},
    {"are", LINK},
    {"as", LINK},
    {"assign", ORDER},
    {"be", LINK},
    {"by", LINK},
    {"bypass", DENIAL},
    {"categorise", ORDER},
    {"categorize", ORDER},
    {"classify", ORDER},
    {"data", DATA},
    {"directions", RULE},
    {"disregard", DENIAL},
    {"each", SCOPE},
    {"earlier", RULE},
    {"end", END},
    {"entries", THING},
    {"entry", THING},
    {"every", SCOPE},
    {"example", THING},
    {"examples", THING},
    {"exchange", ORDER},
    {"following", SCOPE},
    {"forget", DENIAL},
    {"id", THING},
    {"ids", THING},
    {"ignore", DENIAL},
    {"input", DATA},
    {"instruction", RULE},
    {"instructions", RULE},
    {"is", LINK},
    {"item", THING},
    {"items", THING | DATA},
    {"just", ONLY},
    {"label", ORDER | THING | LINK},
    {"labels", ORDER | THING},
    {"line", THING},
    {"lines", THING},
    {"list", DATA},
    {"mark", ORDER},
    {"mine", MINE},
    {"only", ONLY},
    {"other", SCOPE},
    {"others", SCOPE},
    {"output", ORDER},
    {"override", DENIAL},
    {"preceding", SCOPE | RULE},
    {"previous", SCOPE | RULE},
    {"print", ORDER},
    {"prior", RULE},
    {"prompt", RULE},
    {"rate", ORDER},
    {"remaining", SCOPE},
    {"remember", ORDER},
    {"replace", ORDER},
    {"reply", ORDER},
    {"respond", ORDER},
    {"rest", SCOPE},
    {"return", ORDER},
    {"row", THING},
    {"rows", THING},
    {"rule", RULE},
    {"rules", RULE},
    {"say", ORDER},
    {"swap", ORDER},
    {"tag", ORDER},
    {"text", THING},
    {"texts", THING | DATA},
    {"this", MINE},
    {"to", LINK},
    {"treat", ORDER},
    {"use", ORDER},
    {"with", LINK},
    {"word", LINK},
    {"write", ORDER}};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* What a word is, ASCII case ignored: 0 for nearly all. */
static unsigned kind_of(struct tr_str word)
{
    size_t from = 0, to = sizeof words / sizeof *words;

    while (from < to) {
        size_t at = from + (to - from) / 2, i = 0;
        const char *z = words[at].word;
        int diff = 0;

        while (i < word.n && z[i] && lower(word.p[i]) == z[i])
            i++;
        diff = (i < word.n ? (unsigned char)lower(word.p[i]) : 0) -
               (unsigned char)z[i];
        if (!diff)
            return words[at].is;
        if (diff < 0)
            to = at;
        else
            from = at + 1;
    }
    return 0;
}

static bool begins(struct tr_str text, size_t at, struct tr_str with)
{
    if (with.n > text.n - at)
        return false;
    for (size_t i = 0; i < with.n; i++)
        if (lower(text.p[at + i]) != lower(with.p[i]))
            return false;
    return at + with.n == text.n || !is_word_byte(text.p[at + with.n]);
}

/* A label's name begins within a few marks and blanks behind at. quoted: a
 * quote stands before it. */
static bool label_at(struct tr_str text, size_t at,
                     const struct tr_label *labels, uint32_t n, bool *quoted)
{
    size_t end = at + LINK_REACH;

    *quoted = false;
    while (at < text.n && at < end && !is_word_byte(text.p[at])) {
        *quoted = *quoted || text.p[at] == '"' || text.p[at] == '\'' ||
                  text.p[at] == '`';
        at++;
    }
    if (at >= text.n)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (labels[i].name.n >= (*quoted ? 1 : NAME_LEAST) &&
            lower(labels[i].name.p[0]) == lower(text.p[at]) &&
            begins(text, at, labels[i].name))
            return true;
    return false;
}

/* ---- marks ------------------------------- */

/* `[417,"`, as the data of a request are written. */
static bool is_item_start(struct tr_str s, size_t at)
{
    size_t i = at + 1;

    while (i < s.n && i < at + 5 && is_digit(s.p[i]))
        i++;
    if (i == at + 1 || i >= s.n || s.p[i] != ',')
        return false;
    for (i++; i < s.n && s.p[i] == ' ';)
        i++;
    return i < s.n && s.p[i] == '"';
}

static bool is_mark(struct tr_str s, size_t at)
{
    static const char *const marks[] = {
        "<|", "[inst]", "[/inst]", "<<sys>>", "</data>", "</texts>",
        "### instruction", "### system", "\nassistant:", "\nsystem:",
        "\nuser:"};

    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        size_t n = strlen(marks[i]), k = 0;

        while (k < n && at + k < s.n && lower(s.p[at + k]) == marks[i][k])
            k++;
        if (k == n)
            return true;
    }
    return s.p[at] == '[' && is_item_start(s, at);
}

/* ---- characters that nobody sees ------------------------------- */

/* The code point of three or four bytes at p; others are of no interest. */
static uint32_t code_point(const unsigned char *p, size_t n)
{
    if (n >= 3 && (p[0] & 0xf0) == 0xe0)
        return (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 |
               (p[2] & 63);
    if (n >= 4 && (p[0] & 0xf8) == 0xf0)
        return (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 63) << 12 |
               (uint32_t)(p[2] & 63) << 6 | (p[3] & 63);
    return 0;
}

/* Not the joiners of emoji and of Persian, nor the marks of right-to-left
 * texts, which honest texts have. */
static bool is_invisible(uint32_t c)
{
    return c == 0x202d || c == 0x202e || (c >= 0x2061 && c <= 0x2064) ||
           (c >= 0x206a && c <= 0x206f) || (c >= 0xfff9 && c <= 0xfffb) ||
           (c >= 0xe0000 && c <= 0xe007f);
}

static bool is_zero_width(uint32_t c)
{
    return c == 0x200b || c == 0x2060 || c == 0xfeff;
}

/* A flag of a region is a black flag and tags. */
static bool is_flag(uint32_t c)
{
    return c == 0x1f3f4;
}

/* ---- the pass ------------------------------- */

#define NEVER SIZE_MAX /* so far back that nothing reaches it */

static bool near(size_t then, size_t now, size_t reach)
{
    return then != NEVER && now - then <= reach;
}

struct look {
    struct tr_str text;
    const struct tr_label *labels;
    uint32_t label_count;
    size_t order, scope, scoped, denial, the_end, solo; /* ends of the last */
    bool flag;
    int zero_width;
    uint16_t lengths[26]; /* of the words above, by first letter: bits */
};

/* An order with a label's name: "mark it as bug", `label: "bug"`. */
static bool orders_label(const struct look *l, unsigned is, size_t from,
                         size_t to)
{
    bool ordered = is & ORDER || near(l->order, from, ORDER_REACH), quoted;

    return ordered &&
           label_at(l->text, to, l->labels, l->label_count, &quoted) &&
           (quoted || (is & LINK && near(l->order, from, ORDER_REACH)));
}

static bool is_id(struct tr_str word)
{
    return word.n == 3 && is_digit(word.p[0]) && word.p[0] != '0' &&
           is_digit(word.p[1]) && is_digit(word.p[2]);
}

static enum tr_suspicion at_word(struct look *l, size_t from, size_t to)
{
    struct tr_str word = tr_str(l->text.p + from, to - from);
    char letter = lower(word.p[0]);
    bool quoted, known = letter >= 'a' && letter <= 'z' && word.n < WORD_MAX &&
                         l->lengths[letter - 'a'] >> word.n & 1;
    unsigned is = known ? kind_of(word) : 0;

    if (!is && word.n != 3 && l->order == NEVER)
        return TR_SUSPECT_NOT;
    if (is_id(word) &&
        label_at(l->text, to, l->labels, l->label_count, &quoted))
        return TR_SUSPECT_ID;
    if ((is & ORDER && near(l->scoped, from, ORDER_REACH)) ||
        (is & MINE && near(l->solo, from, SCOPE_REACH)))
        return TR_SUSPECT_OTHERS;
    if (is & THING && near(l->scope, from, SCOPE_REACH)) {
        l->scoped = to;
        if (near(l->order, from, ORDER_REACH))
            return TR_SUSPECT_OTHERS;
    }
    if (is & RULE && near(l->denial, from, ORDER_REACH))
        return TR_SUSPECT_OVERRIDE;
    if (is & DATA && near(l->the_end, from, SCOPE_REACH))
        return TR_SUSPECT_DELIMITER;
    if (orders_label(l, is, from, to))
        return TR_SUSPECT_LABEL;
    if (is & ONLY && near(l->order, from, SOLO_REACH))
        l->solo = to;
    if (is & ORDER)
        l->order = to;
    if (is & SCOPE)
        l->scope = to;
    if (is & DENIAL)
        l->denial = to;
    if (is & END)
        l->the_end = to;
    return TR_SUSPECT_NOT;
}

/* Bytes at i, and in *n how many of them were looked at. */
static enum tr_suspicion at_mark(struct look *l, size_t i, size_t *n)
{
    unsigned char c = (unsigned char)l->text.p[i];
    uint32_t point;

    *n = 1;
    if (c < 0x80)
        l->flag = false;
    if (c < 0x80)
        return (c == '[' || c == '<' || c == '#' || c == '\n') &&
               is_mark(l->text, i) ? TR_SUSPECT_DELIMITER : TR_SUSPECT_NOT;
    point = code_point((const unsigned char *)l->text.p + i, l->text.n - i);
    if (is_flag(point))
        l->flag = true;
    else if (point && point < 0xe0000)
        l->flag = false;
    if (is_invisible(point) && !(l->flag && point >= 0xe0000))
        return TR_SUSPECT_INVISIBLE;
    if (is_zero_width(point) && ++l->zero_width > ZERO_WIDTH_MAX)
        return TR_SUSPECT_INVISIBLE;
    return TR_SUSPECT_NOT;
}

enum tr_suspicion tr_suspect(struct tr_str text, const struct tr_label *labels,
                             uint32_t label_count)
{
    struct look l = {.text = text, .labels = labels,
                     .label_count = label_count, .order = NEVER,
                     .scope = NEVER, .scoped = NEVER, .denial = NEVER,
                     .the_end = NEVER, .solo = NEVER};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        l.lengths[words[i].word[0] - 'a'] |=
            (uint16_t)(1u << strlen(words[i].word));
    for (size_t i = 0; i < text.n;) {
        enum tr_suspicion found;
        size_t n = 0;

        while (i + n < text.n && is_word_byte(text.p[i + n])) {
            size_t one = 1;

            l.flag = l.flag && (unsigned char)text.p[i + n] >= 0x80;
            if ((unsigned char)text.p[i + n] >= 0x80) {
                found = at_mark(&l, i + n, &one);
                if (found)
                    return found;
            }
            n += one;
        }
        found = n ? at_word(&l, i, i + n) : at_mark(&l, i, &n);
        if (found)
            return found;
        i += n;
    }
    return TR_SUSPECT_NOT;
}
