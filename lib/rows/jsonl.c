/* jsonl.c - the members of a JSON object on one line, as they are spelled.
 * SPDX-License-Identifier: MIT */
#include "rows/jsonl.h"

#include "base/bounds.h"

#include <stdint.h>

struct cursor {
    const char *p, *end;
    const char *what; /* first fault, NULL: none */
};

static bool fault(struct cursor *c, const char *what)
{
    if (!c->what)
        c->what = what;
    return false;
}

static void blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\r' ||
                             *c->p == '\n'))
        c->p++;
}

static bool next_is(struct cursor *c, char want)
{
    blanks(c);
    if (c->p == c->end || *c->p != want)
        return false;
    c->p++;
    return true;
}

static bool is_hex(char ch)
{
    return (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'f') ||
           (ch >= 'A' && ch <= 'F');
}

/* c->p stands after the opening quote. */
static bool string(struct cursor *c)
{
    while (c->p < c->end) {
        unsigned char ch = (unsigned char)*c->p;

        if (ch == '"') {
            c->p++;
            return true;
        }
        if (ch < 0x20)
            return fault(c, "a control character must be written as \\u00xx");
        if (ch != '\\') {
            c->p++;
            continue;
        }
        if (c->end - c->p < 2)
            break;
        if (c->p[1] == 'u') {
            for (int i = 2; i < 6; i++) {
                if (c->end - c->p <= i || !is_hex(c->p[i]))
                    return fault(c, "\\u needs four hexadecimal digits");
            }
            c->p += 6;
        } else if (c->p[1] && strchr("\"\\/bfnrt", c->p[1])) {
            c->p += 2;
        } else {
            return fault(c, "an unknown escape follows the backslash");
        }
    }
    return fault(c, "a string is not closed on its line");
}

static bool digits(struct cursor *c)
{
    const char *from = c->p;

    while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
        c->p++;
    return c->p > from || fault(c, "a digit is expected");
}

static bool number(struct cursor *c)
{
    if (*c->p == '-')
        c->p++;
    if (c->p < c->end && *c->p == '0')
        c->p++;
    else if (!digits(c))
        return false;
    if (c->p < c->end && *c->p == '.') {
        c->p++;
        if (!digits(c))
            return false;
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        c->p++;
        if (c->p < c->end && (*c->p == '+' || *c->p == '-'))
            c->p++;
        return digits(c);
    }
    return true;
}

static bool word(struct cursor *c)
{
    static const struct tr_str words[] = {{"true", 4}, {"false", 5},
                                          {"null", 4}};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if ((size_t)(c->end - c->p) >= words[i].n &&
            memcmp(c->p, words[i].p, words[i].n) == 0) {
            c->p += words[i].n;
            return true;
        }
    }
    return fault(c, "a value is expected");
}

/* key becomes what stands between the quotes. */
static bool key_and_colon(struct cursor *c, struct tr_str *key)
{
    if (!next_is(c, '"'))
        return fault(c, "a member name in double quotes is expected");
    key->p = c->p;
    if (!string(c))
        return false;
    key->n = (size_t)(c->p - 1 - key->p);
    return next_is(c, ':') || fault(c, "a ':' is expected");
}

/* One value with everything in it. Bit d of objects tells whether the
 * container at depth d is an object. */
static bool value(struct cursor *c)
{
    uint64_t objects = 0;
    struct tr_str inner; /* names inside a value do not matter */
    int depth = 0;

    _Static_assert(TR_JSON_DEPTH_MAX <= 64, "one bit per level");
    for (;;) {
        bool closed = false;

        blanks(c);
        if (c->p == c->end)
            return fault(c, "a value is expected");
        if (*c->p == '{' || *c->p == '[') {
            bool object = *c->p == '{';

            /* The object on the line itself is level one. */
            if (depth + 1 >= TR_JSON_DEPTH_MAX)
                return fault(c, "it is nested deeper than 64 levels");
            objects &= ~((uint64_t)1 << depth);
            objects |= (uint64_t)object << depth;
            depth++;
            c->p++;
            if (next_is(c, object ? '}' : ']')) {
                depth--;
                closed = true;
            } else if (object && !key_and_colon(c, &inner)) {
                return false;
            }
            if (!closed)
                continue;
        } else if (*c->p == '"') {
            c->p++;
            if (!string(c))
                return false;
        } else if (*c->p == '-' || (*c->p >= '0' && *c->p <= '9')) {
            if (!number(c))
                return false;
        } else if (!word(c)) {
            return false;
        }
        /* After a value: close containers until one goes on. */
        while (depth) {
            bool object = objects >> (depth - 1) & 1;

            if (next_is(c, ',')) {
                if (object && !key_and_colon(c, &inner))
                    return false;
                break;
            }
            if (!next_is(c, object ? '}' : ']'))
                return fault(c, object ? "a ',' or '}' is expected"
                                       : "a ',' or ']' is expected");
            depth--;
        }
        if (!depth)
            return true;
    }
}

static bool members_of(struct cursor *c, struct tr_json_member *members,
                       size_t cap, size_t *count)
{
    if (!next_is(c, '{'))
        return fault(c, "a JSON object in braces is expected");
    if (next_is(c, '}'))
        return true;
    do {
        struct tr_json_member *m = &members[*count];
        const char *from;

        if (*count == cap)
            return fault(c, "it has too many members");
        if (!key_and_colon(c, &m->key))
            return false;
        blanks(c);
        from = c->p;
        if (!value(c))
            return false;
        m->value = tr_str(from, (size_t)(c->p - from));
        (*count)++;
    } while (next_is(c, ','));
    return next_is(c, '}') || fault(c, "a ',' or '}' is expected");
}

bool tr_json_object(struct tr_str line, struct tr_json_member *members,
                    size_t cap, size_t *count, struct tr_json_fault *f)
{
    struct cursor c = {line.p, line.p + line.n, NULL};

    *count = 0;
    if (members_of(&c, members, cap, count)) {
        blanks(&c);
        if (c.p == c.end)
            return true;
        fault(&c, "nothing may follow the object on its line");
    }
    f->at = (size_t)(c.p - line.p);
    f->what = c.what;
    return false;
}

static uint32_t hex4(const char *p)
{
    uint32_t v = 0;

    for (int i = 0; i < 4; i++) {
        uint32_t ch = (unsigned char)p[i];

        v = v << 4 | (ch <= '9' ? ch - '0' : (ch | 0x20) - 'a' + 10);
    }
    return v;
}

static void add_utf8(struct tr_buf *out, uint32_t u)
{
    char b[4];
    size_t n;

    if (u < 0x80) {
        b[0] = (char)u;
        n = 1;
    } else if (u < 0x800) {
        b[0] = (char)(0xc0 | u >> 6);
        n = 2;
    } else if (u < 0x10000) {
        b[0] = (char)(0xe0 | u >> 12);
        n = 3;
    } else {
        b[0] = (char)(0xf0 | u >> 18);
        n = 4;
    }
    for (size_t i = n - 1; i > 0; i--, u >>= 6)
        b[i] = (char)(0x80 | (u & 0x3f));
    tr_buf_add(out, b, n);
}

bool tr_json_unescape(struct tr_str body, struct tr_buf *out)
{
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    const char *p = body.p, *end = body.p + body.n;

    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        uint32_t u;

        if (!slash)
            slash = end;
        tr_buf_add(out, p, (size_t)(slash - p));
        if (slash == end)
            break;
        p = slash + 2;
        if (slash[1] != 'u') {
            tr_buf_addc(out, means[strchr(names, slash[1]) - names]);
            continue;
        }
        u = hex4(p);
        p += 4;
        if (u >= 0xdc00 && u <= 0xdfff)
            return false;
        if (u >= 0xd800 && u <= 0xdbff) {
            uint32_t low;

            if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
                return false;
            low = hex4(p + 2);
            if (low < 0xdc00 || low > 0xdfff)
                return false;
            u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
        add_utf8(out, u);
    }
    return true;
}
