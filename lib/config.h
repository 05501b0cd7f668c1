/* config.h - settings by name: the option table, values, precedence.
 *
 * Precedence: set() (command line), environment TROMMEL_NAME, task file, the
 * user's config file, default.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_CONFIG_H
#define TR_CONFIG_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tr_opt_type {
    TR_OPT_FLAG, TR_OPT_TEXT, TR_OPT_LIST, TR_OPT_INT, TR_OPT_COUNT,
    TR_OPT_MONEY, TR_OPT_TIME, TR_OPT_CHOICE, TR_OPT_WORDS
};
enum { TR_OPT_C = 1, TR_OPT_E = 2, TR_OPT_T = 4, TR_OPT_U = 8 };

struct tr_option {
    const char *name;      /* "max-wait" */
    char letter;           /* or 0 */
    enum tr_opt_type type;
    const char *fallback;  /* default as text, or NULL */
    int where;             /* TR_OPT_C | TR_OPT_E | ... */
    const char *argument;  /* for help; NULL for flags */
    const char *help;
};
extern const struct tr_option tr_options[];
extern const size_t tr_option_count;
const struct tr_option *tr_option_find(struct tr_str name); /* or NULL */

enum tr_rank { /* who said a value; higher wins */
    TR_FROM_DEFAULT, TR_FROM_CONFIG, TR_FROM_TASK, TR_FROM_ENV, TR_FROM_SET
};

struct tr_config;
struct tr_config *tr_config_new(void);
void tr_config_free(struct tr_config *cfg);
struct tr_config *tr_config_dup(const struct tr_config *cfg);
/* Checks name and value; a lower rank never replaces a higher one. `where`
 * tells the error who spoke ("task.yaml:3:1", "TROMMEL_RPM", "--rpm"). */
int tr_config_put(struct tr_config *cfg, enum tr_rank rank, const char *name,
                  struct tr_str value, const char *where, struct tr_err *err);
/* Back to the default; an unknown name is ignored. TR_NOMEM may come. */
int tr_config_unset(struct tr_config *cfg, const char *name);
/* Environment and the user's config.yaml, in place of what an earlier load
 * took from there. env NULL: getenv, and no variable may have a name that is
 * nearly one of ours. */
int tr_config_load(struct tr_config *cfg, const char *(*env)(const char *),
                   struct tr_err *err);
/* $XDG_CONFIG_HOME/trommel or ~/.config/trommel; "" when there is no home. */
const char *tr_config_dir(const struct tr_config *cfg);

const char *tr_config_text(const struct tr_config *cfg, const char *name);
bool tr_config_flag(const struct tr_config *cfg, const char *name);
int64_t tr_config_int(const struct tr_config *cfg, const char *name);
/* The same; what does not fit is INT32_MAX. */
int32_t tr_config_small(const struct tr_config *cfg, const char *name);
int64_t tr_config_ms(const struct tr_config *cfg, const char *name);
int64_t tr_config_nano(const struct tr_config *cfg, const char *name); /* -1 */
size_t tr_config_list(const struct tr_config *cfg, const char *name,
                      const char *const **values);
enum tr_rank tr_config_rank(const struct tr_config *cfg, const char *name);
bool tr_config_is_set(const struct tr_config *cfg, const char *name);

#endif
