// SPDX-License-Identifier: Apache-2.0
// The one error type: wrong input throws tq::Error (what, where, what to do); our own bugs abort
// through TQ_CHECK.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace tq {

enum class ErrorCode {
  kInvalidArgument,  // a flag, text form or call that cannot be meant
  kNotFound,         // a file, model or name that is not there
  kCorruptFile,      // damaged, truncated or foreign bytes
  kUnsupported,      // well formed, but not something this build runs
  kOutOfMemory,      // would not fit a budget or the machine
  kIo,               // the operating system refused
  kCancelled,        // the user said stop
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// Throws Error with a formatted message. Messages say what is wrong, where, and what to do about
// it.
template <typename... Args>
[[noreturn]] void Throw(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);

}  // namespace tq

// Aborts on a bug of ours; never for wrong input. Always on.
#define TQ_CHECK(expression) \
  ((expression) ? static_cast<void>(0) : ::tq::CheckFailed(#expression, __FILE__, __LINE__))
