/* test_csv_portable.c - the same tests without vector instructions.
 * SPDX-License-Identifier: MIT */
#define TR_NO_SIMD 1
#include "../../../lib/rows/csv.c"
#include "test_csv.c"
