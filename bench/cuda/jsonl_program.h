// SPDX-License-Identifier: Apache-2.0
// The frame of a program that writes its measurements to a file, a JSON object per line.
#pragma once

#include <cstdio>

#include "turboquant/base/error.h"

namespace tq {

// Opens argv[1] as `json`, runs measure() and closes it; what main returns.
template <typename Fn>
int RunJsonlProgram(int argc, char** argv, const char* usage, FILE*& json, Fn&& measure) {
  if (argc < 2) {
    std::printf("usage: %s\n", usage);
    return 2;
  }
  json = std::fopen(argv[1], "w");
  if (json == nullptr) {
    std::printf("cannot write %s\n", argv[1]);
    return 1;
  }
  try {
    measure();
  } catch (const Error& error) {
    std::printf("error: %s\n", error.what());
    return 1;
  }
  std::fclose(json);
  return 0;
}

}  // namespace tq
