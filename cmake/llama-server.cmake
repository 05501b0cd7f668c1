# llama-server.cmake - builds llama-server from the pinned llama.cpp, for the
# nightly run against it. Not part of make or make test.
#
#   cmake -DSRC=LLAMA.CPP -DBUILD=FOLDER -DGENERATOR=Ninja
#         -DCC=cc -DCXX=c++ -P llama-server.cmake
#
# Ends in a stamp file beside BUILD, as all that is built in the deps folder.
# It is a tiny model that is served, so what counts is the time to compile:
# little optimisation, no web page, no TLS, no child processes.
if(EXISTS ${BUILD}.ok)
    return()
endif()
if(NOT EXISTS ${SRC}/tools/server)
    message(FATAL_ERROR "llama-server cannot be built: ${SRC} is missing. "
        "Configure with the local model (TROMMEL_LOCAL=ON) first.")
endif()

file(LOCK ${BUILD}.lock)
if(EXISTS ${BUILD}.ok) # another run built it while this one waited
    return()
endif()

function(run what)
    string(MAKE_C_IDENTIFIER "${what}" log)
    get_filename_component(folder ${BUILD} DIRECTORY)
    set(log ${folder}/${log}.log)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE rc
        OUTPUT_FILE ${log} ERROR_FILE ${log})
    if(NOT rc EQUAL 0)
        message(FATAL_ERROR
            "llama-server cannot be built; the reason is at the end of ${log}")
    endif()
endfunction()

message(NOTICE "building llama-server once (some minutes on 2 cores)")
run("llama server configure" ${CMAKE_COMMAND} -S ${SRC} -B ${BUILD}
    -G ${GENERATOR} -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_C_COMPILER=${CC} -DCMAKE_CXX_COMPILER=${CXX}
    "-DCMAKE_C_FLAGS_RELEASE=-O1 -DNDEBUG"
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG"
    -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF
    -DGGML_CCACHE=OFF -DGGML_LLAMAFILE=OFF
    -DLLAMA_ALL_WARNINGS=OFF -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TOOLS=ON
    -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
    -DLLAMA_TOOLS_INSTALL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_SUBPROCESS=OFF
    -DMTMD_VIDEO=OFF -DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT=pinned)
run("llama server build" ${CMAKE_COMMAND} --build ${BUILD}
    --target llama-server --parallel 2)
file(TOUCH ${BUILD}.ok)
