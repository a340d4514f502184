# Writes turboquant/base/version.h into the build tree and lets every target find it.
set(TQ_BUILD_COMMIT "unknown")
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --short HEAD WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE TQ_COMMIT_TEXT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE TQ_COMMIT_STATUS)
  if(TQ_COMMIT_STATUS EQUAL 0)
    set(TQ_BUILD_COMMIT ${TQ_COMMIT_TEXT})
    # A build after a commit or a pull configures again: results that are kept carry the commit.
    execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --path-format=absolute --git-path logs/HEAD WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      OUTPUT_VARIABLE TQ_GIT_LOG OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(EXISTS "${TQ_GIT_LOG}")
      set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${TQ_GIT_LOG}")
    endif()
  endif()
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/version.h.in ${PROJECT_BINARY_DIR}/generated/turboquant/base/version.h @ONLY)
target_include_directories(tq_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/generated>)
