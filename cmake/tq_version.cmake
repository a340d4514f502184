# Writes turboquant/base/version.h into the build tree and lets every target find it.
set(TQ_BUILD_COMMIT "unknown")
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --short HEAD WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE TQ_COMMIT_TEXT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE TQ_COMMIT_STATUS)
  if(TQ_COMMIT_STATUS EQUAL 0)
    set(TQ_BUILD_COMMIT ${TQ_COMMIT_TEXT})
  endif()
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/version.h.in ${PROJECT_BINARY_DIR}/generated/turboquant/base/version.h @ONLY)
target_include_directories(tq_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/generated>)
