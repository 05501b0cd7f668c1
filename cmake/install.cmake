# install.cmake - program, library, header, pkg-config file, man page; the
# local model is installed by deps.cmake.
install(TARGETS trommel RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS libtrommel LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_SOURCE_DIR}/include/trommel.h
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# trommel.pc starts at its own folder, so it survives any prefix.
file(RELATIVE_PATH PC_INCLUDEDIR
    ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})
if(EXISTS ${CMAKE_SOURCE_DIR}/trommel.pc.in)
    configure_file(${CMAKE_SOURCE_DIR}/trommel.pc.in trommel.pc @ONLY)
    install(FILES ${CMAKE_CURRENT_BINARY_DIR}/trommel.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
if(EXISTS ${CMAKE_SOURCE_DIR}/man/trommel.1)
    install(FILES ${CMAKE_SOURCE_DIR}/man/trommel.1
        DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()
