# harden.cmake - what the compiler and the linker do against the next mistake,
# and that two builds of one source are one program.
#
# Included before anything is built, so that yyjson gets the same flags; deps.cmake
# hands HARDEN_FLAGS to llama.cpp. tests/hardened reads in the finished files
# whether all of it arrived. docs/internals/hardening.md explains it.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckPIESupported)
check_pie_supported()
set(CMAKE_POSITION_INDEPENDENT_CODE ON) # with the above: -pie for programs

set(HARDEN_FLAGS -fstack-protector-strong)
foreach(flag -fstack-clash-protection -fcf-protection=full)
    string(MAKE_C_IDENTIFIER "HAVE${flag}" have)
    check_c_compiler_flag(${flag} ${have})
    if(${have})
        list(APPEND HARDEN_FLAGS ${flag})
    endif()
endforeach()

# Level 3 knows the size of what malloc() gave at run time. Sanitizers check
# the same calls themselves, and better; without optimisation there is none.
check_c_source_compiles("
    #include <features.h>
    #if !__GLIBC_PREREQ(2, 34) || !__has_builtin(__builtin_dynamic_object_size)
    #error level 2 then
    #endif
    int main(void) { return 0; }" HAVE_FORTIFY_3)
set(HARDEN_FORTIFY -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
if(HAVE_FORTIFY_3)
    set(HARDEN_FORTIFY -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
if(NOT CMAKE_C_FLAGS MATCHES "-fsanitize" AND NOT CMAKE_BUILD_TYPE STREQUAL Debug)
    add_compile_options(${HARDEN_FORTIFY})
endif()

# No path of this machine in what is built: in asserts, in debug information.
# The last one that fits counts. The id is a digest of the content.
set(HARDEN_PATHS -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.
    -ffile-prefix-map=${TROMMEL_DEPS_DIR}=deps
    -ffile-prefix-map=${CMAKE_BINARY_DIR}=build)
add_compile_options(${HARDEN_FLAGS} ${HARDEN_PATHS})
add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--build-id=sha1)
