/* format.h - numbers, money and time for people.
 *
 * Each writes into out, which has room for FORMAT_BYTES, and returns it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLI_FORMAT_H
#define CLI_FORMAT_H

#include <stdint.h>

#define FORMAT_BYTES 40

const char *format_count(char *out, int64_t n);      /* 7,600 */
const char *format_short(char *out, int64_t n);      /* 950, 81 k, 1.2 M */
const char *format_money(char *out, int64_t nano);   /* $0.0042, $12.30 */
const char *format_span(char *out, double seconds);  /* 0:08, 1:02:03 */
const char *format_rate(char *out, double per_s);    /* 0.4, 20, 5,000 */

#endif
