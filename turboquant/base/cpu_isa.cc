// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/cpu_isa.h"

#include <cstdlib>
#include <string>

#include "turboquant/base/error.h"

namespace tq {
namespace {

bool Runs(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi2");
    case Isa::kAvx512:
      return Runs(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
             __builtin_cpu_supports("avx512vbmi");
  }
  return false;
}

Isa ChooseIsa() {
  const char* wanted = std::getenv("TQ_ISA");
  const std::vector<Isa> available = AvailableIsas();
  if (wanted == nullptr || *wanted == '\0') return available.back();
  std::string names;
  for (Isa isa : available) {
    if (IsaName(isa) == wanted) return isa;
    names += std::string(names.empty() ? "" : ", ") + std::string(IsaName(isa));
  }
  Throw(ErrorCode::kUnsupported, "TQ_ISA={} is not available on this machine; available: {}",
        wanted, names);
}

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "?";
}

std::vector<Isa> AvailableIsas() {
  std::vector<Isa> isas;
  for (Isa isa : kAllIsas) {
    if (Runs(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa ActiveIsa() {
  static const Isa isa = ChooseIsa();
  return isa;
}

}  // namespace tq
