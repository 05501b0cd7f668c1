/* render.c - the bytes of the output: raw records and their companions.
 * SPDX-License-Identifier: MIT */
#include "rows/render.h"

#include "rows/csv.h"

static const char *const suffixes[TR_COMPANIONS] = {"", "_by", "_confidence",
                                                    "_error"};

bool tr_style_name(struct tr_style *style, struct tr_arena *arena,
                   struct tr_str name)
{
    struct tr_buf b;
    bool ok = true;

    tr_buf_init(&b, 0);
    for (int i = 0; ok && i < TR_COMPANIONS; i++) {
        tr_buf_clear(&b);
        tr_buf_adds(&b, name);
        tr_buf_addz(&b, suffixes[i]);
        style->names[i] = tr_arena_dup(arena, tr_buf_str(&b));
        ok = tr_buf_ok(&b) && style->names[i].p;
        if (!ok)
            break;
        tr_buf_clear(&b);
        tr_buf_add_json(&b, style->names[i]);
        tr_buf_addc(&b, ':');
        style->members[i] = tr_arena_dup(arena, tr_buf_str(&b));
        ok = tr_buf_ok(&b) && style->members[i].p;
    }
    tr_buf_release(&b);
    return ok;
}

static void line_end(const struct tr_style *style, struct tr_buf *out)
{
    tr_buf_add(out, style->crlf ? "\r\n" : "\n", style->crlf ? 2 : 1);
}

/* What a spreadsheet takes for the beginning of a formula, or passes over
 * before it looks. */
static bool begins_formula(char c)
{
    return c == '=' || c == '+' || c == '-' || c == '@' || c == '\t' ||
           c == '\r' || c == '\n' || c == '\0';
}

/* Puts ' before such cells of the lines in out from byte from on. Quoted or
 * not does not matter to a spreadsheet, so it stands inside the quotes. */
static void guard_cells(const struct tr_style *style, size_t from,
                        struct tr_buf *out)
{
    struct tr_buf lines;
    bool quoted = false, fresh = true;

    if (!style->guard || out->failed)
        return;
    tr_buf_init(&lines, 0);
    tr_buf_add(&lines, out->p + from, out->n - from); /* ends in a line end */
    out->n = from;
    for (size_t i = 0; i < lines.n; i++) {
        char c = lines.p[i];
        bool opens = fresh && !quoted && c == '"';
        bool ends = !quoted && (c == style->delimiter || c == '\n' ||
                                (c == '\r' && lines.p[i + 1] == '\n'));

        if (fresh && !opens && !ends && begins_formula(c))
            tr_buf_addc(out, '\'');
        tr_buf_addc(out, c);
        if (quoted && c == '"' && lines.p[i + 1] == '"')
            tr_buf_addc(out, lines.p[++i]); /* one, doubled */
        else if (quoted && c == '"')
            quoted = false; /* in a field without quotes it is a character */
        quoted |= opens;
        fresh = opens || ends;
    }
    out->failed |= lines.failed;
    tr_buf_release(&lines);
}

void tr_render_head(const struct tr_style *style, const struct tr_str *header,
                    struct tr_buf *out)
{
    size_t from;

    if (style->bom)
        tr_buf_add(out, "\xef\xbb\xbf", 3);
    if (style->format == TR_FMT_JSONL || !header)
        return;
    from = out->n;
    tr_buf_adds(out, *header);
    for (int i = 0; i < TR_COMPANIONS; i++) {
        tr_buf_addc(out, style->delimiter);
        tr_csv_quote(style->names[i], style->delimiter, out);
    }
    line_end(style, out);
    guard_cells(style, from, out);
}

/* 0..10000 as 0.0000..1.0000 */
static void add_confidence(uint16_t confidence, struct tr_buf *out)
{
    char digits[6] = "0.0000";

    if (confidence > 10000)
        confidence = 10000;
    digits[0] = (char)('0' + confidence / 10000);
    confidence %= 10000;
    for (int i = 5; i > 1; i--, confidence /= 10)
        digits[i] = (char)('0' + confidence % 10);
    tr_buf_add(out, digits, sizeof digits);
}

static void add_labels(const struct tr_style *style,
                       const struct tr_companions *c, struct tr_buf *out)
{
    struct tr_buf joined;

    if (c->label_count == 1) {
        tr_csv_quote(c->labels[0], style->delimiter, out);
    } else if (c->label_count > 1) {
        tr_buf_init(&joined, 0);
        for (size_t i = 0; i < c->label_count; i++) {
            if (i)
                tr_buf_addc(&joined, '|');
            tr_buf_adds(&joined, c->labels[i]);
        }
        tr_csv_quote(tr_buf_str(&joined), style->delimiter, out);
        out->failed |= joined.failed;
        tr_buf_release(&joined);
    }
}

static void delimited(const struct tr_style *style, struct tr_str raw,
                      const struct tr_companions *c, struct tr_buf *out)
{
    size_t from = out->n;

    if (style->format == TR_FMT_LINES)
        tr_csv_quote(raw, style->delimiter, out);
    else
        tr_buf_adds(out, raw);
    tr_buf_addc(out, style->delimiter);
    add_labels(style, c, out);
    tr_buf_addc(out, style->delimiter);
    tr_csv_quote(c->by, style->delimiter, out);
    tr_buf_addc(out, style->delimiter);
    if (c->confidence != TR_NO_CONFIDENCE)
        add_confidence(c->confidence, out);
    tr_buf_addc(out, style->delimiter);
    tr_buf_addz(out, tr_why_code(c->why));
    line_end(style, out);
    guard_cells(style, from, out);
}

static void add_string_or_null(struct tr_str s, struct tr_buf *out)
{
    if (s.n)
        tr_buf_add_json(out, s);
    else
        tr_buf_add(out, "null", 4);
}

static void add_label_value(const struct tr_companions *c, struct tr_buf *out)
{
    if (!c->multiple || c->why != TR_WHY_NONE) {
        add_string_or_null(c->label_count ? c->labels[0] : tr_str(NULL, 0),
                           out);
        return;
    }
    tr_buf_addc(out, '[');
    for (size_t i = 0; i < c->label_count; i++) {
        if (i)
            tr_buf_addc(out, ',');
        tr_buf_add_json(out, c->labels[i]);
    }
    tr_buf_addc(out, ']');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void object(const struct tr_style *style, struct tr_str raw,
                   const struct tr_companions *c, struct tr_buf *out)
{
    size_t brace = raw.n, last;

    /* A record is an object (or was made one), so the brace is there. */
    while (brace > 0 && raw.p[brace - 1] != '}')
        brace--;
    last = brace ? brace - 1 : 0;
    tr_buf_add(out, raw.p, last);
    for (size_t i = last; i > 0; i--) {
        if (is_blank(raw.p[i - 1]))
            continue;
        if (raw.p[i - 1] != '{')
            tr_buf_addc(out, ',');
        break;
    }
    tr_buf_adds(out, style->members[0]);
    add_label_value(c, out);
    tr_buf_addc(out, ',');
    tr_buf_adds(out, style->members[1]);
    add_string_or_null(c->by, out);
    tr_buf_addc(out, ',');
    tr_buf_adds(out, style->members[2]);
    if (c->confidence != TR_NO_CONFIDENCE)
        add_confidence(c->confidence, out);
    else
        tr_buf_add(out, "null", 4);
    tr_buf_addc(out, ',');
    tr_buf_adds(out, style->members[3]);
    add_string_or_null(tr_str_c(tr_why_code(c->why)), out);
    tr_buf_add(out, raw.p + last, raw.n - last);
    line_end(style, out);
}

void tr_render_record(const struct tr_style *style, struct tr_str raw,
                      const struct tr_companions *c, struct tr_buf *out)
{
    if (style->format == TR_FMT_JSONL)
        object(style, raw, c, out);
    else
        delimited(style, raw, c, out);
}
