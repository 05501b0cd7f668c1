/* layer.h - a file of rows about providers and models, laid over what the
 * catalogue has. catalog.c lays file over file; nobody else includes this.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_LAYER_H
#define TR_WIRE_LAYER_H

#include "base/arena.h"
#include "base/yaml.h"
#include "wire/provider.h"

struct tr_catalog {
    struct tr_arena arena;
    struct tr_provider *providers;
    size_t provider_count, provider_cap;
    struct tr_model *models;
    size_t model_count, model_cap;
    const struct tr_provider *ours; /* built-in rows, before any other */
    size_t built_in;
};

/* Who wrote a row decides what it may do. */
enum tr_writer { TR_BY_US, TR_BY_USER, TR_BY_TASK };

struct tr_layer {
    struct tr_catalog *c;
    enum tr_writer writer;
    const char *file;  /* for messages */
    const char *as_of;
    struct tr_err *err;
    bool bare;         /* rows of models may stand without "models:" */
    int64_t today_s;   /* wall clock: which prices hold */
};

/* Takes "providers:" and "models:" of a file. TR_CONFIG, with the place;
 * TR_NOMEM. */
int tr_layer_take(struct tr_layer *s, struct tr_str text);
/* The rows of providers: alone. */
int tr_layer_take_providers(const struct tr_layer *s,
                            const struct tr_yaml *map);

/* By name; NULL: there is none. */
struct tr_provider *tr_catalog_row(const struct tr_catalog *c,
                                   struct tr_str name);
struct tr_model *tr_catalog_model(const struct tr_catalog *c,
                                  struct tr_str name);

#endif
