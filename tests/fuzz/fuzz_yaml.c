/* fuzz_yaml.c - YAML as a tree: an error names a place in the text; a tree's
 * places are in the text; and a part of it, cut out, is read as it was.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "base/yaml.h"

static void check_node(const struct tr_yaml *node, struct tr_str text)
{
    uint32_t count = 0;

    CHECK(node->from <= node->to && node->to <= text.n);
    CHECK(node->line >= 1 && (size_t)node->line <= fuzz_lines(text) + 1);
    CHECK(node->column >= 1 && (size_t)node->column <= text.n + 1);
    if (node->kind == TR_YAML_SCALAR) {
        CHECK(node->value.p && !node->value.p[node->value.n]);
        CHECK(!memchr(node->value.p, 0, node->value.n));
        CHECK(fuzz_utf8_valid(node->value) == node->value.n);
        CHECK(!node->first && !node->count);
        return;
    }
    for (const struct tr_yaml *c = node->first; c; c = c->next, count++) {
        check_node(c, text);
        if (node->kind != TR_YAML_MAP)
            continue;
        CHECK(c->key.p && fuzz_utf8_valid(c->key) == c->key.n);
        CHECK(tr_yaml_get(node, c->key.p) == c);
    }
    CHECK(count == node->count);
}

static void check_same(const struct tr_yaml *a, const struct tr_yaml *b)
{
    /* What is not there stands where the next thing begins. */
    bool placed = a->kind != TR_YAML_SCALAR || a->value.n || a->quoted;

    CHECK(a->kind == b->kind && a->quoted == b->quoted);
    CHECK(a->count == b->count && tr_str_eq(a->value, b->value));
    CHECK(!placed || (a->line == b->line && a->column == b->column));
    a = a->first;
    b = b->first;
    for (; a && b; a = a->next, b = b->next) {
        CHECK(tr_str_eq(a->key, b->key));
        CHECK(!a->key.n || a->key_line == b->key_line);
        check_same(a, b);
    }
    CHECK(!a && !b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tr_str text = tr_str((const char *)data, n);
    struct tr_arena arena;
    struct tr_yaml *root, *again;
    struct tr_err err = {0};
    int rc, parts = 0;

    tr_arena_init(&arena);
    rc = tr_yaml_parse(&root, &arena, text, "f.yaml", &err);
    CHECK((rc == TR_OK) == (root != NULL));
    if (rc != TR_OK) {
        bool placed = fuzz_check_error(&err, rc, "f.yaml", text);

        CHECK(placed || strstr(err.text, "empty"));
    } else {
        check_node(root, text);
        /* What a task file says about providers is handed on like this. */
        for (const struct tr_yaml *c = root->first; c && parts < 4;
             c = c->next, parts++) {
            struct tr_str part = tr_yaml_text(&arena, text, c);

            if (c->kind != TR_YAML_MAP || root->kind != TR_YAML_MAP)
                continue;
            CHECK(part.p);
            CHECK(tr_yaml_parse(&again, &arena, part, "p.yaml", &err) ==
                  TR_OK);
            check_same(c, again);
        }
    }
    tr_arena_release(&arena);
    return 0;
}
