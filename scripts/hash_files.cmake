# cmake -DOUTPUT=HEADER -DFILES=A;B;.. -P hash_files.cmake: writes TRANSLATOR_VERSION, one hash of all the files'
# contents.
set(all "")
foreach(file ${FILES})
  file(SHA256 ${file} hash)
  string(APPEND all ${hash})
endforeach()
string(SHA256 version "${all}")
file(WRITE ${OUTPUT} "#define TRANSLATOR_VERSION \"${version}\"\n")
