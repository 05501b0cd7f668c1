/* err.c - error sentences and the assertion that stays on.
 * SPDX-License-Identifier: MIT */
#include "base/err.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int tr_fail(struct tr_err *err, int code, const char *fmt, ...)
{
    va_list ap;
    size_t n;

    if (!err)
        return code;
    err->code = code;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    /* Memory is wanting in a hundred places, and one thing helps in all. */
    n = strlen(err->text);
    if (code == TR_NOMEM && !strchr(err->text, ';'))
        snprintf(err->text + n, sizeof err->text - n, "; %s",
                 tr_errno_remedy(ENOMEM, ""));
    tr_utf8_tame(err->text); /* names in it are anybody's, and may be cut */
    return code;
}

int tr_errno_code(int errnum, int code)
{
    return errnum == ENOMEM ? TR_NOMEM : code;
}

const char *tr_errno_remedy(int errnum, const char *otherwise)
{
    return errnum == EMFILE ? "raise the limit of open files (ulimit -n)"
         : errnum == ENFILE ? "all files that this machine can have open are"
         : errnum == ENOMEM ? "run the same command again with more memory "
                             "(ulimit -v)"
                            : otherwise;
}

const char *tr_kept_words(bool kept)
{
    return kept ? "every answer so far is safe"
                : "without a store no answer was kept, so all rows are asked "
                  "and paid for again";
}

int tr_exit_code(int code)
{
    switch (code) {
#define X(name, value, exit_code)                                              \
    case name:                                                                 \
        return exit_code;
        TR_CODES(X)
#undef X
    }
    return 70;
}

_Noreturn void tr_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr,
            "trommel: bug: %s does not hold (%s:%d). What the store holds "
            "is safe: run the same command again, and please report this "
            "line.\n",
            cond, file, line);
    abort();
}
