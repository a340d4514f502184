// SPDX-License-Identifier: Apache-2.0
// Which instruction sets the kernels may use. The closed list; kernel tables, tests and help
// iterate over it.
#pragma once

#include <array>
#include <string_view>
#include <vector>

namespace tq {

enum class Isa { kScalar, kAvx2, kAvx512 };  // kAvx512 means F, BW, VL, DQ, VNNI and VBMI
inline constexpr std::array kAllIsas = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512};

std::string_view IsaName(Isa isa);  // "scalar", "avx2", "avx512"

// What this machine runs, slowest first.
std::vector<Isa> AvailableIsas();

// The best available one, or what TQ_ISA names. Throws kUnsupported if TQ_ISA names one that is
// unknown or that this machine lacks. Decided once per process.
Isa ActiveIsa();

}  // namespace tq
