# embed.cmake - a data file as a C array, so that the program is one file.
#
#   embed(TARGET FILE NAME): defines `const unsigned char NAME[]` and
#   `const size_t NAME_n` in TARGET. The same file is the script that writes
#   the C source: cmake -DIN=... -DOUT=... -DNAME=... -P embed.cmake
if(CMAKE_SCRIPT_MODE_FILE)
    file(READ ${IN} hex HEX)
    string(LENGTH "${hex}" n)
    math(EXPR n "${n} / 2")
    string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
    file(WRITE ${OUT} "#include <stddef.h>\nextern const unsigned char ${NAME}[];\n"
        "extern const size_t ${NAME}_n;\n"
        "const unsigned char ${NAME}[] = {\n${hex}0};\nconst size_t ${NAME}_n = ${n};\n")
    return()
endif()

set(EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(embed target file name)
    set(out ${CMAKE_BINARY_DIR}/embedded/${name}.c)
    add_custom_command(OUTPUT ${out}
        COMMAND ${CMAKE_COMMAND} -DIN=${file} -DOUT=${out} -DNAME=${name} -P ${EMBED_SCRIPT}
        DEPENDS ${file} ${EMBED_SCRIPT}
        COMMENT "embedding ${file}" VERBATIM)
    target_sources(${target} PRIVATE ${out})
endfunction()
