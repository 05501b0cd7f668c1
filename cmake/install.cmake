# install.cmake - program, library, header, pkg-config file, man page, bill of
# materials; the local model is installed by deps.cmake.
install(TARGETS trommel RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS libtrommel LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_SOURCE_DIR}/include/trommel.h
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# trommel.pc starts at its own folder, so it survives any prefix.
file(RELATIVE_PATH PC_INCLUDEDIR
    ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(${CMAKE_SOURCE_DIR}/trommel.pc.in trommel.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/trommel.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The manual's options come from the table the program uses.
set(MANUAL ${CMAKE_CURRENT_BINARY_DIR}/trommel.1)
add_custom_command(OUTPUT ${MANUAL}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/gen-options man
        ${CMAKE_SOURCE_DIR}/man/trommel.1.in > ${MANUAL}
    DEPENDS man/trommel.1.in lib/options.def tools/gen-options VERBATIM)
add_custom_target(manual ALL DEPENDS ${MANUAL})
install(FILES ${MANUAL} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

# What is in it: SPDX, from the table in deps.cmake. The date is that of the
# source, so that two builds are the same.
get_property(parts GLOBAL PROPERTY PARTS)
set(date $ENV{SOURCE_DATE_EPOCH})
if(NOT date)
    execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} log -1 --format=%ct
        OUTPUT_VARIABLE date OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
list(JOIN parts "\n" parts)
file(CONFIGURE OUTPUT parts.txt CONTENT
    "trommel|${PROJECT_VERSION}|${date}\n${parts}\n" @ONLY)
set(SBOM ${CMAKE_CURRENT_BINARY_DIR}/trommel.spdx.json)
add_custom_command(OUTPUT ${SBOM}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/make-sbom
        ${CMAKE_CURRENT_BINARY_DIR}/parts.txt ${CMAKE_SOURCE_DIR}/tools/make-gguf ${SBOM}
    DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/parts.txt tools/make-sbom tools/make-gguf VERBATIM)
add_custom_target(sbom ALL DEPENDS ${SBOM})
install(FILES ${SBOM} DESTINATION ${CMAKE_INSTALL_DOCDIR})
