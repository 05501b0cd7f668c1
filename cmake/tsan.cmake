# tsan.cmake - the preset tsan: reports of the thread sanitizer go into a
# folder, and the last test looks there. docs/internals/threads.md explains it.
set(reports ${CMAKE_BINARY_DIR}/reports)
add_library(tsan OBJECT ${CMAKE_SOURCE_DIR}/tests/tsan.c)
target_compile_definitions(tsan PRIVATE TSAN_REPORTS="${reports}")
get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
foreach(target ${targets})
    get_target_property(type ${target} TYPE)
    if(type STREQUAL EXECUTABLE)
        target_link_libraries(${target} PRIVATE tsan)
    endif()
endforeach()

# The first test and the last, whichever are chosen. 1: grep has looked, and
# there is not one line.
get_property(all DIRECTORY PROPERTY TESTS)
set_property(TEST ${all} APPEND PROPERTY FIXTURES_REQUIRED tsan)
add_test(NAME tsan_begin COMMAND sh -c "rm -rf '${reports}' && mkdir -m 777 '${reports}'")
add_test(NAME tsan_reports COMMAND sh -c "grep -rh '' '${reports}'; test $? = 1")
set_tests_properties(tsan_begin PROPERTIES FIXTURES_SETUP tsan)
set_tests_properties(tsan_reports PROPERTIES FIXTURES_CLEANUP tsan)
