# The libraries for embedders, the manual pages, and what `cmake --install` puts where. Included by CMakeLists.txt.

# Of all that the libraries have, only the functions of transvisor/vm.h can be seen from outside.
set(PARTS machine runtime devices snap translator core)
set(PART_FILES)
foreach(part ${PARTS})
  list(APPEND PART_FILES $<TARGET_FILE:${part}>)
endforeach()
set(MAP ${CMAKE_SOURCE_DIR}/src/libtransvisor.map)
add_library(transvisor_shared SHARED $<TARGET_OBJECTS:version>)
set_target_properties(transvisor_shared PROPERTIES OUTPUT_NAME transvisor VERSION ${PROJECT_VERSION} SOVERSION 0
    LINK_DEPENDS ${MAP} LINKER_LANGUAGE C)
add_dependencies(transvisor_shared ${PARTS})
if(NOT TRANSVISOR_SANITIZE) # clang's sanitizers are in the program alone
  target_link_options(transvisor_shared PRIVATE -Wl,-z,defs)
endif()
target_link_libraries(transvisor_shared PRIVATE -Wl,--version-script=${MAP} -Wl,--whole-archive ${PART_FILES}
    -Wl,--no-whole-archive
  PkgConfig::CAPSTONE PkgConfig::XXHASH PkgConfig::LZ4 PkgConfig::PNG PkgConfig::ZLIB PkgConfig::SECCOMP
  Threads::Threads rt)
set_property(TARGET transvisor_shared APPEND PROPERTY LINK_DEPENDS ${PART_FILES})

set(STATIC_LIBRARY ${CMAKE_BINARY_DIR}/libtransvisor.a)
add_custom_command(OUTPUT ${STATIC_LIBRARY}
  COMMAND ${CMAKE_LINKER} -r -o transvisor.o $<TARGET_OBJECTS:version> --whole-archive ${PART_FILES}
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden --wildcard --keep-global-symbol=vm_* transvisor.o
  COMMAND ${CMAKE_COMMAND} -E rm -f ${STATIC_LIBRARY}
  COMMAND ${CMAKE_AR} rcs ${STATIC_LIBRARY} transvisor.o
  DEPENDS ${PARTS} version $<TARGET_OBJECTS:version>
  COMMENT "Static library for embedders" COMMAND_EXPAND_LISTS VERBATIM)

# From the tables of options and from the header.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_executable(face_docs src/face/docs.c)
target_link_libraries(face_docs PRIVATE face)
set(HEADER ${CMAKE_SOURCE_DIR}/include/transvisor/vm.h)
add_custom_command(OUTPUT transvisor.1 COMMAND face_docs man ${PROJECT_VERSION} transvisor.1 DEPENDS face_docs VERBATIM)
add_custom_command(OUTPUT transvisor.bash COMMAND face_docs bash ${PROJECT_VERSION} transvisor.bash DEPENDS face_docs
    VERBATIM)
add_custom_command(OUTPUT libtransvisor.3
  COMMAND Python3::Interpreter ${CMAKE_SOURCE_DIR}/scripts/header_man.py ${HEADER} ${PROJECT_VERSION} libtransvisor.3
  DEPENDS ${HEADER} ${CMAKE_SOURCE_DIR}/scripts/header_man.py VERBATIM)
add_custom_target(install_files ALL DEPENDS ${STATIC_LIBRARY} transvisor.1 transvisor.bash libtransvisor.3)

# Written when it is installed, since only then the prefix is known.
install(CODE "set(PROJECT_VERSION ${PROJECT_VERSION})
set(CMAKE_INSTALL_LIBDIR ${CMAKE_INSTALL_LIBDIR})
set(CMAKE_INSTALL_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
configure_file(${CMAKE_SOURCE_DIR}/scripts/transvisor.pc.in ${CMAKE_BINARY_DIR}/transvisor.pc @ONLY)")
install(TARGETS transvisor RUNTIME)

# What `transvisor bench` runs: its program, the sources of its guests, and what makes and fetches guests. In the build
# directory the program finds the source tree's own.
file(CREATE_LINK ${CMAKE_SOURCE_DIR}/bench ${CMAKE_BINARY_DIR}/bench SYMBOLIC)
set(BENCH_DIR ${CMAKE_INSTALL_DATADIR}/transvisor)
install(DIRECTORY bench/ DESTINATION ${BENCH_DIR}/bench USE_SOURCE_PERMISSIONS
  FILES_MATCHING PATTERN "*.py" PATTERN "*.sh" PATTERN "*.sql" PATTERN "guest/*.[ch]" PATTERN "kernel/*.[ch]"
  PATTERN __pycache__ EXCLUDE)
install(FILES tests/insn/rt.h tests/insn/rt.c tests/insn/start.S tests/insn/user.h tests/insn/user.c tests/insn/link.ld
  DESTINATION ${BENCH_DIR}/tests/insn)
install(PROGRAMS tests/guests/fetch.sh tests/guests/mkinitramfs.sh DESTINATION ${BENCH_DIR}/tests/guests)
install(DIRECTORY tests/guests/init DESTINATION ${BENCH_DIR}/tests/guests USE_SOURCE_PERMISSIONS)
install(FILES tests/guests/apt.sh DESTINATION ${BENCH_DIR}/tests/guests)
install(TARGETS transvisor_shared LIBRARY)
install(FILES ${STATIC_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${HEADER} include/transvisor/stream.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/transvisor)
install(FILES ${CMAKE_BINARY_DIR}/transvisor.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_BINARY_DIR}/transvisor.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_BINARY_DIR}/libtransvisor.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
install(FILES ${CMAKE_BINARY_DIR}/transvisor.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
    RENAME transvisor)
