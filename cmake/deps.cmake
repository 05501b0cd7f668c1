# deps.cmake - what trommel is built from: system packages first, and two
# pinned source packages that Debian 12 does not have.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl>=7.83)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3>=3.40)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)

find_package(Python3 COMPONENTS Interpreter)
set(DEPS ${TROMMEL_DEPS_DIR})

# name, version, sha256 of the source package, file name
function(pinned name version sha256 file)
    if(NOT EXISTS ${DEPS}/${name}-${version}.ok)
        message(STATUS "fetching ${name} ${version}")
        file(MAKE_DIRECTORY ${DEPS})
        execute_process(COMMAND ${Python3_EXECUTABLE} -m pip download -q --no-deps
            --no-binary :all: -d ${DEPS} ${name}==${version}
            RESULT_VARIABLE rc)
        file(SHA256 ${DEPS}/${file} got)
        if(NOT rc EQUAL 0 OR NOT got STREQUAL sha256)
            message(FATAL_ERROR "${file}: not fetched or wrong sha256 (${got})")
        endif()
        file(ARCHIVE_EXTRACT INPUT ${DEPS}/${file} DESTINATION ${DEPS})
        file(TOUCH ${DEPS}/${name}-${version}.ok)
    endif()
endfunction()

pinned(yyjson 4.0.6 fcd4dc15c1e39a30bf9fa85d56903029111506860fc3080ab0d81c6c6dacaa8c yyjson-4.0.6.tar.gz)
file(GLOB_RECURSE YYJSON_C ${DEPS}/yyjson-4.0.6/yyjson.c ${DEPS}/yyjson-4.0.6/*/yyjson.c)
list(GET YYJSON_C 0 YYJSON_C)
get_filename_component(YYJSON_DIR ${YYJSON_C} DIRECTORY)
add_library(yyjson STATIC ${YYJSON_C})
target_include_directories(yyjson SYSTEM PUBLIC ${YYJSON_DIR})
set_target_properties(yyjson PROPERTIES POSITION_INDEPENDENT_CODE ON)
