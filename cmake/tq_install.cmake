# Installs libraries, headers and what find_package(TurboQuant) needs. Included last: every library is declared by then.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(libraries GLOBAL PROPERTY TQ_LIBRARIES)
set_target_properties(tq_flags PROPERTIES EXPORT_NAME flags)
install(TARGETS tq_flags ${libraries} EXPORT TurboQuantTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT TurboQuantTargets NAMESPACE turboquant:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/TurboQuant)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/turboquant ${PROJECT_SOURCE_DIR}/lab ${PROJECT_BINARY_DIR}/generated/turboquant
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.inl" EXCLUDE)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/TurboQuantConfig.cmake.in
  ${PROJECT_BINARY_DIR}/TurboQuantConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/TurboQuant)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/TurboQuantConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/TurboQuantConfig.cmake ${PROJECT_BINARY_DIR}/TurboQuantConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/TurboQuant)
