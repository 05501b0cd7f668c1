# fuzz.cmake - one program per parser: docs/internals/fuzzing.md.
#
# Every build replays the corpus with a driver of ours; the preset "fuzz"
# links libFuzzer instead, and tests/fuzz/run.py runs that.
set(FUZZ ${CMAKE_SOURCE_DIR}/tests/fuzz)

# fuzz(name source.c seeds libraries...): seeds are files or folders besides
# the corpus; run.py reads the list.
set(FUZZ_LIST "")
add_custom_target(fuzzers)
function(fuzz name source seeds)
    set(target fuzz_${name})
    add_executable(${target} ${FUZZ}/${source})
    target_include_directories(${target} PRIVATE ${FUZZ})
    target_link_libraries(${target} PRIVATE ${ARGN} tr_base flags)
    if(TROMMEL_FUZZ)
        target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    else()
        target_sources(${target} PRIVATE ${FUZZ}/driver.c)
        add_test(NAME ${target} COMMAND ${target} ${FUZZ}/corpus/${name} ${seeds})
    endif()
    add_dependencies(fuzzers ${target})
    set(FUZZ_LIST "${FUZZ_LIST}${name} ${seeds}\n" PARENT_SCOPE)
endfunction()

set(replies ${CMAKE_SOURCE_DIR}/tests/replies)
fuzz(utf8 fuzz_utf8.c "" tr_rows)
fuzz(csv fuzz_csv.c "" tr_rows)
fuzz(jsonl fuzz_jsonl.c "" tr_rows yyjson)
fuzz(source fuzz_source.c "" tr_rows yyjson PkgConfig::ZLIB)
fuzz(yaml fuzz_yaml.c "" tr_base)
fuzz(task fuzz_task.c "" tr_task)
fuzz(answer fuzz_answer.c "" tr_task)
fuzz(headers fuzz_headers.c "" tr_wire)
fuzz(redact fuzz_redact.c "" tr_wire)
foreach(dialect openai responses anthropic gemini decisions systemone)
    fuzz(decode_${dialect} fuzz_decode.c ${replies} tr_wire yyjson)
    target_compile_definitions(fuzz_decode_${dialect} PRIVATE
        FUZZ_DIALECT=tr_${dialect})
endforeach()
fuzz(batch fuzz_batch.c "" tr_wire yyjson)
target_link_options(fuzz_batch PRIVATE
    -Wl,--wrap=tr_clock_mono_ns -Wl,--wrap=tr_clock_wall_s)
fuzz(catalog fuzz_catalog.c "" tr_wire)
fuzz(args fuzz_args.c "" tr_cli)
target_link_options(fuzz_args PRIVATE -Wl,--wrap=term_say)
fuzz(config fuzz_config.c "" tr_core)
fuzz(verdict fuzz_verdict.c "" tr_store PkgConfig::SQLITE)
fuzz(rescue fuzz_rescue.c "" tr_store PkgConfig::SQLITE)
fuzz(lease fuzz_lease.c "" tr_share tr_plan)

# For run.py: a line per target, its name and its seeds.
file(WRITE ${CMAKE_BINARY_DIR}/fuzz-targets "${FUZZ_LIST}")

# Nightly: all of them with libFuzzer, 20 CPU-minutes each.
if(NOT TROMMEL_FUZZ)
    add_test(NAME fuzz_long COMMAND ${Python3_EXECUTABLE} ${FUZZ}/run.py)
    set_tests_properties(fuzz_long PROPERTIES LABELS nightly TIMEOUT 36000
        SKIP_RETURN_CODE 77 ENVIRONMENT TROMMEL_DEPS_DIR=${DEPS})
endif()
