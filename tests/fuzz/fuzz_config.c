/* fuzz_config.c - the user's config.yaml: an error names a place in it, or
 * the settings, written out one by one, are the same settings again.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memfd_create */
#include "fuzz.h"

#include "base/buf.h"
#include "config.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/fuzz_config_XXXXXX";
static char inner[64], path[96];
static int file = -1;

static void clean_up(void)
{
    unlink(path);
    rmdir(inner);
    rmdir(folder);
}

static const char *env(const char *name)
{
    return strcmp(name, "XDG_CONFIG_HOME") == 0 ? folder : NULL;
}

static int load(struct tr_config *cfg, struct tr_str text, struct tr_err *err)
{
    CHECK(ftruncate(file, 0) == 0);
    CHECK(pwrite(file, text.p, text.n, 0) == (ssize_t)text.n);
    return tr_config_load(cfg, env, err);
}

/* Else nothing of what follows would be read at all. */
static void check_is_read(void)
{
    struct tr_config *cfg = tr_config_new();
    struct tr_err err;

    CHECK(cfg && load(cfg, TR_STR("pack: 7\n"), &err) == TR_OK);
    CHECK(strcmp(tr_config_text(cfg, "pack"), "7") == 0);
    tr_config_free(cfg);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char target[64];

    (void)argc;
    (void)argv;
    file = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(file >= 0 && mkdtemp(folder));
    CHECK(fchmod(file, 0600) == 0); /* else it is refused, unread */
    snprintf(target, sizeof target, "/proc/self/fd/%d", file);
    snprintf(inner, sizeof inner, "%s/trommel", folder);
    snprintf(path, sizeof path, "%s/config.yaml", inner);
    CHECK(mkdir(inner, 0700) == 0 && symlink(target, path) == 0);
    atexit(clean_up);
    check_is_read();
    return 0;
}

/* In single quotes, where only the quote itself is doubled; false: it has
 * what such a text cannot hold. */
static bool put(struct tr_buf *b, const char *value)
{
    tr_buf_addc(b, '\'');
    for (const char *p = value; *p; p++) {
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
            return false;
        if (*p == '\'')
            tr_buf_addc(b, '\'');
        tr_buf_addc(b, *p);
    }
    tr_buf_addz(b, "'\n");
    return true;
}

static void check_again(const struct tr_config *cfg)
{
    struct tr_config *again = tr_config_new();
    struct tr_err err;
    struct tr_buf b;
    bool plain = true;

    CHECK(again);
    tr_buf_init(&b, 0);
    for (size_t i = 0; plain && i < tr_option_count; i++) {
        const char *name = tr_options[i].name;
        const char *value = tr_config_text(cfg, name);

        if (!tr_config_is_set(cfg, name) || !value)
            continue;
        tr_buf_addf(&b, "%s: ", name);
        plain = put(&b, value);
    }
    if (plain) {
        CHECK(load(again, tr_buf_str(&b), &err) == TR_OK);
        for (size_t i = 0; i < tr_option_count; i++) {
            const char *a = tr_config_text(cfg, tr_options[i].name);
            const char *c = tr_config_text(again, tr_options[i].name);

            CHECK(a && c ? strcmp(a, c) == 0 : a == c);
        }
    }
    tr_buf_release(&b);
    tr_config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tr_str text = tr_str((const char *)data, n);
    struct tr_config *cfg = tr_config_new();
    struct tr_err err = {0};
    int rc;

    CHECK(cfg);
    rc = load(cfg, text, &err);
    if (rc != TR_OK)
        fuzz_check_error(&err, rc, path, text);
    else
        check_again(cfg);
    tr_config_free(cfg);
    return 0;
}
