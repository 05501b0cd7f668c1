/* csv.c - where a CSV record ends and its fields lie; no input, no output.
 *
 * 64 bytes at a time become bit masks of the bytes that matter; the loop then
 * walks over set bits only, and inside quotes over quotes only.
 *
 * SPDX-License-Identifier: MIT */
#include "rows/csv.h"

#if defined __SSE2__ && !defined TR_NO_SIMD
#include <emmintrin.h>
#endif

#define STEP 64u

/* Bit i tells about byte i. */
struct masks {
    uint64_t quote, lf, stop /* delimiter or CR */, nul, high;
};

#if defined __SSE2__ && !defined TR_NO_SIMD

static uint64_t equal(const __m128i v[4], char c)
{
    __m128i to = _mm_set1_epi8(c);
    uint64_t m = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned part = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v[i], to));

        m |= (uint64_t)part << (16 * i);
    }
    return m;
}

static void classify(const char *p, char delimiter, struct masks *m)
{
    __m128i v[4];

    m->high = 0;
    for (unsigned i = 0; i < 4; i++) {
        memcpy(&v[i], p + 16 * i, 16);
        m->high |= (uint64_t)(unsigned)_mm_movemask_epi8(v[i]) << (16 * i);
    }
    m->quote = equal(v, '"');
    m->lf = equal(v, '\n');
    m->stop = equal(v, delimiter) | equal(v, '\r');
    m->nul = equal(v, '\0');
}

#else

static void classify(const char *p, char delimiter, struct masks *m)
{
    *m = (struct masks){0};
    for (unsigned i = 0; i < STEP; i++) {
        uint64_t bit = (uint64_t)1 << i;

        if (p[i] == '"')
            m->quote |= bit;
        else if (p[i] == '\n')
            m->lf |= bit;
        else if (p[i] == delimiter || p[i] == '\r')
            m->stop |= bit;
        else if (p[i] == '\0')
            m->nul |= bit;
        else if ((unsigned char)p[i] >= 0x80)
            m->high |= bit;
    }
}

#endif

/* Bits below i. */
static uint64_t below(unsigned i)
{
    return i >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << i) - 1;
}

void tr_csv_begin(struct tr_csv_record *rec)
{
    uint32_t *ends = rec->ends;
    uint32_t cap = rec->ends_cap;

    *rec = (struct tr_csv_record){
        .ends = ends, .ends_cap = cap, .nul_at = TR_CSV_NOWHERE};
}

static void end_field(struct tr_csv_record *rec, size_t at)
{
    if (rec->fields < rec->ends_cap)
        rec->ends[rec->fields] = (uint32_t)at;
    rec->fields++;
    rec->field_at = at + 1;
    rec->closed_at = 0;
}

static enum tr_csv_result bad(struct tr_csv_record *rec, size_t at,
                              enum tr_csv_result result)
{
    rec->bad_at = at;
    return result;
}

static enum tr_csv_result end_record(struct tr_csv_record *rec, size_t at,
                                     size_t line_end)
{
    end_field(rec, at);
    rec->n = at;
    rec->next = at + line_end;
    rec->crlf = line_end == 2;
    return TR_CSV_RECORD;
}

/* One byte that matters, at offset at. MORE: go on from *go. */
static enum tr_csv_result step(struct tr_csv_record *rec, struct tr_str bytes,
                               bool final, char delimiter, size_t at,
                               size_t *go, bool *starved)
{
    char c = bytes.p[at];
    bool last = at + 1 == bytes.n;

    *go = at + 1;
    if (c == '"' && rec->open) {
        if (last && !final) {
            *go = at;
            *starved = true;
        } else if (!last && bytes.p[at + 1] == '"') {
            *go = at + 2;
        } else {
            rec->open = false;
            rec->closed_at = at + 1;
        }
        return TR_CSV_MORE;
    }
    if (c == '"') {
        if (at == rec->field_at)
            rec->open = true;
        else if (rec->closed_at)
            return bad(rec, rec->closed_at, TR_CSV_AFTER);
        else if (delimiter != '\t')
            return bad(rec, at, TR_CSV_STRAY);
        return TR_CSV_MORE;
    }
    if (rec->closed_at && rec->closed_at != at)
        return bad(rec, rec->closed_at, TR_CSV_AFTER);
    if (c == delimiter) {
        end_field(rec, at);
        return TR_CSV_MORE;
    }
    if (c == '\n') {
        rec->line_feeds++;
        return end_record(rec, at, 1);
    }
    if (last && !final) {
        *go = at;
        *starved = true;
        return TR_CSV_MORE;
    }
    /* A carriage return: the line end's first half, which at the very end
     * of the input may stand alone. */
    if (last)
        return end_record(rec, at, 1);
    if (bytes.p[at + 1] != '\n')
        return bad(rec, at, TR_CSV_BARE_CR);
    rec->line_feeds++;
    return end_record(rec, at, 2);
}

static void note(struct tr_csv_record *rec, const struct masks *m, size_t base,
                 uint64_t span)
{
    rec->high |= (m->high & span) != 0;
    if ((m->nul & span) && rec->nul_at == TR_CSV_NOWHERE)
        rec->nul_at = base + (size_t)__builtin_ctzll(m->nul & span);
}

enum tr_csv_result tr_csv_scan(struct tr_csv_record *rec, struct tr_str bytes,
                               bool final, char delimiter)
{
    bool starved = false;

    while (rec->at < bytes.n) {
        size_t base = rec->at, left = bytes.n - base;
        unsigned width = left < STEP ? (unsigned)left : STEP;
        const char *p = bytes.p + base;
        char tail[STEP];
        struct masks m;
        unsigned pos = 0;

        if (left < STEP) {
            memset(tail, ' ', sizeof tail);
            memcpy(tail, p, left);
            p = tail;
        }
        classify(p, delimiter, &m);
        /* A delimiter that is a blank must not be seen in the padding. */
        m.stop &= below(width);
        while (pos < width) {
            uint64_t want = m.quote | (rec->open ? 0 : m.lf | m.stop);
            enum tr_csv_result result;
            unsigned bit;
            size_t go;

            want &= ~below(pos);
            bit = want ? (unsigned)__builtin_ctzll(want) : width;
            if (rec->open)
                rec->line_feeds += (uint32_t)__builtin_popcountll(
                    m.lf & below(bit) & ~below(pos));
            if (!want) {
                pos = width;
                break;
            }
            result = step(rec, bytes, final, delimiter, base + bit, &go,
                          &starved);
            if (result != TR_CSV_MORE) {
                note(rec, &m, base, below(bit));
                return result;
            }
            pos = (unsigned)(go - base);
            if (starved)
                break;
        }
        note(rec, &m, base, below(pos));
        rec->at = base + pos;
        if (starved)
            break;
    }
    if (!final)
        return TR_CSV_MORE;
    if (rec->open)
        return bad(rec, rec->field_at, TR_CSV_UNCLOSED);
    if (rec->closed_at && rec->closed_at != bytes.n)
        return bad(rec, rec->closed_at, TR_CSV_AFTER);
    return end_record(rec, bytes.n, 0);
}

struct tr_str tr_csv_field(const struct tr_csv_record *rec, const char *bytes,
                           uint32_t i)
{
    size_t from = i ? (size_t)rec->ends[i - 1] + 1 : 0;

    return tr_str(bytes + from, rec->ends[i] - from);
}

bool tr_csv_plain(struct tr_str field, struct tr_str *value)
{
    *value = field;
    if (!field.n || field.p[0] != '"')
        return true;
    *value = tr_str(field.p + 1, field.n - 2);
    return !value->n || !memchr(value->p, '"', value->n);
}

void tr_csv_unquote(struct tr_str field, struct tr_buf *out)
{
    struct tr_str rest;

    if (tr_csv_plain(field, &rest)) {
        tr_buf_adds(out, rest);
        return;
    }
    while (rest.n) {
        const char *quote = memchr(rest.p, '"', rest.n);
        size_t n = quote ? (size_t)(quote - rest.p) + 1 : rest.n;
        size_t skip = quote && n < rest.n ? n + 1 : n;

        tr_buf_add(out, rest.p, n);
        rest = tr_str(rest.p + skip, rest.n - skip);
    }
}

void tr_csv_quote(struct tr_str value, char delimiter, struct tr_buf *out)
{
    size_t from = 0, i = 0;

    while (i < value.n && value.p[i] != delimiter && value.p[i] != '"' &&
           value.p[i] != '\n' && value.p[i] != '\r')
        i++;
    if (i == value.n) {
        tr_buf_adds(out, value);
        return;
    }
    tr_buf_addc(out, '"');
    for (; i < value.n; i++) {
        if (value.p[i] == '"') {
            tr_buf_add(out, value.p + from, i + 1 - from);
            from = i;
        }
    }
    tr_buf_add(out, value.p + from, value.n - from);
    tr_buf_addc(out, '"');
}
