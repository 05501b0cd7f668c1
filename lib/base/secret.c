/* secret.c - a key in memory.
 *
 * libcurl keeps copies of its own and wipes none, so the program also switches
 * off core dumps and debuggers (cli/guard.c). What this page buys is that our
 * copy is not next to anything that can be read too far.
 *
 * SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <sodium.h>

#include <stddef.h>

#define MARK "[key]"
enum {
    PLAIN_MIN = 4,
    CODED_MIN = 8, /* shorter codes are found in innocent text */
    FORMS = 11,    /* plain, URL and hex in two cases, base64 at 3 offsets in
                      two alphabets */
};

struct tr_secret {
    size_t n;          /* of the value, which is the first form */
    size_t count;
    size_t at[FORMS];  /* where each form begins in text, NUL at its end */
    char text[];
};

static bool is_plain(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (c && strchr("-_.~", c));
}

static size_t write_url(char *out, struct tr_str value, const char *digits)
{
    size_t n = 0;

    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if (is_plain((char)c)) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = digits[c >> 4];
        out[n++] = digits[c & 15];
    }
    return n;
}

static size_t write_hex(char *out, struct tr_str value, const char *digits)
{
    for (size_t i = 0; i < value.n; i++) {
        out[2 * i] = digits[(unsigned char)value.p[i] >> 4];
        out[2 * i + 1] = digits[(unsigned char)value.p[i] & 15];
    }
    return 2 * value.n;
}

/* The characters of base64 that value alone decides when skip bytes of
 * something else, fewer than 3, stand before it. */
static size_t write_base64(char *out, struct tr_str value, size_t skip,
                           const char *alphabet)
{
    size_t bits = 8 * (skip + value.n), n = 0;

    for (size_t bit = (8 * skip + 5) / 6 * 6; bit + 6 <= bits; bit += 6) {
        unsigned six = 0;

        for (size_t i = bit; i < bit + 6; i++) {
            unsigned char c = (unsigned char)value.p[i / 8 - skip];

            six = six << 1 | (c >> (7 - i % 8) & 1u);
        }
        out[n++] = alphabet[six];
    }
    return n;
}

/* Closes the form that was written at the end, unless it is too short or
 * there already. */
static void keep_form(struct tr_secret *s, size_t *end, size_t n, size_t least)
{
    s->text[*end + n] = '\0';
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->text + s->at[i], s->text + *end) == 0)
            return;
    }
    if (n < least)
        return;
    s->at[s->count++] = *end;
    *end += n + 1;
}

static void write_forms(struct tr_secret *s, struct tr_str value)
{
    static const char *const digits[] = {"0123456789ABCDEF",
                                         "0123456789abcdef"};
#define LETTERS                                                                \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    static const char *const alphabets[] = {LETTERS "+/", LETTERS "-_"};
#undef LETTERS
    size_t end = 0;

    memcpy(s->text, value.p, value.n);
    keep_form(s, &end, value.n, 0);
    for (int i = 0; i < 2; i++) {
        keep_form(s, &end, write_url(s->text + end, value, digits[i]),
                  PLAIN_MIN);
        keep_form(s, &end, write_hex(s->text + end, value, digits[i]),
                  CODED_MIN);
        for (size_t skip = 0; skip < 3; skip++)
            keep_form(s, &end, write_base64(s->text + end, value, skip,
                                            alphabets[i]), CODED_MIN);
    }
}

struct tr_secret *tr_secret_new(struct tr_str value)
{
    /* The longest: 1 plain, 2 URL of 3 times, 2 hex of 2 times, 6 base64 of
     * less than 2 times its length. */
    size_t size = sizeof(struct tr_secret) + FORMS +
                  (1 + 2 * 3 + 2 * 2 + 6 * 2) * value.n;
    struct tr_secret *s = NULL;

    size += -size % _Alignof(max_align_t); /* it ends where the page does */
    if (sodium_init() >= 0)
        s = sodium_malloc(size);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    s->n = value.n;
    write_forms(s, value);
    return s;
}

const char *tr_secret_text(const struct tr_secret *s)
{
    return s ? s->text : "";
}

/* Writes the mark over n bytes at at; where it ends. A mark is never longer
 * than what it stands for, and never looked into again. */
static char *put_mark(char *at, size_t n)
{
    size_t mark = n < sizeof MARK - 1 ? n : sizeof MARK - 1;

    memcpy(at, MARK, mark);
    memmove(at + mark, at + n, strlen(at + n) + 1);
    return at + mark;
}

/* One form out of text, and its beginning at the end of a text that was cut:
 * surely when the text fills its room but for a character, else maybe. */
static void hide_form(const char *form, char *text, size_t size)
{
    size_t n = strlen(form), left, least;

    for (char *at = text; (at = strstr(at, form));)
        at = put_mark(at, n);
    left = strlen(text);
    least = left + 4 < size ? CODED_MIN : PLAIN_MIN;
    for (size_t k = n - 1; k >= least; k--) {
        if (k <= left && memcmp(text + left - k, form, k) == 0) {
            put_mark(text + left - k, k);
            return;
        }
    }
}

void tr_secret_hide(const struct tr_secret *s, char *text, size_t size)
{
    if (!s || s->n < PLAIN_MIN)
        return;
    for (size_t i = 0; i < s->count; i++)
        hide_form(s->text + s->at[i], text, size);
}

void tr_secret_free(struct tr_secret *s)
{
    sodium_free(s);
}

void tr_wipe(void *p, size_t n)
{
    sodium_memzero(p, n);
}
