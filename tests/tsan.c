/* tsan.c - how the thread sanitizer behaves in every program of its build:
 * reports go into files. Programs here are killed, leave with codes of their
 * own and write to pipes that nobody reads; the test tsan_reports looks.
 *
 * In the program and not in TSAN_OPTIONS, because many tests give what they
 * start an environment of its own.
 *
 * SPDX-License-Identifier: MIT */
const char *__tsan_default_options(void);

__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
    return "log_path=" TSAN_REPORTS "/report:second_deadlock_stack=1";
}
