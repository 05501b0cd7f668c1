/* yaml.h - YAML text as a small tree: the only door to libyaml.
 *
 * Scalars stay the text the user wrote (no, 1.10 and on are not turned into
 * anything). One document, no anchors, aliases or merge keys, no tags but
 * !!str, keys are scalars, a key stands once in its map.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_YAML_H
#define TR_BASE_YAML_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define TR_YAML_DEPTH_MAX 32
#define TR_YAML_NODES_MAX 500000u /* about 80 MiB of tree at most */

enum tr_yaml_kind { TR_YAML_SCALAR, TR_YAML_MAP, TR_YAML_LIST };

struct tr_yaml {
    enum tr_yaml_kind kind;
    struct tr_str value;     /* scalar: its text; arena, NUL-terminated */
    bool quoted;             /* scalar: "", '', | or > style, or !!str */
    int line, column;        /* where it begins, from 1 */
    struct tr_str key;       /* member of a map: its key */
    int key_line, key_column;
    size_t from, to;         /* its bytes in the text, after a BOM */
    struct tr_yaml *first;   /* map, list: children in order */
    struct tr_yaml *next;    /* next child of the same parent */
    uint32_t count;          /* map, list: number of children */
};

/* file: its name for error sentences, which all carry file:line:column. The
 * tree lives in the arena; text is not needed afterwards. */
int tr_yaml_parse(struct tr_yaml **root, struct tr_arena *a,
                  struct tr_str text, const char *file, struct tr_err *err);

/* Member of a map, or NULL (also when map is NULL or no map). */
const struct tr_yaml *tr_yaml_get(const struct tr_yaml *map, const char *key);

/* Nothing was written: empty, ~ or null without quotes. */
bool tr_yaml_is_null(const struct tr_yaml *node);

/* true/false, yes/no or on/off without quotes: returns whether it was one. */
bool tr_yaml_bool(const struct tr_yaml *node, bool *value);

/* The subtree as YAML text of its own, for another tr_yaml_parse(): blank
 * lines and spaces stand in for what was before it, so that lines and columns
 * remain those of the file. text is what was parsed; p is NULL when memory is
 * out. */
struct tr_str tr_yaml_text(struct tr_arena *a, struct tr_str text,
                           const struct tr_yaml *node);

#endif
