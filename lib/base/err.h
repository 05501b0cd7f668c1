/* err.h - one error shape: a code, one sentence for a person.
 *
 * A function that can fail returns an int: TR_OK (0) or a negative tr_code.
 * The sentence goes into the caller's struct tr_err; it says what happened,
 * where, and what to do next, and never holds a key or row text.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_ERR_H
#define TR_BASE_ERR_H

#include <stdbool.h>
#include <stdlib.h>

/* name, value, exit code of the program */
#define TR_CODES(X)                                                            \
    X(TR_OK, 0, 0)                                                             \
    X(TR_NOMEM, -1, 70)        /* out of memory */                             \
    X(TR_USAGE, -2, 2)         /* wrong call or option */                      \
    X(TR_DATA, -3, 65)         /* bad input data */                            \
    X(TR_NOINPUT, -4, 66)      /* input missing or unreadable */               \
    X(TR_UNAVAILABLE, -5, 69)  /* provider unreachable */                      \
    X(TR_CANTCREATE, -6, 73)   /* output cannot be created */                  \
    X(TR_IO, -7, 74)           /* reading or writing failed */                 \
    X(TR_STOPPED, -8, 75)      /* stopped for now; run again to go on */       \
    X(TR_NOPERM, -9, 77)       /* key refused or quota exhausted */            \
    X(TR_CONFIG, -10, 78)      /* bad task or configuration */                 \
    X(TR_BUG, -11, 70)         /* an invariant does not hold */

enum tr_code {
#define X(name, value, exit_code) name = value,
    TR_CODES(X)
#undef X
};

struct tr_err {
    int code;
    char text[1000];
};

/* Fills err (which may be NULL) and returns code, so a failing line is one
 * line. The text is cut at the size of err->text; whatever was printed into
 * it, it is UTF-8 that may be shown (tr_utf8_tame()). A sentence about memory
 * that says nothing behind a ";" of what to do gets that from here. */
int tr_fail(struct tr_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The code for a call of the system that failed with errnum: TR_NOMEM when
 * memory was what it lacked, else code. */
int tr_errno_code(int errnum, int code);
/* What a person can do about it when it is not the name or the disk that was
 * at fault, else otherwise. */
const char *tr_errno_remedy(int errnum, const char *otherwise);
/* What a sentence that says "run the same command again" ends with: whether
 * the answers so far are kept, which they are where there is a store. */
const char *tr_kept_words(bool kept);

/* Exit code of the program for a tr_code (0 for TR_OK). */
int tr_exit_code(int code);

/* Run one step of a function that owns a local rc and a label out. */
#define TRY(step)                                                              \
    do {                                                                       \
        rc = (step);                                                           \
        if (rc != TR_OK)                                                       \
            goto out;                                                          \
    } while (0)

/* Stays on in release builds: a crash costs a resume, a wrong label trust. */
#define TR_ASSERT(cond)                                                        \
    ((cond) ? (void)0 : tr_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void tr_assert_failed(const char *cond, const char *file, int line);

#endif
