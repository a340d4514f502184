# How every library, kernel unit and test of the project is declared: tq_library, tq_isa_kernels, tq_test.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_program(TQ_CCACHE ccache)
if(TQ_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TQ_CCACHE})
endif()

add_library(tq_flags INTERFACE)
# Only for our own code, not for programs that link an installed TurboQuant.
target_compile_options(tq_flags INTERFACE
  "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror;-fno-math-errno;-ffp-contract=off>>")
target_compile_features(tq_flags INTERFACE cxx_std_20)
# GCC 12 warns of overlapping copies in std::string's operator+ where there are none (GCC bug 105651).
target_compile_options(tq_flags INTERFACE
  $<BUILD_INTERFACE:$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>>)
target_include_directories(tq_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include>)
if(TQ_SANITIZE)
  target_compile_options(tq_flags INTERFACE -fsanitize=${TQ_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(tq_flags INTERFACE -fsanitize=${TQ_SANITIZE})
endif()

# What most files include, compiled once: a third of what a file takes with sanitizers, a fifth elsewhere. For ./quickstart and
# CI; ./test by itself goes without, so that it shows what a file forgets to include.
set(TQ_COMMON_HEADERS <fmt/format.h> <algorithm> <filesystem> <functional> <memory> <string> <vector>)
cmake_dependent_option(TQ_PRECOMPILE "Compile common headers once" OFF "NOT TQ_SANITIZE" ON)
if(TQ_PRECOMPILE)
  # GCC 12 takes a precompiled header for our own code and warns of copies in std::string that cannot happen.
  target_compile_options(tq_flags INTERFACE
    $<BUILD_INTERFACE:$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-stringop-overflow;-Wno-array-bounds>>)
  find_package(fmt REQUIRED)
  find_package(Threads REQUIRED)
  file(WRITE ${PROJECT_BINARY_DIR}/generated/library_headers.cc "// Nothing but the precompiled headers.\n")
  add_library(tq_library_headers OBJECT ${PROJECT_BINARY_DIR}/generated/library_headers.cc)
  target_link_libraries(tq_library_headers PRIVATE tq_flags fmt::fmt Threads::Threads)
  target_precompile_headers(tq_library_headers PRIVATE ${TQ_COMMON_HEADERS})
endif()

# tq_library(NAME SOURCES ... [DEPS ...]): static library tq_NAME, alias turboquant::NAME, exported by the install.
function(tq_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(tq_${name} STATIC ${A_SOURCES})
  add_library(turboquant::${name} ALIAS tq_${name})
  set_target_properties(tq_${name} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(tq_${name} PUBLIC tq_flags ${A_DEPS} PRIVATE ${A_PRIVATE_DEPS})
  set_property(GLOBAL APPEND PROPERTY TQ_LIBRARIES tq_${name})
  if(TQ_PRECOMPILE)
    target_precompile_headers(tq_${name} REUSE_FROM tq_library_headers)
  endif()
endfunction()

# tq_isa_kernels(TARGET scalar.cc avx2.cc avx512.cc): adds one kernel unit per instruction set with its own flags.
# Kernel units call no std:: functions: a weak symbol built with AVX-512 flags could be picked for the whole program.
# They are optimised even in Debug, but not with sanitizers: instrumented kernels take minutes to compile at -O3.
# Kernels that must be bit-exact rely on -ffp-contract=off.
function(tq_isa_kernels target scalar avx2 avx512)
  set(optimise "-O3")
  if(TQ_SANITIZE)
    set(optimise "-O1")
  endif()
  set_source_files_properties(${scalar} PROPERTIES COMPILE_OPTIONS "${optimise}")
  set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS "${optimise};-mavx2;-mfma;-mf16c;-mbmi2")
  set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS
    "${optimise};-mavx2;-mfma;-mf16c;-mbmi2;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mavx512vbmi;-mprefer-vector-width=512")
  set_source_files_properties(${scalar} ${avx2} ${avx512} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  target_sources(${target} PRIVATE ${scalar} ${avx2} ${avx512})
endfunction()

# tq_test(NAME SOURCES ... [DEPS ...] [LABELS ...] [ENV ...]): one GoogleTest binary, one ctest entry.
function(tq_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;DEPS;LABELS;ENV" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE tq_flags ${A_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE TQ_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  target_precompile_headers(${name} REUSE_FROM tq_test_headers)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  # Tests share the processors: threads that spin while they wait for each other would stall for whole time slices.
  list(APPEND A_ENV OMP_WAIT_POLICY=passive)
  set_tests_properties(${name} PROPERTIES LABELS "${A_LABELS}" ENVIRONMENT "${A_ENV}" TIMEOUT ${A_TIMEOUT} SKIP_REGULAR_EXPRESSION "")
endfunction()
