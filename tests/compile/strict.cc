// strict.cc - trommel.h compiles and links as C++.
// SPDX-License-Identifier: MIT
#include <trommel.h>

int main()
{
    trommel_config *cfg = trommel_config_new();
    trommel_run *run = nullptr;
    int rc = trommel_run_open(&run, cfg); // no labels: refused

    trommel_run_close(run);
    trommel_config_free(cfg);
    return rc < 0 && trommel_exit_code(rc) == 2 ? 0 : 1;
}
