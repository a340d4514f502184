// SPDX-License-Identifier: Apache-2.0
// SHA-256 of a stream (the only file that knows the library is sha256.cc).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace tq::app {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::span<const std::byte> bytes);
  std::string HexDigest();  // 64 lower-case digits; ends the stream

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tq::app
