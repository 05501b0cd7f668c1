/* fuzz_csv.c - the CSV scanner against a reader that looks at one byte at a
 * time; in pieces as in one; and what is quoted is read back.
 *
 * Input: a byte for the delimiter (0 , 1 ; 2 TAB 3 |), then CSV.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "rows/csv.h"

enum { ENDS = 64 };

struct seen {
    enum tr_csv_result result;
    uint32_t fields, ends[ENDS];
    size_t n, next, bad_at, nul_at;
    uint32_t line_feeds;
    bool high, crlf;
};

static void end_field(struct seen *s, size_t at)
{
    if (s->fields < ENDS)
        s->ends[s->fields] = (uint32_t)at;
    s->fields++;
}

static struct seen fault(struct seen s, enum tr_csv_result result, size_t at)
{
    s.result = result;
    s.bad_at = at;
    return s;
}

static struct seen sound(struct seen s, struct tr_str b, size_t n, size_t end)
{
    end_field(&s, n);
    s.result = TR_CSV_RECORD;
    s.n = n;
    s.next = n + end;
    s.crlf = end == 2;
    s.nul_at = TR_CSV_NOWHERE;
    for (size_t i = n; i-- > 0;) {
        s.nul_at = b.p[i] ? s.nul_at : i;
        s.high |= (unsigned char)b.p[i] >= 0x80;
    }
    for (size_t i = 0; i < s.next; i++)
        s.line_feeds += b.p[i] == '\n';
    return s;
}

/* As csv.h tells it, and nothing clever. */
static struct seen read_simply(struct tr_str b, char delimiter)
{
    enum { START, PLAIN, OPEN, CLOSED } state = START;
    struct seen s = {0};
    size_t field_at = 0, closed_at = 0;

    for (size_t i = 0; i < b.n; i++) {
        char c = b.p[i];
        bool last = i + 1 == b.n;

        if (state == OPEN) {
            if (c == '"' && !last && b.p[i + 1] == '"') {
                i++;
            } else if (c == '"') {
                state = CLOSED;
                closed_at = i + 1;
            }
        } else if (c == delimiter) {
            end_field(&s, i);
            field_at = i + 1;
            state = START;
        } else if (c == '\n') {
            return sound(s, b, i, 1);
        } else if (c == '\r' && last) {
            return sound(s, b, i, 1);
        } else if (c == '\r' && b.p[i + 1] == '\n') {
            return sound(s, b, i, 2);
        } else if (state == CLOSED && c != '\r') {
            return fault(s, TR_CSV_AFTER, closed_at);
        } else if (c == '\r') {
            return fault(s, TR_CSV_BARE_CR, i);
        } else if (c == '"' && state == START) {
            state = OPEN;
        } else if (c == '"' && delimiter != '\t') {
            return fault(s, TR_CSV_STRAY, i);
        } else {
            state = PLAIN;
        }
    }
    if (state == OPEN)
        return fault(s, TR_CSV_UNCLOSED, field_at);
    return sound(s, b, b.n, 0);
}

static void compare(const struct tr_csv_record *rec, enum tr_csv_result result,
                    const struct seen *want)
{
    CHECK(result == want->result);
    CHECK(rec->fields == want->fields);
    for (uint32_t i = 0; i < rec->fields && i < ENDS; i++)
        CHECK(rec->ends[i] == want->ends[i]);
    if (result != TR_CSV_RECORD) {
        CHECK(rec->bad_at == want->bad_at);
        return;
    }
    CHECK(rec->n == want->n && rec->next == want->next);
    CHECK(rec->nul_at == want->nul_at && rec->high == want->high);
    CHECK(rec->line_feeds == want->line_feeds && rec->crlf == want->crlf);
}

/* The meaning of a field, byte by byte. */
static size_t mean_simply(struct tr_str field, char *to)
{
    size_t n = 0;

    if (!field.n || field.p[0] != '"') {
        if (field.n)
            memcpy(to, field.p, field.n);
        return field.n;
    }
    for (size_t i = 1; i + 1 < field.n; i++) {
        to[n++] = field.p[i];
        i += field.p[i] == '"';
    }
    return n;
}

static void check_field(struct tr_str field, char delimiter)
{
    char *want = malloc(field.n + 1);
    size_t n = mean_simply(field, want);
    struct tr_csv_record rec = {0};
    uint32_t ends[4];
    struct tr_buf value, again;
    struct tr_str plain;

    tr_buf_init(&value, 0);
    tr_buf_init(&again, 0);
    tr_csv_unquote(field, &value);
    CHECK(tr_str_eq(tr_buf_str(&value), tr_str(want, n)));
    if (tr_csv_plain(field, &plain))
        CHECK(tr_str_eq(plain, tr_str(want, n)));

    tr_csv_quote(tr_buf_str(&value), delimiter, &again);
    rec.ends = ends;
    rec.ends_cap = 4;
    tr_csv_begin(&rec);
    if (again.n) {
        CHECK(tr_csv_scan(&rec, tr_buf_str(&again), true, delimiter) ==
              TR_CSV_RECORD);
        CHECK(rec.fields == 1 && rec.n == again.n);
        tr_buf_clear(&value);
        tr_csv_unquote(tr_csv_field(&rec, again.p, 0), &value);
    }
    CHECK(tr_str_eq(tr_buf_str(&value), tr_str(want, n)));
    tr_buf_release(&value);
    tr_buf_release(&again);
    free(want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_in in = fuzz_begin(data, n);
    char delimiter = ",;\t|"[fuzz_byte(&in) & 3];
    struct tr_str left = fuzz_rest(&in);
    uint32_t ends[ENDS];
    struct tr_csv_record rec = {.ends = ends, .ends_cap = ENDS};

    while (left.n) {
        struct seen want = read_simply(left, delimiter);
        enum tr_csv_result result;
        size_t have = 0;

        tr_csv_begin(&rec);
        result = tr_csv_scan(&rec, left, true, delimiter);
        compare(&rec, result, &want);
        for (uint32_t i = 0; result == TR_CSV_RECORD && i < rec.fields &&
                             i < ENDS; i++)
            check_field(tr_csv_field(&rec, left.p, i), delimiter);

        tr_csv_begin(&rec);
        do {
            have += fuzz_draw(&in, 70);
            have = have < left.n ? have : left.n;
            result = have ? tr_csv_scan(&rec, tr_str(left.p, have),
                                        have == left.n, delimiter)
                          : TR_CSV_MORE;
        } while (result == TR_CSV_MORE && have < left.n);
        compare(&rec, result, &want);
        if (result != TR_CSV_RECORD)
            break;
        left = tr_str(left.p + rec.next, left.n - rec.next);
    }
    return 0;
}
