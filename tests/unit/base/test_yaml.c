/* test_yaml.c - the YAML tree, its places, and the sentences for bad text.
 * SPDX-License-Identifier: MIT */
#include "base/yaml.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The tree on one line: {key: value, ...}, [..], "text"; * marks quotes. */
static void show(struct tr_buf *b, const struct tr_yaml *n)
{
    if (n->kind == TR_YAML_SCALAR) {
        tr_buf_addz(b, n->quoted ? "*" : "");
        tr_buf_add_json(b, n->value);
        return;
    }
    tr_buf_addc(b, n->kind == TR_YAML_MAP ? '{' : '[');
    for (const struct tr_yaml *c = n->first; c; c = c->next) {
        if (n->kind == TR_YAML_MAP) {
            tr_buf_adds(b, c->key);
            tr_buf_addz(b, ": ");
        }
        show(b, c);
        tr_buf_addz(b, c->next ? ", " : "");
    }
    tr_buf_addc(b, n->kind == TR_YAML_MAP ? '}' : ']');
}

static void test_trees(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"a: 1\nb: [x, 'y']\n", "{a: \"1\", b: [\"x\", *\"y\"]}"},
        {"\xef\xbb\xbf" "a: no\n", "{a: \"no\"}"},
        {"- a\n- b: c\n  d:\n", "[\"a\", {b: \"c\", d: \"\"}]"},
        {"a: |\n  one\n  two\n", "{a: *\"one\\ntwo\\n\"}"},
        {"a: {b: {c: \"d\\te\"}}", "{a: {b: {c: *\"d\\te\"}}}"},
        {"a: !!str 1", "{a: *\"1\"}"},
        {"# only\nword\n", "\"word\""},
        {"a: x\r\nb: y\r\n", "{a: \"x\", b: \"y\"}"},
        {"labels:\n- a\n- b\nc: []", "{labels: [\"a\", \"b\"], c: []}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_arena a;
        struct tr_buf b;
        struct tr_yaml *root;
        struct tr_err err = {0};

        tr_arena_init(&a);
        tr_buf_init(&b, 0);
        if (tr_yaml_parse(&root, &a, tr_str_c(cases[i].text), "t", &err))
            fail_msg("case %zu: %s", i, err.text);
        show(&b, root);
        assert_string_equal(b.p, cases[i].want);
        tr_buf_release(&b);
        tr_arena_release(&a);
    }
}

static void test_errors(void **state)
{
    static const struct {
        const char *text, *want; /* beginning of the sentence */
    } cases[] = {
        {"", "t: the file is empty"},
        {"# nothing\n", "t: the file is empty"},
        {"a: 1\nb: 2\na: 3\n", "t:3:1: the key 'a' stands twice (first in "
                               "line 1)"},
        {"a:\n\tb: 1\n", "t:2:1: this character cannot begin"},
        {"a: b: c\n", "t:1:5: a ': ' stands where none may be"},
        {"a: \"x\nb: y\n", "t:1:4: the text ends inside a quote"},
        {"a: [1, 2\nb: 3\n", "t:2:2: a ',' or ']' is missing"},
        {"a: &x 1\nb: *x\n", "t:1:4: anchors (&) and aliases"},
        {"a: *x\n", "t:1:4: aliases (*) are not supported"},
        {"<<: {a: 1}\n", "t:1:1: merge keys"},
        {"a: !!python/object x\n", "t:1:4: tags (!) are not supported"},
        {"a: 1\n---\nb: 2\n", "t:2:1: a second document"},
        {"[a, b]: c\n", "t:1:1: a key must be a plain word"},
        {"a: \"x\\0y\"\n", "t:1:4: a NUL character"},
        {"a: \"\\q\"\n", "t:1:5: unknown escape"},
        {"a: x\nb: \xff\n", "t:2:4: the text is not valid UTF-8"},
        {"a: x\nb: \x01\n", "t:2:4: a control character"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "t:1:33: nested too deeply"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_arena a;
        struct tr_yaml *root;
        struct tr_err err = {0};

        tr_arena_init(&a);
        assert_int_equal(tr_yaml_parse(&root, &a, tr_str_c(cases[i].text),
                                       "t", &err), TR_CONFIG);
        if (strncmp(err.text, cases[i].want, strlen(cases[i].want)) != 0)
            fail_msg("case %zu: \"%s\"", i, err.text);
        assert_null(root);
        tr_arena_release(&a);
    }
}

static void test_places_and_subtree(void **state)
{
    static const char text[] = "gr\xc3\xbc\xc3\x9f: 1\n"
                               "providers:\n"
                               "  # h\xc3\xa4\n"
                               "  a: {url: x}\n"
                               "  b:\n"
                               "    url: y\n"
                               "last: z\n";
    struct tr_arena a;
    struct tr_yaml *root, *again;
    struct tr_err err = {0};
    const struct tr_yaml *n, *m;
    struct tr_str part;

    (void)state;
    tr_arena_init(&a);
    assert_int_equal(tr_yaml_parse(&root, &a, TR_STR(text), "t", &err), 0);
    n = tr_yaml_get(root, "providers");
    assert_non_null(n);
    assert_int_equal(n->key_line, 2);
    assert_int_equal(n->line, 4);
    assert_int_equal(n->column, 3);
    part = tr_yaml_text(&a, TR_STR(text), n);
    assert_int_equal(tr_yaml_parse(&again, &a, part, "t", &err), 0);
    assert_int_equal(again->count, 2);
    n = tr_yaml_get(tr_yaml_get(n, "b"), "url");
    m = tr_yaml_get(tr_yaml_get(again, "b"), "url");
    assert_int_equal(m->line, n->line);
    assert_int_equal(m->column, n->column);
    assert_true(tr_str_eq(m->value, n->value));
    assert_null(tr_yaml_get(again, "last"));
    /* a flow map in the middle of a line */
    n = tr_yaml_get(tr_yaml_get(root, "providers"), "a");
    part = tr_yaml_text(&a, TR_STR(text), n);
    assert_int_equal(tr_yaml_parse(&again, &a, part, "t", &err), 0);
    assert_true(tr_str_eq_c(tr_yaml_get(again, "url")->value, "x"));
    assert_int_equal(again->column, n->column);
    tr_arena_release(&a);
}

static void test_words(void **state)
{
    struct tr_arena a;
    struct tr_yaml *root;
    bool v = false;

    (void)state;
    tr_arena_init(&a);
    assert_int_equal(tr_yaml_parse(&root, &a,
                                   TR_STR("a: yes\nb: 'yes'\nc: ~\nd: ''\n"),
                                   "t", NULL), 0);
    assert_true(tr_yaml_bool(tr_yaml_get(root, "a"), &v));
    assert_true(v);
    assert_false(tr_yaml_bool(tr_yaml_get(root, "b"), &v));
    assert_true(tr_yaml_is_null(tr_yaml_get(root, "c")));
    assert_false(tr_yaml_is_null(tr_yaml_get(root, "d")));
    assert_null(tr_yaml_get(root, "e"));
    assert_null(tr_yaml_get(NULL, "e"));
    tr_arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_places_and_subtree),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
