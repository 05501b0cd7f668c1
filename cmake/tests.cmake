# tests.cmake - the tests above the units: the program, the header, the
# library inside another program, the documents.
add_test(NAME options
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/gen-options check)

# The program as a person meets it, and the commands README shows.
add_test(NAME cli
    COMMAND ${CMAKE_SOURCE_DIR}/tests/cli/run $<TARGET_FILE:trommel>)
add_test(NAME readme
    COMMAND ${CMAKE_SOURCE_DIR}/tests/cli/readme $<TARGET_FILE:trommel>)
set_tests_properties(cli readme PROPERTIES TIMEOUT 600)
add_test(NAME reasons COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/cli/reasons)

# trommel.h in strict C99 and in C++; examples/embed.c, which tests/cli runs.
add_executable(header_c ${CMAKE_SOURCE_DIR}/tests/compile/strict.c)
set_target_properties(header_c PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
add_executable(header_cc ${CMAKE_SOURCE_DIR}/tests/compile/strict.cc)
set_target_properties(header_cc PROPERTIES CXX_STANDARD 11 CXX_EXTENSIONS OFF)
add_executable(embed ${CMAKE_SOURCE_DIR}/examples/embed.c)
target_compile_definitions(embed PRIVATE _POSIX_C_SOURCE=200809L)
set_target_properties(embed PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/examples)
# Runs on several threads, which tests/cli runs too.
add_executable(threads ${CMAKE_SOURCE_DIR}/tests/threads.c)
target_compile_definitions(threads PRIVATE _POSIX_C_SOURCE=200809L)
foreach(target header_c header_cc embed threads)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Werror)
    target_link_libraries(${target} PRIVATE libtrommel Threads::Threads)
endforeach()
# The library may be built with sanitizers; then all of its users are.
separate_arguments(c_flags UNIX_COMMAND "${CMAKE_C_FLAGS}")
target_link_options(header_cc PRIVATE ${c_flags})
add_test(NAME header_c COMMAND header_c)
add_test(NAME header_cc COMMAND header_cc)

# The same example against the installed package, wherever it was moved.
add_test(NAME installed COMMAND ${CMAKE_SOURCE_DIR}/tests/installed
    ${CMAKE_COMMAND} ${CMAKE_CURRENT_BINARY_DIR} ${CMAKE_C_COMPILER}
    "${CMAKE_C_FLAGS}")

# What compiler and linker did against the next mistake, no path of this
# machine in the program, and the bill of materials.
set(hardened --shared $<TARGET_FILE:libtrommel> $<TARGET_FILE:trommel>
    ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR} ${TROMMEL_DEPS_DIR})
if(CMAKE_C_FLAGS MATCHES "-fsanitize" OR CMAKE_BUILD_TYPE STREQUAL Debug)
    list(PREPEND hardened --no-fortify)
endif()
add_test(NAME hardened COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/hardened ${hardened})
add_test(NAME sbom COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/sbom
    $<TARGET_FILE:trommel> ${CMAKE_BINARY_DIR}/trommel.spdx.json)

# The key that the tests use, and the search for it in what they leave behind.
add_test(NAME canary COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/canary.py)

# What other processes and people at a terminal get of it.
add_test(NAME guard COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/guard/guard.py $<TARGET_FILE:trommel>)
set_tests_properties(guard PROPERTIES TIMEOUT 300)

# The fake provider against its own promises.
add_test(NAME fake COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/fake/check_fake.py $<TARGET_FILE:trommel>)
add_test(NAME batches COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/batch/batch.py $<TARGET_FILE:trommel>)
set_tests_properties(fake batches PROPERTIES TIMEOUT 300)

# The real program killed, and hurt in other ways: docs/internals/torture.md.
# The module stands between it and the C library; a sanitizer's runtime has to
# come before it.
add_library(fault MODULE ${CMAKE_SOURCE_DIR}/tests/torture/fault.c)
set_target_properties(fault PROPERTIES PREFIX "" C_EXTENSIONS ON)
target_compile_options(fault PRIVATE -Wall -Wextra -Werror)
target_link_libraries(fault PRIVATE ${CMAKE_DL_LIBS})
set(hurt --module $<TARGET_FILE:fault>)
add_executable(torture ${CMAKE_SOURCE_DIR}/tests/torture/torture.c
    ${CMAKE_SOURCE_DIR}/tests/torture/fault.c)
set_target_properties(torture PROPERTIES C_EXTENSIONS ON)
target_compile_definitions(torture PRIVATE
    TLS_PY="${CMAKE_SOURCE_DIR}/tests/torture/tls.py")
target_link_libraries(torture PRIVATE tr_core ${CMAKE_DL_LIBS})
set(kills 200)
if(CMAKE_C_FLAGS MATCHES "-fsanitize")
    set(kills 60)
    set(runtime libasan.so)
    if(CMAKE_C_FLAGS MATCHES "=thread") # it calls the module as it starts
        set(runtime libtsan.so)
        set_source_files_properties(${CMAKE_SOURCE_DIR}/tests/torture/fault.c
            PROPERTIES COMPILE_OPTIONS "-fno-sanitize=thread;-DFAULT_BESIDE_TSAN")
    endif()
    execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=${runtime}
        OUTPUT_VARIABLE runtime OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(EXISTS ${runtime})
        list(APPEND hurt --preload ${runtime})
    endif()
endif()
set(kill ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/kill/kill.py
    $<TARGET_FILE:trommel> ${hurt})
set(hurt_it ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/kill/hurt.py
    $<TARGET_FILE:trommel> ${hurt})
add_test(NAME kill COMMAND ${kill} --kills ${kills})
add_test(NAME hurt COMMAND ${hurt_it})
add_test(NAME resume COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/kill/resume.py $<TARGET_FILE:trommel> ${hurt})
# And left alone with many rows: what it needs of the machine does not grow.
set(flat ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/kill/flat.py
    $<TARGET_FILE:trommel>)
add_test(NAME flat COMMAND ${flat})
# Every call of the parts; of whole runs every 421st, beginning elsewhere each
# day. Nightly every one.
set(torture torture $<TARGET_FILE:trommel>)
add_test(NAME torture COMMAND ${torture} --step 421)
set_tests_properties(kill hurt resume flat torture PROPERTIES TIMEOUT 600)

# Alerts, metrics and traces, as their receivers see them.
add_test(NAME watch COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/watch/watch.py $<TARGET_FILE:trommel>)
set_tests_properties(watch PROPERTIES TIMEOUT 600)

# Real processes with one key against one limit, told by headers and by --rpm.
set(share ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/share/share.py
    $<TARGET_FILE:trommel> --loose)
add_test(NAME share_headers COMMAND ${share})
add_test(NAME share_ceiling COMMAND ${share} --no-headers --pause)
set_tests_properties(share_headers share_ceiling PROPERTIES TIMEOUT 300)

# Many small worlds around the real engine: docs/internals/simulation.md.
file(GLOB simulator CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/sim/*.c)
add_executable(sim ${simulator} ${CMAKE_SOURCE_DIR}/cli/fake/gullible.c)
target_include_directories(sim PRIVATE ${CMAKE_SOURCE_DIR}/tests/sim
    ${CMAKE_SOURCE_DIR}/cli)
target_link_libraries(sim PRIVATE tr_core yyjson PkgConfig::SQLITE)
foreach(name tr_store_commit tr_store_save tr_store_job_finish sqlite3_exec sqlite3_wal_hook
        open __open_2 close read write rename stat lstat fstat fchmod fsync mkdir flock ftruncate pwrite pread
        posix_fallocate nanosleep mkstemp unlink fcntl tr_clock_mono_ns
        tr_clock_wall_s tr_random_fill)
    target_link_options(sim PRIVATE -Wl,--wrap=${name})
endforeach()
set(sim_seeds 5000)
set(sim_cuts 5)
if(CMAKE_C_FLAGS MATCHES "-fsanitize") # the preset asan: ten times slower
    set(sim_seeds 500)
    set(sim_cuts 0)
endif()
file(GLOB sim_scripts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/sim/scripts/*.sim)
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
add_test(NAME sim COMMAND sim --seeds ${sim_seeds})
add_test(NAME sim_same COMMAND ${CMAKE_SOURCE_DIR}/tests/sim/same $<TARGET_FILE:sim>)
add_test(NAME sim_scripts COMMAND sim --script ${sim_scripts})
if(CMAKE_GENERATOR STREQUAL Ninja AND NOT CMAKE_C_FLAGS MATCHES "-fsanitize")
    add_test(NAME sim_scripts_bite COMMAND ${CMAKE_SOURCE_DIR}/tests/sim/mutants
        ${CMAKE_CURRENT_BINARY_DIR} scripts)
    set_tests_properties(sim_scripts_bite PROPERTIES TIMEOUT 600)
endif()
add_test(NAME sim_canary COMMAND sim --canary ${CMAKE_CURRENT_BINARY_DIR}/canary.sim)
add_test(NAME sim_calls COMMAND sim --calls ${sim_cuts})
add_test(NAME sim_caps COMMAND sim --caps)
add_test(NAME sim_hostile COMMAND sim --hostile --seeds 2)
add_test(NAME sim_files COMMAND sim --files --seeds 200)
add_test(NAME sim_twins COMMAND sim --twins --seeds 300)
add_test(NAME sim_brownout COMMAND sim --brownout --seeds 25)
add_test(NAME sim_limits COMMAND sim --limits --seeds 20)
set_tests_properties(sim PROPERTIES TIMEOUT 1800)

# A server that breaks every rule, against real lanes, the real program and
# the simulator's idea of the same: docs/internals/hostile.md.
add_executable(hostile_lane ${CMAKE_SOURCE_DIR}/tests/hostile/lane.c)
target_link_libraries(hostile_lane PRIVATE tr_core)
set(hostile ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/hostile/hostile.py
    $<TARGET_FILE:hostile_lane> $<TARGET_FILE:trommel> $<TARGET_FILE:sim>)
add_test(NAME hostile COMMAND ${hostile})
set_tests_properties(hostile PROPERTIES TIMEOUT 600)

# Nightly: the same at length, and planted bugs that the simulator must find.
add_test(NAME sim_long COMMAND sim --seeds 2000000 --from 1000000 --jobs ${cores})
add_test(NAME sim_calls_long COMMAND sim --calls 100 --jobs ${cores})
add_test(NAME sim_hostile_long COMMAND sim --hostile)
add_test(NAME sim_brownout_long COMMAND sim --brownout --seeds 500)
add_test(NAME sim_mutants COMMAND ${CMAKE_SOURCE_DIR}/tests/sim/mutants
    ${CMAKE_CURRENT_BINARY_DIR})
add_test(NAME kill_long COMMAND ${kill} --kills 20000)
add_test(NAME hurt_long COMMAND ${hurt_it} --step 1)
add_test(NAME flat_long COMMAND ${flat} --rows 4000000)
add_test(NAME torture_long COMMAND ${torture} --step 1)
add_test(NAME hostile_long COMMAND ${hostile} --rounds 3000 --seed 2)
add_test(NAME reproducible COMMAND ${CMAKE_SOURCE_DIR}/tests/nightly/reproducible
    ${CMAKE_COMMAND} ${CMAKE_GENERATOR} ${DEPS} ${CMAKE_C_COMPILER}
    ${CMAKE_CXX_COMPILER} ${Python3_EXECUTABLE})
add_test(NAME coverage COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/tests/nightly/coverage.py ${CMAKE_COMMAND}
    ${CMAKE_GENERATOR} ${DEPS})
set_tests_properties(coverage PROPERTIES SKIP_RETURN_CODE 77)
set_tests_properties(sim_long sim_calls_long sim_hostile_long sim_brownout_long sim_mutants kill_long hurt_long
    flat_long torture_long hostile_long reproducible coverage PROPERTIES LABELS nightly
    TIMEOUT 43200)

# Nightly: a real llama-server, with a model whose answers are known:
# docs/internals/tiny-model.md. Built by the first of the two, once.
if(TROMMEL_LOCAL)
    set(LLAMA_SERVER_BUILD ${DEPS}/llama-server-${LLAMA_VERSION})
    add_test(NAME llama_server_build COMMAND ${CMAKE_COMMAND}
        -DSRC=${LLAMA_SRC} -DBUILD=${LLAMA_SERVER_BUILD}
        -DGENERATOR=${CMAKE_GENERATOR} -DCC=${CMAKE_C_COMPILER}
        -DCXX=${CMAKE_CXX_COMPILER} -P ${CMAKE_SOURCE_DIR}/cmake/llama-server.cmake)
    add_test(NAME llama_server COMMAND ${Python3_EXECUTABLE}
        ${CMAKE_SOURCE_DIR}/tests/nightly/llama_server.py
        $<TARGET_FILE:trommel> ${LLAMA_SERVER_BUILD}/bin/llama-server
        ${CMAKE_SOURCE_DIR})
    set_tests_properties(llama_server_build PROPERTIES LABELS nightly
        FIXTURES_SETUP llama_server TIMEOUT 3600
        SKIP_REGULAR_EXPRESSION "llama-server cannot be built")
    set_tests_properties(llama_server PROPERTIES LABELS nightly
        FIXTURES_REQUIRED llama_server TIMEOUT 900 SKIP_RETURN_CODE 77)
endif()
