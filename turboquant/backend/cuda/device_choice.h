// SPDX-License-Identifier: Apache-2.0
// Which GPU a backend runs on, and why it cannot.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tq::cuda {

inline constexpr int kLeastCapability = 80;  // 10 * major + minor

struct DeviceInfo {
  int index = 0;
  std::string name;
  int capability = 0;  // 10 * major + minor
  uint64_t total_bytes = 0;
  int multiprocessors = 0;
  bool usable = false;
  std::string why_not;
};

// What the driver shows. `why_none` says why the list is empty.
std::vector<DeviceInfo> ListDevices(std::string& why_none);
std::string DriverVersion();  // "13.0", or "none"

// Makes the device that "cuda" or "cuda:N" names current. Throws kUnsupported or kInvalidArgument
// with what is there and what is needed.
DeviceInfo UseDevice(std::string_view text);

}  // namespace tq::cuda
