/* test_csv.c - the record scanner against a second reader and by table.
 * SPDX-License-Identifier: MIT */
#include "base/rng.h"
#include "rows/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static uint32_t ends[64];

static void begin(struct tr_csv_record *rec)
{
    *rec = (struct tr_csv_record){.ends = ends, .ends_cap = 64};
    tr_csv_begin(rec);
}

static void results_by_table(void **state)
{
    static const struct {
        const char *in;
        enum tr_csv_result result;
        uint32_t fields;
        size_t n, next, bad_at;
        char delimiter;
        bool more;
    } table[] = {
        {"a,b\n", TR_CSV_RECORD, 2, 3, 4, 0, ',', false},
        {"a,b\r\n", TR_CSV_RECORD, 2, 3, 5, 0, ',', false},
        {"a,b", TR_CSV_RECORD, 2, 3, 3, 0, ',', false},
        {"a,b\r", TR_CSV_RECORD, 2, 3, 4, 0, ',', false},
        {"\n", TR_CSV_RECORD, 1, 0, 1, 0, ',', false},
        {",\n", TR_CSV_RECORD, 2, 1, 2, 0, ',', false},
        {"\"\"\n", TR_CSV_RECORD, 1, 2, 3, 0, ',', false},
        {"\"a\nb\",c\nd", TR_CSV_RECORD, 2, 7, 8, 0, ',', false},
        {"\"a\"\"\"", TR_CSV_RECORD, 1, 5, 5, 0, ',', false},
        {"a b c", TR_CSV_RECORD, 3, 5, 5, 0, ' ', false},
        {"a\t5\" disk\n", TR_CSV_RECORD, 2, 9, 10, 0, '\t', false},
        {"a,b", TR_CSV_MORE, 0, 0, 0, 0, ',', true},
        {"a,b\r", TR_CSV_MORE, 0, 0, 0, 0, ',', true},
        {"\"a\"", TR_CSV_MORE, 0, 0, 0, 0, ',', true},
        {"a,\"b\n", TR_CSV_UNCLOSED, 1, 0, 0, 2, ',', false},
        {"\"a\"b,c\n", TR_CSV_AFTER, 0, 0, 0, 3, ',', false},
        {"\"a\" ,c\n", TR_CSV_AFTER, 0, 0, 0, 3, ',', false},
        {"x,\"a\"b", TR_CSV_AFTER, 1, 0, 0, 5, ',', false},
        {"a\"b\n", TR_CSV_STRAY, 0, 0, 0, 1, ',', false},
        {"a,b\rc\n", TR_CSV_BARE_CR, 1, 0, 0, 3, ',', false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_csv_record rec;

        begin(&rec);
        assert_int_equal(tr_csv_scan(&rec, tr_str_c(table[i].in),
                                     !table[i].more, table[i].delimiter),
                         table[i].result);
        if (table[i].result == TR_CSV_RECORD) {
            assert_int_equal(rec.fields, table[i].fields);
            assert_int_equal(rec.n, table[i].n);
            assert_int_equal(rec.next, table[i].next);
        } else if (table[i].result != TR_CSV_MORE) {
            assert_int_equal(rec.fields, table[i].fields);
            assert_int_equal(rec.bad_at, table[i].bad_at);
        }
    }
}

/* A byte-by-byte reader of the same rules, written for clearness: the scanner
 * with its masks must agree with it on any bytes. */
static enum tr_csv_result slow_scan(struct tr_csv_record *rec,
                                    struct tr_str s, char delimiter)
{
    size_t i = 0;

    for (;; i++) {
        rec->field_at = i;
        if (i < s.n && s.p[i] == '"') {
            for (i++;; i++) {
                if (i == s.n) {
                    rec->bad_at = rec->field_at;
                    return TR_CSV_UNCLOSED;
                }
                if (s.p[i] == '"' && (i + 1 == s.n || s.p[i + 1] != '"'))
                    break;
                i += s.p[i] == '"';
                rec->line_feeds += s.p[i] == '\n';
            }
            i++;
            if (i < s.n && s.p[i] != delimiter && s.p[i] != '\n' &&
                s.p[i] != '\r') {
                rec->bad_at = i;
                return TR_CSV_AFTER;
            }
        } else {
            while (i < s.n && s.p[i] != delimiter && s.p[i] != '\n' &&
                   s.p[i] != '\r') {
                if (s.p[i] == '"' && delimiter != '\t') {
                    rec->bad_at = i;
                    return TR_CSV_STRAY;
                }
                i++;
            }
        }
        if (i < s.n && s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] != '\n') {
            rec->bad_at = i;
            return TR_CSV_BARE_CR;
        }
        rec->ends[rec->fields++] = (uint32_t)i;
        if (i == s.n || s.p[i] != delimiter)
            break;
    }
    rec->n = rec->next = i;
    if (rec->next < s.n && s.p[rec->next] == '\r')
        rec->next++;
    if (rec->next < s.n && s.p[rec->next] == '\n') {
        rec->next++;
        rec->line_feeds++;
    }
    return TR_CSV_RECORD;
}

static void agrees_with_a_simple_reader(void **state)
{
    static const char alphabet[] = "aaaaaaaaaaaaaaaa\"\",,\n\r\t;\xc3\xa9";
    struct tr_rng rng = {20261124};
    size_t seen[TR_CSV_BARE_CR + 1] = {0};
    (void)state;

    for (int round = 0; round < 200000; round++) {
        char bytes[200];
        uint32_t slow_ends[256], fast_ends[256];
        size_t n = 1 + tr_rng_below(&rng, sizeof bytes);
        size_t kinds = 4 + tr_rng_below(&rng, sizeof alphabet - 5);
        char delimiter = tr_rng_below(&rng, 4) ? ',' : '\t';
        struct tr_csv_record slow = {.ends = slow_ends, .ends_cap = 256};
        struct tr_csv_record fast = {.ends = fast_ends, .ends_cap = 256};
        enum tr_csv_result want, got = TR_CSV_MORE;
        size_t first = tr_rng_below(&rng, sizeof alphabet - 1 - kinds + 1);
        size_t seen_n = 0;

        for (size_t i = 0; i < n; i++)
            bytes[i] = alphabet[first + tr_rng_below(&rng, kinds)];
        /* Proper quoting happens rarely by chance. */
        if (tr_rng_below(&rng, 2)) {
            bytes[0] = '"';
            bytes[n - 1] = '"';
        }
        want = slow_scan(&slow, tr_str(bytes, n), delimiter);
        tr_csv_begin(&fast);
        while (seen_n < n && got == TR_CSV_MORE) {
            seen_n += 1 + tr_rng_below(&rng, 90);
            if (seen_n > n)
                seen_n = n;
            got = tr_csv_scan(&fast, tr_str(bytes, seen_n), seen_n == n,
                              delimiter);
        }
        seen[want]++;
        assert_int_equal(got, want);
        assert_int_equal(fast.fields, slow.fields);
        assert_memory_equal(fast_ends, slow_ends,
                            slow.fields * sizeof *slow_ends);
        if (want != TR_CSV_RECORD) {
            assert_int_equal(fast.bad_at, slow.bad_at);
            assert_int_equal(fast.field_at, slow.field_at);
            continue;
        }
        assert_int_equal(fast.n, slow.n);
        assert_int_equal(fast.next, slow.next);
        assert_int_equal(fast.line_feeds, slow.line_feeds);
        if (memchr(bytes, '\xc3', slow.n) || memchr(bytes, '\xa9', slow.n))
            assert_true(fast.high);
        else
            assert_false(fast.high);
    }
    for (int i = TR_CSV_RECORD; i <= TR_CSV_BARE_CR; i++)
        assert_true(seen[i] > 500);
}

static void nul_bytes_are_noted(void **state)
{
    struct tr_csv_record rec;
    (void)state;

    for (size_t at = 0; at < 150; at++) {
        char bytes[200];

        memset(bytes, 'x', sizeof bytes);
        bytes[at] = '\0';
        bytes[160] = '\n';
        bytes[170] = '\0';
        begin(&rec);
        assert_int_equal(tr_csv_scan(&rec, tr_str(bytes, sizeof bytes), false,
                                     ','),
                         TR_CSV_RECORD);
        assert_int_equal(rec.nul_at, at);
    }
    begin(&rec);
    assert_int_equal(tr_csv_scan(&rec, tr_str("a\n\0", 3), true, ','),
                     TR_CSV_RECORD);
    assert_true(rec.nul_at == TR_CSV_NOWHERE);
}

/* What is quoted reads back as it was, among other fields. */
static void round_trip(void **state)
{
    static const char alphabet[] = "ab\"\"\n\r,;\t |\xc3\xa9";
    static const char delimiters[] = ",;\t|";
    struct tr_rng rng = {7};
    struct tr_buf record, back;
    (void)state;

    tr_buf_init(&record, 0);
    tr_buf_init(&back, 0);
    for (int round = 0; round < 20000; round++) {
        char delimiter = delimiters[tr_rng_below(&rng, 4)];
        struct tr_str fields[8];
        char bytes[8][100];
        size_t count = 1 + tr_rng_below(&rng, 8);
        struct tr_csv_record rec;

        tr_buf_clear(&record);
        for (size_t f = 0; f < count; f++) {
            size_t n = tr_rng_below(&rng, sizeof bytes[f]);

            for (size_t i = 0; i < n; i++)
                bytes[f][i] =
                    alphabet[tr_rng_below(&rng, sizeof alphabet - 1)];
            fields[f] = tr_str(bytes[f], n);
            if (f)
                tr_buf_addc(&record, delimiter);
            tr_csv_quote(fields[f], delimiter, &record);
        }
        tr_buf_addz(&record, round % 2 ? "\r\n" : "\n");
        begin(&rec);
        assert_int_equal(tr_csv_scan(&rec, tr_buf_str(&record), false,
                                     delimiter),
                         TR_CSV_RECORD);
        assert_int_equal(rec.next, record.n);
        assert_int_equal(rec.fields, count);
        for (uint32_t f = 0; f < count; f++) {
            struct tr_str field = tr_csv_field(&rec, record.p, f), plain;

            tr_buf_clear(&back);
            tr_csv_unquote(field, &back);
            assert_true(tr_str_eq(tr_buf_str(&back), fields[f]));
            if (tr_csv_plain(field, &plain))
                assert_true(tr_str_eq(plain, fields[f]));
        }
    }
    tr_buf_release(&record);
    tr_buf_release(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_by_table),
        cmocka_unit_test(agrees_with_a_simple_reader),
        cmocka_unit_test(nul_bytes_are_noted),
        cmocka_unit_test(round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
