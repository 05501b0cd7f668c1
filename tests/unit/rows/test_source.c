/* test_source.c - every kind of input, and what becomes of it.
 * SPDX-License-Identifier: MIT */
#include "rows_fixture.h"

#include "base/rng.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

struct example {
    const char *name, *in;
    struct tr_source_opts o;
    const char *out, *seen; /* seen NULL: does not matter */
};

static const size_t read_sizes[] = {0, 1, 2, 3, 7, 64};

/* Each example with reads of several sizes and blocks of several sizes: what
 * comes out must never depend on them. */
static void check(const struct example *e)
{
    for (size_t i = 0; i < sizeof read_sizes / sizeof *read_sizes; i++) {
        struct tr_source_opts o = e->o;
        struct tr_buf out, seen;

        tr_buf_init(&out, 0);
        tr_buf_init(&seen, 0);
        o.paths = &e->name;
        o.path_count = 1;
        o.read_bytes = read_sizes[i];
        read_all(&o, i % 2 ? 1 : 8, i % 3 ? 4 : 4096, &out, &seen);
        assert_string_equal(out.p ? out.p : "", e->out);
        if (e->seen)
            assert_string_equal(seen.p ? seen.p : "", e->seen);
        tr_buf_release(&out);
        tr_buf_release(&seen);
    }
}

static void check_all(const struct example *examples, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_file(examples[i].name, tr_str_c(examples[i].in));
        check(&examples[i]);
    }
}

#define CHECK_ALL(table) check_all(table, sizeof(table) / sizeof *(table))
#define HEAD ",label,label_by,label_confidence,label_error"
#define TAIL ",L,m,0.9731,\n"
#define NEW_TAIL ",L,m,0.9731,\r\n"
#define FAIL(why) ",,,," why "\n"

static void good_csv(void **state)
{
    static const struct example table[] = {
        {"plain.csv", "id,text\n1,hello\n2,world\n", {.label = "id"},
         "id,text" HEAD "\n1,hello" TAIL "2,world" TAIL,
         "2:[hello]#1\n3:[world]#2\n"},
        {"no-last-end.csv", "id,text\n1,hello", {0},
         "id,text" HEAD "\n1,hello" TAIL, "2:[hello]\n"},
        {"crlf.csv", "id,text\r\n1,hello\r\n2,there", {0},
         "id,text" HEAD "\r\n1,hello" NEW_TAIL "2,there" NEW_TAIL,
         "2:[hello]\n3:[there]\n"},
        {"cut-crlf.csv", "id,text\r\n1,hello\r", {0},
         "id,text" HEAD "\r\n1,hello" NEW_TAIL, "2:[hello]\n"},
        {"mixed-ends.csv", "id,text\n1,a\r\n2,b\n", {0},
         "id,text" HEAD "\n1,a" TAIL "2,b" TAIL, "2:[a]\n3:[b]\n"},
        {"bom.csv", "\xef\xbb\xbftext,n\na,1\n", {0},
         "\xef\xbb\xbftext,n" HEAD "\na,1" TAIL, "2:[a]\n"},
        {"quoted.csv",
         "id,text\n1,\"a, b\"\n2,\"say \"\"hi\"\"\"\n3,\"two\r\nlines\"\n4,x\n",
         {0},
         "id,text" HEAD "\n1,\"a, b\"" TAIL "2,\"say \"\"hi\"\"\"" TAIL
         "3,\"two\r\nlines\"" TAIL "4,x" TAIL,
         "2:[a, b]\n3:[say \"hi\"]\n4:[two\r\nlines]\n6:[x]\n"},
        {"empty-fields.csv", "a,text,b\n,x,\n,\"\",\n, ,\n", {0},
         "a,text,b" HEAD "\n,x," TAIL ",\"\"," FAIL("empty_text") ", ,"
         FAIL("empty_text"),
         "2:[x]\n3:[]!empty_text\n4:[ ]!empty_text\n"},
        {"one-column.csv", "body\nhello\n\nworld\n", {0},
         "body" HEAD "\nhello" TAIL FAIL("empty_text") "world" TAIL,
         "2:[hello]\n3:[]!empty_text\n4:[world]\n"},
        {"quoted-header.csv", "\"id\",\"the \"\"text\"\"\"\n1,x\n",
         {.text = "the \"text\""},
         "\"id\",\"the \"\"text\"\"\"" HEAD "\n1,x" TAIL, "2:[x]\n"},
        {"semicolon.csv", "id;text\n1;a,b\n", {0},
         "id;text;label;label_by;label_confidence;label_error\n"
         "1;a,b;L;m;0.9731;\n",
         "2:[a,b]\n"},
        {"tab.csv", "id\ttext\n1\tsay \"hi\"\n", {0},
         "id\ttext\tlabel\tlabel_by\tlabel_confidence\tlabel_error\n"
         "1\tsay \"hi\"\tL\tm\t0.9731\t\n",
         "2:[say \"hi\"]\n"},
        {"bar.csv", "id|text\n1|a\n", {0},
         "id|text|label|label_by|label_confidence|label_error\n"
         "1|a|L|m|0.9731|\n",
         "2:[a]\n"},
        /* Two delimiters in the header: the rows decide. */
        {"doubt.csv", "id;text, long\n1;a\n2;b\n", {.text = "text, long"},
         "id;text, long;label;label_by;label_confidence;label_error\n"
         "1;a;L;m;0.9731;\n2;b;L;m;0.9731;\n",
         "2:[a]\n3:[b]\n"},
        {"told.csv", "id:text\n1:a\n", {.delimiter = ':'},
         "id:text:label:label_by:label_confidence:label_error\n"
         "1:a:L:m:0.9731:\n",
         "2:[a]\n"},
        {"named.tsv", "id\ttext\n1\t\"a\tb\"\n", {0},
         "id\ttext\tlabel\tlabel_by\tlabel_confidence\tlabel_error\n"
         "1\t\"a\tb\"\tL\tm\t0.9731\t\n",
         "2:[a\tb]\n"},
        {"blank-parts.csv", "title,body\n \t,\"\n\"\n , a\n",
         {.text = "title,body"},
         "title,body" HEAD "\n \t,\"\n\"" FAIL("empty_text") " , a" TAIL,
         "2:[]!empty_text\n4:[body:  a]\n"},
        {"parts.csv", "title,body,n\nHi,\"a \"\"b\"\"\",1\n,only,2\n,,3\n",
         {.text = "title, body", .as = "x,y"},
         "title,body,n,\"x,y\",\"x,y_by\",\"x,y_confidence\",\"x,y_error\"\n"
         "Hi,\"a \"\"b\"\"\",1" TAIL ",only,2" TAIL ",,3" FAIL("empty_text"),
         "2:[title: Hi\nbody: a \"b\"]\n3:[body: only]\n4:[]!empty_text\n"},
        {"head.csv", "text\na\nb\nc\n", {.head = 2},
         "text" HEAD "\na" TAIL "b" TAIL, "2:[a]\n3:[b]\n"},
        {"utf8.csv", "id,text\n1,caf\xc3\xa9 \xe6\x9c\x80 \xf0\x9f\x98\x80\n",
         {0}, "id,text" HEAD "\n1,caf\xc3\xa9 \xe6\x9c\x80 \xf0\x9f\x98\x80"
         TAIL, "2:[caf\xc3\xa9 \xe6\x9c\x80 \xf0\x9f\x98\x80]\n"},
    };
    (void)state;

    CHECK_ALL(table);
}

#define KEEP ", or keep such rows with --on-bad-row fail"

static void csv_without_header(void **state)
{
    static const struct example table[] = {
        {"rows.csv", "1,I was charged\n2,\"It,\ncrashes\"\n",
         {.text = "2", .label = "1", .no_header = true},
         "1,I was charged" TAIL "2,\"It,\ncrashes\"" TAIL,
         "1:[I was charged]#1\n2:[It,\ncrashes]#2\n"},
        {"column.csv", "\xef\xbb\xbf" "a\r\n\"b\"\r\n", {.no_header = true},
         "\xef\xbb\xbf" "a" NEW_TAIL "\"b\"" NEW_TAIL, "1:[a]\n2:[b]\n"},
        {"single.csv", "a", {.no_header = true}, "a" TAIL, "1:[a]\n"},
        {"parts.csv", "x;y;z\na;b;c\n", {.text = "1,3", .no_header = true},
         "x;y;z;L;m;0.9731;\na;b;c;L;m;0.9731;\n",
         "1:[1: x\n3: z]\n2:[1: a\n3: c]\n"},
        {"rows.tsv", "a\tb\n", {.text = "1", .no_header = true},
         "a\tb\tL\tm\t0.9731\t\n", "1:[a]\n"},
        {"rows.txt", "a,b\nc\n", {.no_header = true},
         "\"a,b\"" TAIL "c" TAIL, "1:[a,b]\n2:[c]\n"},
        {"rows.jsonl", "{\"text\":\"a\"}\n", {.no_header = true},
         "{\"text\":\"a\",\"label\":\"L\",\"label_by\":\"m\","
         "\"label_confidence\":0.9731,\"label_error\":null}\n", "1:[a]\n"},
        {"which.csv", "a,b\nc,d\n", {.no_header = true},
         "! which.csv, line 1, column 1: there are several columns; name the "
         "one to label with --text: 1, 2", NULL},
        {"name.csv", "a,b\n", {.text = "body", .no_header = true},
         "! name.csv, line 1, column 1: there is no column \"body\"; name one "
         "of these columns with --text: 1, 2", NULL},
        {"longer.csv", "a,b\nc,d,e\n", {.text = "1", .no_header = true},
         "a,b" TAIL "! longer.csv, line 2, column 4: 3 fields where the first "
         "line has 2; put quotes around the field that holds the extra ','"
         KEEP, NULL},
        {"bad.csv", "a\xff,b\nc,d\n",
         {.text = "1", .no_header = true, .bad_rows_fail = true},
         "a\xff,b" FAIL("bad_utf8") "c,d" TAIL, "1:[]!bad_utf8\n2:[c]\n"},
        {"brace.csv", "{first} is unhappy\n{name} wants money back\n",
         {.format = TR_FMT_CSV, .no_header = true},
         "{first} is unhappy" TAIL "{name} wants money back" TAIL,
         "1:[{first} is unhappy]\n2:[{name} wants money back]\n"},
        {"brace.data", "{\"a\": 1}\tit crashes\n",
         {.format = TR_FMT_TSV, .no_header = true, .text = "2"},
         "{\"a\": 1}\tit crashes\tL\tm\t0.9731\t\n", "1:[it crashes]\n"},
        {"empty-first.csv", "\na,b\n", {.no_header = true},
         "! empty-first.csv, line 1, column 1: the first line is empty; remove "
         "it", NULL},
    };
    (void)state;

    CHECK_ALL(table);
}

/* Four letters alone make no Parquet file: what follows them is binary. */
static void headers_like_magic(void **state)
{
    static const struct example table[] = {
        {"par1.csv", "PAR1,text\n1,a\n", {0},
         "PAR1,text" HEAD "\n1,a" TAIL, "2:[a]\n"},
        {"par1.tsv", "PAR1\ttext\n1\ta\n", {0},
         "PAR1\ttext\tlabel\tlabel_by\tlabel_confidence\tlabel_error\n"
         "1\ta\tL\tm\t0.9731\t\n", "2:[a]\n"},
        {"par1-only.csv", "PAR1\r\na\r\n", {0},
         "PAR1" HEAD "\r\na" NEW_TAIL, "2:[a]\n"},
        {"par1.txt", "PAR1", {0}, "text" HEAD "\nPAR1" TAIL, "1:[PAR1]\n"},
    };
    (void)state;

    CHECK_ALL(table);
}

/* Blank lines before the end are no rows; those in the middle stay faults, and
 * so do those of a file without any row. */
static void blank_lines_at_the_end(void **state)
{
    static const struct example table[] = {
        {"end.csv", "id,text\n1,a\n\n", {0}, "id,text" HEAD "\n1,a" TAIL,
         "2:[a]\n"},
        {"ends.csv", "id,text\r\n1,a\r\n\r\n\r\n\n\r\n", {0},
         "id,text" HEAD "\r\n1,a" NEW_TAIL, "2:[a]\n"},
        {"cr-last.csv", "id,text\n1,a\n\n\r", {0},
         "id,text" HEAD "\n1,a" TAIL, "2:[a]\n"},
        {"end.tsv", "id\ttext\n1\ta\n\n\n\n", {0},
         "id\ttext\tlabel\tlabel_by\tlabel_confidence\tlabel_error\n"
         "1\ta\tL\tm\t0.9731\t\n", "2:[a]\n"},
        {"end.jsonl", "{\"text\":\"a\"}\n\n\n", {0},
         "{\"text\":\"a\",\"label\":\"L\",\"label_by\":\"m\","
         "\"label_confidence\":0.9731,\"label_error\":null}\n", "1:[a]\n"},
        {"middle.csv", "id,text\n1,a\n\n\n2,b\n\n\n",
         {.bad_rows_fail = true},
         "id,text" HEAD "\n1,a" TAIL "," FAIL("bad_fields") ","
         FAIL("bad_fields") "2,b" TAIL,
         "2:[a]\n3:[]!bad_fields\n4:[]!bad_fields\n5:[b]\n"},
        {"bare.csv", "id,text\n1,a\n\n\rx", {0},
         "id,text" HEAD "\n1,a" TAIL "! bare.csv, line 3, column 1: an empty "
         "line where 2 fields belong; remove it" KEEP, NULL},
        {"no-row.csv", "id,text\n\n\n", {0},
         "id,text" HEAD "\n! no-row.csv, line 2, column 1: an empty line "
         "where 2 fields belong; remove it" KEEP, NULL},
        {"no-row-kept.csv", "id,text\n\n\n", {.bad_rows_fail = true},
         "id,text" HEAD "\n," FAIL("bad_fields") "," FAIL("bad_fields"), NULL},
        {"one.csv", "text\na\n\n\n", {0},
         "text" HEAD "\na" TAIL FAIL("empty_text") FAIL("empty_text"),
         "2:[a]\n3:[]!empty_text\n4:[]!empty_text\n"},
    };
    (void)state;

    CHECK_ALL(table);
}

/* Stop, the default: one sentence. */
static void bad_csv_stops(void **state)
{
    static const struct example table[] = {
        {"extra.csv", "id,text\n1,a\n2,b,c\n", {0},
         "id,text" HEAD "\n1,a" TAIL
         "! extra.csv, line 3, column 4: 3 fields where the header has 2; put "
         "quotes around the field that holds the extra ','" KEEP, NULL},
        {"few.csv", "id,text,n\n1\n", {0},
         "id,text,n" HEAD "\n! few.csv, line 2, column 2: 1 field where the "
         "header has 3; add the missing ones, empty if need be" KEEP, NULL},
        {"blank-line.csv", "id,text\n1,a\n\n2,b\n", {0},
         "id,text" HEAD "\n1,a" TAIL "! blank-line.csv, line 3, column 1: an "
         "empty line where 2 fields belong; remove it" KEEP, NULL},
        {"unclosed.csv", "id,text\n1,a\n2,\"b\n3,c\n", {0},
         "id,text" HEAD "\n1,a" TAIL "! unclosed.csv, line 3, column 3: the "
         "quote that opens here is never closed; close it, or double it where "
         "it is part of a quoted text" KEEP, NULL},
        {"stray.csv", "id,text\n1,5\" disk\n", {0},
         "id,text" HEAD "\n! stray.csv, line 2, column 4: a quote stands "
         "inside a field that does not begin with one; put the whole field in "
         "quotes and double the quotes in it" KEEP, NULL},
        {"after.csv", "id,text\n1,\"x\ny\"z\n", {0},
         "id,text" HEAD "\n! after.csv, line 3, column 3: text follows a "
         "closing quote; double the quotes that are part of the text" KEEP,
         NULL},
        {"after-end.csv", "id,text\n1,\"x\"z", {0},
         "id,text" HEAD "\n! after-end.csv, line 2, column 6: text follows a "
         "closing quote; double the quotes that are part of the text" KEEP,
         NULL},
        {"bare-cr.csv", "id,text\n1,a\rb\n", {0},
         "id,text" HEAD "\n! bare-cr.csv, line 2, column 4: a carriage return "
         "stands without a line feed; put the field in quotes, or turn old "
         "line ends into new ones with tr '\\r' '\\n'" KEEP, NULL},
        {"mac.csv", "id,text\r1,a\r", {0},
         "! mac.csv, line 1, column 8: a carriage return stands without a "
         "line feed; put the field in quotes, or turn old line ends into new "
         "ones with tr '\\r' '\\n'", NULL},
        {"1252.csv", "id,text\n1,\xc3\xa9\n2,caf\xe9\n", {0},
         "id,text" HEAD "\n1,\xc3\xa9" TAIL "! 1252.csv, line 3, column 6: "
         "not valid UTF-8, it looks like Windows-1252; convert it with iconv "
         "-f WINDOWS-1252 -t UTF-8 1252.csv > 1252.utf8.csv" KEEP, NULL},
        {"odd name.csv", "id,text\n1,caf\xe9\n", {0},
         "id,text" HEAD "\n! odd name.csv, line 2, column 6: not valid UTF-8, "
         "it looks like Windows-1252; convert it with iconv -f WINDOWS-1252 "
         "-t UTF-8 'odd name.csv' > 'odd name.utf8.csv'" KEEP, NULL},
        {"broken-utf8.csv", "id,text\n1,\xc3\xa9\xe6\x9c\n", {0},
         "id,text" HEAD "\n! broken-utf8.csv, line 2, column 4: not valid "
         "UTF-8; save the file as UTF-8 or correct the bytes" KEEP, NULL},
        {"utf16.csv", "\xff\xfei", {0},
         "! utf16.csv, line 1, column 1: this is UTF-16; convert it with "
         "iconv -f UTF-16 -t UTF-8 utf16.csv > utf16.utf8.csv", NULL},
        {"header-1252.csv", "id,caf\xe9\n1,a\n", {0},
         "! header-1252.csv, line 1, column 7: not valid UTF-8, it looks like "
         "Windows-1252; convert it with iconv -f WINDOWS-1252 -t UTF-8 "
         "header-1252.csv > header-1252.utf8.csv", NULL},
        {"missing.csv", "id,body,title\n1,a,b\n", {.text = "boddy"},
         "! missing.csv, line 1, column 1: there is no column \"boddy\" (did "
         "you mean \"body\"?); name one of these columns with --text: id, "
         "body, title", NULL},
        {"missing-id.csv", "nr,text\n1,a\n", {.label = "ticket"},
         "! missing-id.csv, line 1, column 1: there is no column \"ticket\"; "
         "name one of these columns with a label: nr, text", NULL},
        {"no-text.csv", "id,body\n1,a\n", {0},
         "! no-text.csv, line 1, column 1: the first line is taken for the "
         "names of the columns, and none is called text; name the one to "
         "label with --text: id, body; if that line is a row already, add "
         "--no-header", NULL},
        {"twice.csv", "id,text,id\n1,a,2\n", {0},
         "! twice.csv, line 1, column 9: columns 1 and 3 are both called "
         "\"id\"; rename one of them", NULL},
        {"clash.csv", "text,label_error\na,1\n", {0},
         "! clash.csv, line 1, column 1: there is already a column "
         "\"label_error\"; give the label column another name with --as NAME",
         NULL},
        {"empty.csv", "", {0},
         "! empty.csv is empty, there is nothing to label; check what wrote "
         "it", NULL},
        {"only-bom.csv", "\xef\xbb\xbf", {0},
         "! only-bom.csv holds only a byte order mark, there is nothing to "
         "label; check what wrote it", NULL},
        {"header-only.csv", "id,text\n", {0},
         "! header-only.csv, line 2, column 1: there is a header but no row; "
         "check what wrote this file", NULL},
        {"no-header.csv", "I was charged twice,a\nIt crashes,b\n", {0},
         "! no-header.csv, line 1, column 1: the first line is taken for the "
         "names of the columns, and none is called text; name the one to "
         "label with --text: I was charged twice, a; if that line is a row "
         "already, add --no-header", NULL},
        {"excel.csv", "sep=;\r\nid;text\r\n1;a\r\n", {0},
         "! excel.csv, line 1, column 1: the line \"sep=;\" is a note for "
         "Excel and no header; remove it (the delimiter is found without it)",
         NULL},
        {"excel-comma.csv", "SEP=,\nid,text\n1,a\n", {0},
         "! excel-comma.csv, line 1, column 1: the line \"SEP=,\" is a note "
         "for Excel and no header; remove it (the delimiter is found without "
         "it)", NULL},
        {"blank-header.csv", "\nid,text\n", {0},
         "! blank-header.csv, line 1, column 1: the header line is empty; "
         "begin the file with the names of the columns", NULL},
        {"json.csv", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n", {0},
         "! json.csv, line 1, column 1: this looks like JSON Lines, not like "
         "a header; add --format jsonl", NULL},
        {"json.data", "\n {\"text\": \"a\"}\n", {.delimiter = ';'},
         "! json.data, line 1, column 1: this looks like JSON Lines, not like "
         "a header; add --format jsonl", NULL},
        {"book.csv", "PK\x03\x04rest", {0},
         "! book.csv is an Excel workbook or a zip archive; export it as CSV "
         "UTF-8, or unzip it", NULL},
        {"book.xls", "\xd0\xcf\x11\xe0\xa1\xb1", {0},
         "! book.xls is an old Excel workbook or another Office document; "
         "export its table as CSV UTF-8", NULL},
        {"rows.parquet", "PAR1\x15\x04", {0},
         "! rows.parquet is a Parquet file; convert it to CSV or JSON Lines, "
         "for example with duckdb", NULL},
        {"plain.csv.gz", "id,text\n1,a\n", {0},
         "! plain.csv.gz is not packed although its name says so; rename it, "
         "or get it again", NULL},
    };
    (void)state;

    CHECK_ALL(table);
}

/* --on-bad-row fail: the row stays, with the right number of columns and its
 * code, and reading goes on at the next line. */
static void bad_csv_is_kept(void **state)
{
    static const struct example table[] = {
        {"k-few.csv", "id,text,n\n1\n\n2,b,c\n", {.bad_rows_fail = true},
         "id,text,n" HEAD "\n1,," FAIL("bad_fields") ",," FAIL("bad_fields")
         "2,b,c" TAIL,
         "2:[]!bad_fields\n3:[]!bad_fields\n4:[b]\n"},
        {"k-extra.csv", "id,text\n1,\"a\",c\n2,b\n", {.bad_rows_fail = true},
         "id,text" HEAD "\n\"1,\"\"a\"\",c\"," FAIL("bad_fields") "2,b" TAIL,
         "2:[]!bad_fields\n3:[b]\n"},
        {"k-unclosed.csv", "id,text,n\n1,\"b,2\n3,c,4\n",
         {.bad_rows_fail = true},
         "id,text,n" HEAD "\n1,\"\"\"b,2\"," FAIL("bad_quote") "3,c,4" TAIL,
         "2:[]!bad_quote\n3:[c]\n"},
        {"k-stray.csv", "id,text\r\n1,5\" disk\r\n2,b\r\n",
         {.bad_rows_fail = true},
         "id,text" HEAD "\r\n1,\"5\"\" disk\",,,,bad_quote\r\n2,b" NEW_TAIL,
         "2:[]!bad_quote\n3:[b]\n"},
        {"k-after.csv", "id,text\n1,\"x\"y\"\n2,b\n", {.bad_rows_fail = true},
         "id,text" HEAD "\n1,\"\"\"x\"\"y\"\"\"" FAIL("bad_quote") "2,b" TAIL,
         "2:[]!bad_quote\n3:[b]\n"},
        {"k-last.csv", "id,text\n1,a\n2,\"b", {.bad_rows_fail = true},
         "id,text" HEAD "\n1,a" TAIL "2,\"\"\"b\"" FAIL("bad_quote"),
         "2:[a]\n3:[]!bad_quote\n"},
        {"k-late.csv", "id,text\n1,a,\"b\n2,b\n", {.bad_rows_fail = true},
         "id,text" HEAD "\n\"1,a,\"\"b\"," FAIL("bad_quote") "2,b" TAIL,
         "2:[]!bad_quote\n3:[b]\n"},
        {"k-utf8.csv", "id,text\n1,caf\xe9\n2,b\n", {.bad_rows_fail = true},
         "id,text" HEAD "\n1,caf\xe9" FAIL("bad_utf8") "2,b" TAIL,
         "2:[]!bad_utf8\n3:[b]\n"},
    };
    (void)state;

    CHECK_ALL(table);
}

static void nul_bytes(void **state)
{
    static const char in[] = "id,text\n1,\"a\0\nb\"\n2,c\n";
    const char *path = "nul.csv";
    struct tr_source_opts o = {.paths = &path, .path_count = 1};
    struct tr_buf out;
    (void)state;

    put_file(path, tr_str(in, sizeof in - 1));
    tr_buf_init(&out, 0);
    assert_int_equal(read_all(&o, 8, 4096, &out, NULL), TR_DATA);
    assert_string_equal(out.p, "id,text" HEAD "\n! nul.csv, line 2, column 5: "
                               "a NUL byte; remove it, for example with tr -d "
                               "'\\000'" KEEP);
    tr_buf_clear(&out);
    o.bad_rows_fail = true;
    assert_int_equal(read_all(&o, 8, 4096, &out, NULL), TR_SOURCE_END);
    assert_int_equal(out.n, sizeof "id,text" HEAD "\n1,\"a0\nb\""
                                   FAIL("bad_nul") "2,c" TAIL - 1);
    assert_non_null(strstr(out.p + strlen(out.p) + 1, ",,,,bad_nul\n2,c,L"));
    tr_buf_release(&out);
}

static void json_lines(void **state)
{
#define JTAIL                                                                  \
    "\"label\":\"L\",\"label_by\":\"m\",\"label_confidence\":0.9731,"          \
    "\"label_error\":null}"
#define JFAIL(why)                                                             \
    "\"label\":null,\"label_by\":null,\"label_confidence\":null,"              \
    "\"label_error\":\"" why "\"}\n"
    static const struct example table[] = {
        {"j.jsonl",
         "{\"id\": 12345678901234567890, \"text\": \"a \\\"b\\\" \\u00e9\"}\n"
         "{ \"text\" : \"x\", \"n\" : {\"a\": [1, 2.50, null]} } \n",
         {.label = "id", .bad_rows_fail = true},
         "{\"id\": 12345678901234567890, \"text\": \"a \\\"b\\\" \\u00e9\","
         JTAIL "\n"
         "{ \"text\" : \"x\", \"n\" : {\"a\": [1, 2.50, null]} ,"
         "\"label\":null,\"label_by\":null,\"label_confidence\":null,"
         "\"label_error\":\"bad_member\"} \n",
         "1:[a \"b\" \xc3\xa9]#12345678901234567890\n2:[]!bad_member\n"},
        {"crlf.jsonl", "{\"text\":\"a\"}\r\n{\"text\":\"\"}", {0},
         "{\"text\":\"a\"," JTAIL "\r\n{\"text\":\"\",\"label\":null,"
         "\"label_by\":null,\"label_confidence\":null,"
         "\"label_error\":\"empty_text\"}\r\n",
         "1:[a]\n2:[]!empty_text\n"},
        {"only.jsonl", "{\"body\":\"a\"}\n{\"body\":\"\\ud83d\\ude00\"}\n",
         {0}, "{\"body\":\"a\"," JTAIL "\n{\"body\":\"\\ud83d\\ude00\"," JTAIL
         "\n", "1:[a]\n2:[\xf0\x9f\x98\x80]\n"},
        {"escaped.jsonl", "{\"\\u0442\\u0435\\u043a\\u0441\\u0442\":\"a\"}\n",
         {0}, "{\"\\u0442\\u0435\\u043a\\u0441\\u0442\":\"a\"," JTAIL "\n",
         "1:[a]\n"},
        {"escaped-text.jsonl", "{\"n\":1,\"\\u0074ext\":\"a\"}\n", {0},
         "{\"n\":1,\"\\u0074ext\":\"a\"," JTAIL "\n", "1:[a]\n"},
        {"parts.jsonl", "{\"a\":\"x\",\"b\":\"y\"}\n", {.text = "b,a"},
         "{\"a\":\"x\",\"b\":\"y\"," JTAIL "\n", "1:[b: y\na: x]\n"},
        {"kept.jsonl",
         "{}\nnot json\n{\"text\":1}\n\n{\"text\":\"\\ud800\"}\n"
         "{\"text\":\"a\",\"text\":\"b\"}\n{\"text\":\"\\u0000\"}\n"
         "{\"text\":\"ok\"}\n",
         {.bad_rows_fail = true},
         "{" JFAIL("bad_member") "{\"raw\":\"not json\"," JFAIL("bad_json")
         "{\"text\":1," JFAIL("bad_member") "{\"raw\":\"\"," JFAIL("bad_json")
         "{\"text\":\"\\ud800\"," JFAIL("bad_utf8")
         "{\"text\":\"a\",\"text\":\"b\"," JFAIL("bad_member")
         "{\"text\":\"\\u0000\"," JFAIL("bad_nul") "{\"text\":\"ok\"," JTAIL
         "\n",
         "1:[]!bad_member\n2:[]!bad_json\n3:[]!bad_member\n4:[]!bad_json\n"
         "5:[]!bad_utf8\n6:[]!bad_member\n7:[]!bad_nul\n8:[ok]\n"},
        {"first-byte", "\xef\xbb\xbf {\"text\":\"a\"}\n", {0},
         "\xef\xbb\xbf {\"text\":\"a\"," JTAIL "\n", "1:[a]\n"},
        {"word.jsonl", "{\"text\":\"a\"}\nhello\n", {0},
         "{\"text\":\"a\"," JTAIL "\n! word.jsonl, line 2, column 1: a JSON "
         "object in braces is expected; write one object per line, such as "
         "{\"text\": \"...\"}" KEEP, NULL},
        {"array.json", "[{\"text\":\"a\"}]\n", {0},
         "! array.json, line 1, column 1: this is a JSON array, not one "
         "object per line; convert it with jq -c '.[]'" KEEP, NULL},
        {"comma.jsonl", "{\"text\":\"a\" \"b\"}\n", {0},
         "! comma.jsonl, line 1, column 13: a ',' or '}' is expected; correct "
         "the line" KEEP, NULL},
        {"pretty.json", "{\n  \"text\": \"a\"\n}\n", {0},
         "! pretty.json, line 1, column 2: the line ends before its object "
         "does; write each object in one line, as jq -c . does" KEEP, NULL},
        {"cut.jsonl", "{\"text\":\"a\"}\r\n{\"text\":\"b\r\n", {0},
         "{\"text\":\"a\"," JTAIL "\r\n! cut.jsonl, line 2, column 11: the "
         "line ends before its object does; write each object in one line, as "
         "jq -c . does" KEEP, NULL},
        {"blank.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n", {0},
         "{\"text\":\"a\"," JTAIL "\n! blank.jsonl, line 2, column 1: an "
         "empty line where a JSON object belongs; remove it" KEEP, NULL},
        {"number.jsonl", "{\"text\":7}\n", {0},
         "! number.jsonl, line 1, column 9: the member to label is not a "
         "string; correct the line, or name another member with --text" KEEP,
         NULL},
        {"missing.jsonl", "{\"text\":\"a\"}\n{\"body\":\"b\"}\n", {0},
         "{\"text\":\"a\"," JTAIL "\n! missing.jsonl, line 2, column 1: the "
         "member to label, \"text\", is missing; correct the line, or name "
         "another member with --text" KEEP, NULL},
        {"nested.jsonl", "{\"meta\":{\"user\":{\"n\":\"a\"}}}\n",
         {.text = "meta.user.n"},
         "! nested.jsonl, line 1, column 1: the member to label, "
         "\"meta.user.n\", is missing, and only members of the outer object "
         "can be named; bring those inside of it out, for example with jq -c "
         "'.text = .meta.text'" KEEP, NULL},
        {"nested-id.jsonl", "{\"text\":\"a\",\"meta\":{\"id\":\"a\"}}\n",
         {.label = "meta.id"},
         "! nested-id.jsonl, line 1, column 1: the member with the label, "
         "\"meta.id\", is missing, and only members of the outer object can be "
         "named; bring those inside of it out, for example with jq -c "
         "'.text = .meta.text'" KEEP, NULL},
        {"dotted.jsonl", "{\"a.b\":\"x\"}\n", {.text = "a.b"},
         "{\"a.b\":\"x\"," JTAIL "\n", "1:[x]\n"},
        {"no-text.jsonl", "{\"id\":1,\"body\":\"b\"}\n", {0},
         "! no-text.jsonl, line 1, column 1: none of the members is called "
         "text; name the one to label with --text: id, body", NULL},
        {"twice.jsonl", "{\"text\":\"a\",\"n\":1,\"\\u006e\":2}\n", {0},
         "! twice.jsonl, line 1, column 28: a member name stands twice in the "
         "object; rename or remove one of the two" KEEP, NULL},
        {"clash.jsonl", "{\"text\":\"a\",\"label\":1}\n", {0},
         "! clash.jsonl, line 1, column 1: there is already a member "
         "\"label\"; give the label another name with --as NAME", NULL},
        {"twice-clash.jsonl", "{\"text\":\"a\",\"text\":\"b\",\"label\":1}\n",
         {.bad_rows_fail = true},
         "! twice-clash.jsonl, line 1, column 1: there is already a member "
         "\"label\"; give the label another name with --as NAME", NULL},
        {"raw.jsonl", "{\"text\":\"a\"}\nbroken\n",
         {.as = "raw", .bad_rows_fail = true},
         "! raw.jsonl, line 1, column 1: there is already a member \"raw\"; "
         "give the label column another name with --as NAME", NULL},
        {"raw-unkept.jsonl", "{\"text\":\"a\"}\n", {.as = "raw"},
         "{\"text\":\"a\",\"raw\":\"L\",\"raw_by\":\"m\","
         "\"raw_confidence\":0.9731,\"raw_error\":null}\n", "1:[a]\n"},
        {"bad.jsonl", "{\"text\":\"caf\xe9\"}\n", {0},
         "! bad.jsonl, line 1, column 13: not valid UTF-8, it looks like "
         "Windows-1252; convert it with iconv -f WINDOWS-1252 -t UTF-8 "
         "bad.jsonl > bad.utf8.jsonl" KEEP, NULL},
        {"half.jsonl", "{\"text\":\"\\udc00\"}\n", {0},
         "! half.jsonl, line 1, column 1: half of a \\u surrogate pair in the "
         "text; correct the line" KEEP, NULL},
    };
    (void)state;

    CHECK_ALL(table);
}

static void plain_lines(void **state)
{
    static const struct example table[] = {
        {"l.txt", "hello\n\nsay \"hi\", you\nlast", {0},
         "text" HEAD "\nhello" TAIL FAIL("empty_text")
         "\"say \"\"hi\"\", you\"" TAIL "last" TAIL,
         "1:[hello]\n2:[]!empty_text\n3:[say \"hi\", you]\n4:[last]\n"},
        {"l-crlf.txt", "a\r\nb\r\n", {0},
         "text" HEAD "\r\na" NEW_TAIL "b" NEW_TAIL, "1:[a]\n2:[b]\n"},
        {"l-bad.txt", "a\ncaf\xe9\n", {0},
         "text" HEAD "\na" TAIL "! l-bad.txt, line 2, column 4: not valid "
         "UTF-8, it looks like Windows-1252; convert it with iconv -f "
         "WINDOWS-1252 -t UTF-8 l-bad.txt > l-bad.utf8.txt" KEEP, NULL},
        {"l-kept.txt", "caf\xe9\nb\n", {.bad_rows_fail = true},
         "text" HEAD "\ncaf\xe9" FAIL("bad_utf8") "b" TAIL,
         "1:[]!bad_utf8\n2:[b]\n"},
        {"any.name", "a,b\n", {.format = TR_FMT_LINES},
         "text" HEAD "\n\"a,b\"" TAIL, "1:[a,b]\n"},
    };
    (void)state;

    CHECK_ALL(table);
}

static void several_labels(void **state)
{
    static const struct {
        const char *name, *in, *out;
        size_t count;
        bool multiple;
        enum tr_why why;
    } table[] = {
        {"m.csv", "text\na\n", "a,,,,\n", 0, true, TR_WHY_NONE},
        {"m.csv", "text\na\n", "a,x|y,,,\n", 2, true, TR_WHY_NONE},
        {"m2.csv", "a|text\n1|b\n", "1|b|\"x|y\"|||\n", 2, true, TR_WHY_NONE},
        {"m.jsonl", "{\"text\":\"a\"}\n",
         "{\"text\":\"a\",\"label\":[\"x\",\"y\"],\"label_by\":null,"
         "\"label_confidence\":null,\"label_error\":null}\n",
         2, true, TR_WHY_NONE},
        {"m.jsonl", "{\"text\":\"a\"}\n",
         "{\"text\":\"a\",\"label\":[],\"label_by\":null,"
         "\"label_confidence\":null,\"label_error\":null}\n",
         0, true, TR_WHY_NONE},
        {"m.jsonl", "{\"text\":\"a\"}\n",
         "{\"text\":\"a\",\"label\":null,\"label_by\":null,"
         "\"label_confidence\":null,\"label_error\":\"blocked\"}\n",
         0, true, TR_WHY_BLOCKED},
    };
    const struct tr_str labels[] = {{"x", 1}, {"y", 1}};
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_source_opts o = {.paths = &table[i].name, .path_count = 1};
        struct tr_companions c = {.labels = labels,
                                  .label_count = table[i].count,
                                  .multiple = table[i].multiple,
                                  .confidence = TR_NO_CONFIDENCE,
                                  .why = table[i].why};
        struct tr_block *block = tr_block_new(4, 64);
        struct tr_source *src;
        struct tr_err err;
        struct tr_buf out;

        put_file(table[i].name, tr_str_c(table[i].in));
        assert_int_equal(tr_source_open(&src, &o, &err), TR_OK);
        assert_int_equal(tr_source_next(src, block, &err), TR_SOURCE_ROW);
        tr_buf_init(&out, 0);
        tr_source_render(src, block, &block->rows[0], &c, &out);
        assert_string_equal(out.p, table[i].out);
        tr_buf_release(&out);
        tr_source_close(src);
        tr_block_free(block);
    }
}

static void several_files(void **state)
{
    static const struct {
        const char *in[2], *names[2], *out;
    } table[] = {
        {{"id,text\n1,a\n2,b", "\xef\xbb\xbfid,\"text\"\r\n3,c\r\n"},
         {"f1.csv", "f2.csv"},
         "id,text" HEAD "\n1,a" TAIL "2,b" TAIL "3,c" TAIL},
        {{"id,text\n1,a\n", "id,body\n3,c\n"},
         {"f1.csv", "f2.csv"},
         "! f2.csv, line 1, column 4: column 2 is called \"body\", but "
         "\"text\" in f1.csv; give all inputs the same header, or label them "
         "one by one"},
        {{"id,text\n1,a\n", "id;text\n3;c\n"},
         {"f1.csv", "f2.csv"},
         "! f2.csv, line 1, column 1: 1 column, but f1.csv has 2; give all "
         "inputs the same header and delimiter, or label them one by one"},
        {{"id,text\n1,a\n", "id,text\n"},
         {"f1.csv", "f2.csv"},
         "! f2.csv, line 2, column 1: there is a header but no row; check "
         "what wrote this file"},
        {{"id,text\n1,a\n", "{}\n"},
         {"f1.csv", "f2.jsonl"},
         "! f1.csv and f2.jsonl differ in format by their names; label them "
         "one by one, or say --format"},
        {{"{\"text\":\"a\"}", "{\"text\":\"b\"}\n"},
         {"f1.jsonl", "f2.jsonl"},
         "{\"text\":\"a\"," JTAIL "\n{\"text\":\"b\"," JTAIL "\n"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (size_t r = 0; r < sizeof read_sizes / sizeof *read_sizes; r++) {
            struct tr_source_opts o = {.paths = table[i].names,
                                       .path_count = 2,
                                       .read_bytes = read_sizes[r]};
            struct tr_buf out;

            put_file(table[i].names[0], tr_str_c(table[i].in[0]));
            put_file(table[i].names[1], tr_str_c(table[i].in[1]));
            tr_buf_init(&out, 0);
            read_all(&o, 8, 4096, &out, NULL);
            assert_string_equal(out.p, table[i].out);
            tr_buf_release(&out);
        }
    }
}

static void refused_inputs(void **state)
{
    static const struct {
        const char *paths[2];
        size_t n;
        struct tr_source_opts o;
        int code;
        const char *sentence;
    } table[] = {
        {{"absent.csv"}, 1, {0}, TR_NOINPUT,
         "absent.csv cannot be opened: No such file or directory; check the "
         "name and its permissions"},
        {{"."}, 1, {0}, TR_NOINPUT, ". is a folder; name the files in it"},
        {{"-", "-"}, 2, {0}, TR_USAGE,
         "standard input is named twice; name it once"},
        {{NULL}, 0, {0}, TR_USAGE,
         "no input; name a file, or - for standard input"},
        {{"x.csv"}, 1, {.delimiter = '"'}, TR_USAGE,
         "--delimiter takes one ASCII character that is not a quote or a line "
         "break"},
        {{"x.csv"}, 1, {.as = ""}, TR_USAGE, "--as needs a name"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_source_opts o = table[i].o;
        struct tr_source *src;
        struct tr_err err;

        o.paths = table[i].paths;
        o.path_count = table[i].n;
        assert_int_equal(tr_source_open(&src, &o, &err), table[i].code);
        assert_string_equal(err.text, table[i].sentence);
        assert_null(src);
    }
}

/* A slow pipe: WAIT instead of a stall, and the same rows in the end. */
static void slow_pipe(void **state)
{
    static const char in[] = "id,text\n1,\"a\nb\"\n2,c\n";
    const char *path = "fifo";
    struct tr_source_opts o = {.paths = &path, .path_count = 1};
    struct tr_block *block = tr_block_new(8, 4096);
    struct tr_source *src;
    struct tr_err err;
    size_t sent = 9, waits = 0;
    int fd, rc;
    (void)state;

    assert_int_equal(mkfifo(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(write(fd, in, sent), sent);
    assert_int_equal(tr_source_open(&src, &o, &err), TR_OK);
    assert_false(tr_source_rereadable(src));
    assert_int_equal(tr_source_bytes_total(src), -1);
    while ((rc = tr_source_next(src, block, &err)) != TR_SOURCE_END) {
        struct pollfd p = {.fd = tr_source_fd(src), .events = POLLIN};

        if (rc == TR_SOURCE_ROW)
            continue;
        assert_int_equal(rc, TR_SOURCE_WAIT);
        assert_int_equal(poll(&p, 1, 0), 0);
        waits++;
        if (sent < sizeof in - 1) {
            assert_int_equal(write(fd, in + sent++, 1), 1);
        } else {
            close(fd);
        }
    }
    assert_true(waits >= sizeof in - 1 - 9);
    assert_int_equal(block->row_count, 2);
    assert_true(tr_str_eq_c(tr_row_text(block, &block->rows[0]), "a\nb"));
    assert_int_equal(block->rows[1].line, 4);
    tr_source_close(src);
    tr_block_free(block);
    unlink(path);
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void signal_ends_the_first_wait(void **state)
{
    const struct itimerval often = {{0, 20000}, {0, 20000}}, never = {0};
    struct sigaction caught = {.sa_handler = on_alarm}, before;
    const char *path = "silent";
    struct tr_source_opts o = {.paths = &path, .path_count = 1};
    struct tr_source *src;
    struct tr_err err;
    int fd;
    (void)state;

    assert_int_equal(mkfifo(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    sigaction(SIGALRM, &caught, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    assert_int_equal(tr_source_open(&src, &o, &err), TR_STOPPED);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_string_equal(err.text, "stopped while waiting for the first bytes "
                                  "of silent; run the same command again");
    close(fd);
}

/* Nobody has opened it for writing yet: that is a slow pipe, no stall. */
static void a_named_pipe_behind_a_file_is_awaited(void **state)
{
    static const char *const paths[] = {"before.csv", "behind.csv"};
    struct tr_source_opts o = {.paths = paths, .path_count = 2};
    struct sigaction caught = {.sa_handler = on_alarm}, before;
    struct tr_block *block = tr_block_new(8, 4096);
    struct tr_source *src;
    struct tr_err err;
    int fd;
    (void)state;

    put_file(paths[0], TR_STR("text\na\n"));
    assert_int_equal(mkfifo(paths[1], 0600), 0);
    assert_int_equal(tr_source_open(&src, &o, &err), TR_OK);
    assert_int_equal(tr_source_next(src, block, &err), TR_SOURCE_ROW);
    sigaction(SIGALRM, &caught, &before);
    alarm(5);
    assert_int_equal(tr_source_next(src, block, &err), TR_SOURCE_WAIT);
    assert_int_equal(tr_source_next(src, block, &err), TR_SOURCE_WAIT);
    alarm(0);
    sigaction(SIGALRM, &before, NULL);
    fd = open(paths[1], O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "text\nb\n", 7), 7);
    close(fd);
    tr_block_free(block);
    block = tr_block_new(8, 4096);
    assert_int_equal(tr_source_next(src, block, &err), TR_SOURCE_ROW);
    assert_true(tr_str_eq_c(tr_row_text(block, &block->rows[0]), "b"));
    assert_int_equal(tr_source_next(src, block, &err), TR_SOURCE_END);
    tr_source_close(src);
    tr_block_free(block);
}

static void what_was_detected(void **state)
{
    static const struct {
        const char *name, *in, *summary;
        struct tr_source_opts o;
    } table[] = {
        {"s.csv", "id;body\n1;a\n",
         "s.csv: CSV with ';', text column \"body\", 2 columns",
         {.text = "body"}},
        {"s.tsv", "a\tb\n1\ta\n",
         "s.tsv: TSV, text columns \"a\", \"b\", 2 columns", {.text = "a,b"}},
        {"s.jsonl", "{\"text\":\"a\"}\n",
         "s.jsonl: JSON Lines, text member \"text\"", {0}},
        {"s.txt", "a\n", "s.txt: plain lines", {0}},
        /* Under ',' the records behind the first one are unsound. */
        {"breaks.csv", "text;size (m, kg)\n\"money back please\";1\n"
                       "\"it crashes\";2\n",
         "breaks.csv: CSV with ';', text column \"text\", 2 columns", {0}},
        {"silent.csv", "money back, please;1\n\"it crashes; always\";2\n",
         "silent.csv: CSV with ';', text column \"1\", 2 columns, no header",
         {.text = "1", .no_header = true, .bad_rows_fail = true}},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_source_opts o = table[i].o;
        struct tr_source *src;
        struct tr_err err;

        put_file(table[i].name, tr_str_c(table[i].in));
        o.paths = &table[i].name;
        o.path_count = 1;
        assert_int_equal(tr_source_open(&src, &o, &err), TR_OK);
        assert_string_equal(tr_source_summary(src), table[i].summary);
        assert_true(tr_source_rereadable(src));
        assert_int_equal(tr_source_bytes_total(src), strlen(table[i].in));
        tr_source_close(src);
    }
}

/* Records beyond the limit: a sentence, or a row that holds what fits. */
static void over_long_records(void **state)
{
    enum { LONG = TR_RECORD_BYTES_MAX };
    static const struct {
        const char *start; /* of the long record; then LONG times 'x' */
        const char *sentence, *why;
    } table[] = {
        {"", "long.csv, line 2, column 1: the record is longer than 8 MiB; "
             "split it, or correct the quote or line end that is missing" KEEP,
         "over_long_record"},
        {"1,\"\n", "long.csv, line 2, column 3: the quote that opens here is "
                   "not closed within 8 MiB; close it, or double it where it "
                   "is part of a quoted text" KEEP,
         "bad_quote"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *path = "long.csv";
        struct tr_source_opts o = {.paths = &path, .path_count = 1};
        struct tr_buf in, out, seen;
        char *p;

        tr_buf_init(&in, 0);
        tr_buf_init(&out, 0);
        tr_buf_init(&seen, 0);
        tr_buf_addz(&in, "id,text\n");
        tr_buf_addz(&in, table[i].start);
        p = tr_buf_room(&in, LONG + 5);
        memset(p, 'x', LONG + 5);
        in.n += LONG + 5;
        tr_buf_addz(&in, "\n2,b\n");
        put_file(path, tr_buf_str(&in));
        assert_int_equal(read_all(&o, 8, 64, &out, NULL), TR_DATA);
        assert_non_null(strstr(out.p, table[i].sentence));
        tr_buf_clear(&out);
        o.bad_rows_fail = true;
        assert_int_equal(read_all(&o, 8, 64, &out, &seen), TR_SOURCE_END);
        assert_true(in.n + 100 > out.n && out.n + 100 > in.n);
        assert_non_null(strstr(out.p, "\n2,b" TAIL));
        assert_non_null(strstr(seen.p, table[i].why));
        assert_non_null(strstr(seen.p, i ? "4:[b]\n" : "3:[b]\n"));
        tr_buf_release(&in);
        tr_buf_release(&out);
        tr_buf_release(&seen);
    }
}

/* As a JSON string a control byte is six: what is kept of many is cut. */
static void long_lines_that_grow(void **state)
{
    static const struct {
        char byte;
        size_t n, kept; /* bytes of raw, as JSON */
    } table[] = {
        {'\0', 7u << 20, (16u << 20) - 4},
        {'"', 8u << 20, 16u << 20},
        {'x', 8u << 20, 8u << 20},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *path = "grows.jsonl";
        struct tr_source_opts o = {.paths = &path, .path_count = 1,
                                   .bad_rows_fail = true};
        struct tr_buf in, out;
        const char *raw, *end;

        tr_buf_init(&in, 0);
        tr_buf_init(&out, 0);
        tr_buf_addz(&in, "{\"text\":\"money back\"}\n");
        memset(tr_buf_room(&in, table[i].n), table[i].byte, table[i].n);
        in.n += table[i].n;
        tr_buf_addz(&in, "\n{\"text\":\"it crashes\"}\n");
        put_file(path, tr_buf_str(&in));
        assert_int_equal(read_all(&o, 8, 64, &out, NULL), TR_SOURCE_END);
        raw = strstr(out.p, "{\"raw\":\"");
        end = strstr(out.p, "\",\"label\":null");
        assert_true(raw && end);
        assert_int_equal(end - raw - 8, table[i].kept);
        assert_non_null(strstr(end, "\n{\"text\":\"it crashes\"," JTAIL));
        tr_buf_release(&in);
        tr_buf_release(&out);
    }
}

/* A record of exactly the limit passes, whatever the line end. */
static void longest_record(void **state)
{
    static const char *const ends[] = {"\n", "\r\n", ""};
    (void)state;

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const char *path = "longest.csv";
        struct tr_source_opts o = {.paths = &path, .path_count = 1};
        struct tr_buf in, out;

        tr_buf_init(&in, 0);
        tr_buf_init(&out, 0);
        tr_buf_addz(&in, "text\n");
        memset(tr_buf_room(&in, TR_RECORD_BYTES_MAX), 'x',
               TR_RECORD_BYTES_MAX);
        in.n += TR_RECORD_BYTES_MAX;
        tr_buf_addz(&in, ends[i]);
        put_file(path, tr_buf_str(&in));
        assert_int_equal(read_all(&o, 8, 64, &out, NULL), TR_SOURCE_END);
        assert_non_null(strstr(out.p + TR_RECORD_BYTES_MAX, "x" TAIL));
        tr_buf_release(&in);
        tr_buf_release(&out);
    }
}

/* A device without end is no input, in any format: one record is read of it. */
static void endless_input(void **state)
{
    static const enum tr_format formats[] = {TR_FMT_AUTO, TR_FMT_CSV,
                                             TR_FMT_JSONL, TR_FMT_LINES};
    (void)state;

    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const char *path = "/dev/zero";
        struct tr_source_opts o = {.paths = &path, .path_count = 1,
                                   .format = formats[i]};
        struct tr_buf out;

        tr_buf_init(&out, 0);
        assert_int_equal(read_all(&o, 8, 64, &out, NULL), TR_DATA);
        assert_non_null(strstr(out.p, "/dev/zero, line 1, column 1: the record "
                                      "is longer than 8 MiB"));
        tr_buf_release(&out);
    }
}

/* As many columns as there may be, and one more. */
static void columns_are_bounded(void **state)
{
    (void)state;

    for (unsigned n = TR_FIELDS_MAX; n <= TR_FIELDS_MAX + 1; n++) {
        const char *path = "wide.csv";
        struct tr_source_opts o = {.paths = &path, .path_count = 1};
        struct tr_buf in, out;

        tr_buf_init(&in, 0);
        tr_buf_init(&out, 0);
        for (unsigned i = 1; i < n; i++)
            tr_buf_addf(&in, "c%u,", i);
        tr_buf_addz(&in, "text\n");
        for (unsigned i = 1; i < n; i++)
            tr_buf_addz(&in, "1,");
        tr_buf_addz(&in, "hello\n");
        put_file(path, tr_buf_str(&in));
        if (n == TR_FIELDS_MAX) {
            assert_int_equal(read_all(&o, 8, 64, &out, NULL), TR_SOURCE_END);
            assert_non_null(strstr(out.p, ",1,1,hello" TAIL));
        } else {
            assert_int_equal(read_all(&o, 8, 64, &out, NULL), TR_DATA);
            assert_non_null(strstr(out.p, "the header has more than 4096 "
                                          "columns; keep only the columns that "
                                          "are needed"));
        }
        tr_buf_release(&in);
        tr_buf_release(&out);
    }
}

/* A number of a million digits comes out as it went in; of members there are
 * as many as columns, and a million are refused at the first too many. */
static void json_of_any_size(void **state)
{
    static const struct {
        size_t digits;
        unsigned members; /* before ours */
        bool fits;
    } table[] = {
        {1000000, 0, true}, {1, TR_FIELDS_MAX - 2, true},
        {1, TR_FIELDS_MAX - 1, false}, {1, 600000, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *path = "huge.jsonl";
        struct tr_source_opts o = {.paths = &path, .path_count = 1};
        struct tr_buf in, out;
        size_t n;

        tr_buf_init(&in, 0);
        tr_buf_init(&out, 0);
        tr_buf_addz(&in, "{\"n\":");
        memset(tr_buf_room(&in, table[i].digits), '7', table[i].digits);
        in.n += table[i].digits;
        for (unsigned k = 0; k < table[i].members; k++)
            tr_buf_addf(&in, ",\"k%x\":1", k);
        n = in.n;
        tr_buf_addz(&in, ",\"text\":\"hello\"}\n");
        put_file(path, tr_buf_str(&in));
        assert_int_equal(read_all(&o, 8, 64, &out, NULL),
                         table[i].fits ? TR_SOURCE_END : TR_DATA);
        if (table[i].fits) {
            assert_memory_equal(out.p, in.p, n);
            assert_string_equal(out.p + n, ",\"text\":\"hello\"," JTAIL "\n");
        } else {
            assert_non_null(strstr(out.p, "it has too many members"));
        }
        tr_buf_release(&in);
        tr_buf_release(&out);
    }
}

static size_t count_of(struct tr_str s, const char *word)
{
    size_t count = 0, n = strlen(word);

    for (size_t i = 0; i + n <= s.n; i++)
        count += memcmp(s.p + i, word, n) == 0;
    return count;
}

/* Any bytes at all, with --on-bad-row fail: no row is lost, the output has
 * the shape of the input (it reads back with the same good rows and without
 * a structural fault), and the sizes of the reads do not matter. */
static void any_bytes(void **state)
{
    static const char alphabet[] = "aabbccddee ,,,,\"\"\"\n\n\r\xc3\xa9\xe9";
    static const struct {
        const char *name, *header, *back;
    } formats[] = {
        {"soup.csv", "id,text,n\n", "back.csv"},
        {"soup.tsv", "id\ttext\tn\r\n", "back.tsv"},
        {"soup.txt", "", "back.csv"},
        {"soup.jsonl", "{\"text\":\"first\"}\n", "back.jsonl"},
    };
    struct tr_rng rng = {99};
    size_t bad = 0, good = 0;
    (void)state;

    for (int round = 0; round < 6000; round++) {
        size_t f = round % 4;
        bool json = f == 3;
        struct tr_source_opts o = {.paths = &formats[f].name, .path_count = 1,
                                   .text = "text", .bad_rows_fail = true};
        struct tr_buf in, out[2], seen[2], again, seen_again;
        size_t n = 1 + tr_rng_below(&rng, 300);

        tr_buf_init(&in, 0);
        tr_buf_addz(&in, formats[f].header);
        for (size_t i = 0; i < n; i++) {
            char c = alphabet[tr_rng_below(&rng, sizeof alphabet - 1)];

            if (f == 1 && c == ',')
                c = '\t';
            if (json && tr_rng_below(&rng, 12) == 0)
                tr_buf_addz(&in, "\n{\"text\":\"");
            else if (json && tr_rng_below(&rng, 12) == 0)
                tr_buf_addz(&in, "\"}\n");
            else
                tr_buf_addc(&in, c);
        }
        put_file(formats[f].name, tr_buf_str(&in));
        for (int i = 0; i < 2; i++) {
            tr_buf_init(&out[i], 0);
            tr_buf_init(&seen[i], 0);
            o.read_bytes = i ? 1 + tr_rng_below(&rng, 20) : 0;
            assert_int_equal(read_all(&o, i ? 3 : 64, i ? 30 : 4096, &out[i],
                                      &seen[i]), TR_SOURCE_END);
        }
        assert_true(tr_str_eq(tr_buf_str(&out[0]), tr_buf_str(&out[1])));
        assert_true(tr_str_eq(tr_buf_str(&seen[0]), tr_buf_str(&seen[1])));
        bad += count_of(tr_buf_str(&seen[0]), "!bad_");
        good += count_of(tr_buf_str(&out[0]), "0.9731");

        tr_buf_init(&again, 0);
        tr_buf_init(&seen_again, 0);
        put_file(formats[f].back, tr_buf_str(&out[0]));
        o.paths = &formats[f].back;
        o.as = "second";
        assert_int_equal(read_all(&o, 64, 4096, &again, &seen_again),
                         TR_SOURCE_END);
        assert_int_equal(count_of(tr_buf_str(&seen_again), "]"),
                         count_of(tr_buf_str(&seen[0]), "]"));
        assert_null(strstr(seen_again.p, "!bad_fields"));
        assert_null(strstr(seen_again.p, "!bad_quote"));
        assert_null(strstr(seen_again.p, "!bad_json"));
        tr_buf_release(&in);
        tr_buf_release(&again);
        tr_buf_release(&seen_again);
        for (int i = 0; i < 2; i++) {
            tr_buf_release(&out[i]);
            tr_buf_release(&seen[i]);
        }
    }
    assert_true(bad > 5000 && good > 5000);
}

/* Memory that runs out anywhere is a code, never a crash or a lost row. */
static void memory_runs_out(void **state)
{
    const char *path = "oom.csv";
    struct tr_source_opts o = {.paths = &path, .path_count = 1,
                               .text = "title,body", .label = "id"};
    (void)state;

    put_file(path, TR_STR("id,title,body\n1,\"a\"\"b\",c\n2,d,e\n"));
    for (long nth = 1;; nth++) {
        struct tr_block *block = tr_block_new(8, 4);
        struct tr_source *src = NULL;
        struct tr_err err;
        int rc;

        tr_mem_fail_at(nth, 0);
        rc = tr_source_open(&src, &o, &err);
        while (rc == TR_OK || rc == TR_SOURCE_ROW) {
            rc = tr_source_next(src, block, &err);
            if (rc == TR_SOURCE_FULL || rc == TR_SOURCE_ROW) {
                block->row_count = 0;
                block->bytes_n = 0;
            }
            if (rc == TR_SOURCE_END)
                break;
        }
        tr_source_close(src);
        tr_block_free(block);
        if (tr_mem_fail_at(0, 0) < nth) {
            assert_int_equal(rc, TR_SOURCE_END);
            assert_true(nth > 10);
            break;
        }
        assert_int_equal(rc, TR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_csv),
        cmocka_unit_test(csv_without_header),
        cmocka_unit_test(headers_like_magic),
        cmocka_unit_test(blank_lines_at_the_end),
        cmocka_unit_test(bad_csv_stops),
        cmocka_unit_test(bad_csv_is_kept),
        cmocka_unit_test(nul_bytes),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(plain_lines),
        cmocka_unit_test(several_labels),
        cmocka_unit_test(several_files),
        cmocka_unit_test(refused_inputs),
        cmocka_unit_test(slow_pipe),
        cmocka_unit_test(signal_ends_the_first_wait),
        cmocka_unit_test(a_named_pipe_behind_a_file_is_awaited),
        cmocka_unit_test(what_was_detected),
        cmocka_unit_test(over_long_records),
        cmocka_unit_test(long_lines_that_grow),
        cmocka_unit_test(longest_record),
        cmocka_unit_test(endless_input),
        cmocka_unit_test(columns_are_bounded),
        cmocka_unit_test(json_of_any_size),
        cmocka_unit_test(any_bytes),
        cmocka_unit_test(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
