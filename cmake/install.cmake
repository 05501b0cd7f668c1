# install.cmake - program, library, header, pkg-config file, man page; the
# local model is installed by deps.cmake.
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
