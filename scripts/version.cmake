# cmake -DOUTPUT=HEADER -DSOURCE=DIR -DFALLBACK=VERSION -DLIBRARIES="NAME=VERSION;.." -P version.cmake
# Writes VERSION, from the last tag v*, REVISION, and a macro for each library; only if something has changed.
set(version ${FALLBACK})
set(revision unknown)
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-toplevel OUTPUT_VARIABLE top
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(top STREQUAL SOURCE)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --tags --match "v[0-9]*" OUTPUT_VARIABLE tag
      OUTPUT_STRIP_TRAILING_WHITESPACE
                  ERROR_QUIET RESULT_VARIABLE untagged)
  if(NOT untagged AND tag)
    string(REGEX REPLACE "^v" "" version ${tag}) # of a later commit: v1.2-3-gabc
  endif()
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty --exclude "*" --abbrev=12
      OUTPUT_VARIABLE revision
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(text "#define VERSION \"${version}\"\n#define REVISION \"${revision}\"\n")
foreach(library ${LIBRARIES})
  string(REGEX REPLACE "=.*" "" name ${library})
  string(REGEX REPLACE ".*=" "" value ${library})
  string(APPEND text "#define ${name}_VERSION \"${value}\"\n")
endforeach()
set(before "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT before STREQUAL text)
  file(WRITE ${OUTPUT} ${text})
endif()
