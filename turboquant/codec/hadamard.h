// SPDX-License-Identifier: Apache-2.0
// Hadamard matrices of the head dims: H_D = P_m (x) S_n, D = m n, with S_n Sylvester's matrix of a
// power of two and P_m Paley's of order 12 (first construction, q = 11), 20 (first, q = 19), 28
// (second, q = 13), or 1.
#pragma once

#include <array>
#include <cstdint>

namespace tq {

// The factors of a head dim: index = a * inner + b, P over a, S over b.
struct HadamardFactors {
  int order;  // m: 1, 12, 20 or 28
  int inner;  // n, a power of two
};

constexpr HadamardFactors FactorsOf(int head_dim) {
  switch (head_dim) {
    case 80:
      return {20, 4};
    case 96:
      return {12, 8};
    case 112:
      return {28, 4};
    case 192:
      return {12, 16};
    default:
      return {1, head_dim};
  }
}

// Quadratic character of a mod q, q an odd prime: 1 for squares, -1 for others, 0 for 0.
constexpr int QuadraticCharacter(int a, int q) {
  a = (a % q + q) % q;
  if (a == 0) return 0;
  for (int x = 1; x < q; ++x) {
    if (x * x % q == a) return 1;
  }
  return -1;
}

// Entry of P_m, +1 or -1.
constexpr int PaleyEntry(int order, int row, int column) {
  if (order == 1) return 1;
  if (order != 28) {
    // First construction, q = 3 mod 4: identity plus the bordered, skew matrix of characters.
    if (row == column || row == 0) return 1;
    return column == 0 ? -1 : QuadraticCharacter(row - column, order - 1);
  }
  // Second construction, q = 13 = 1 mod 4: every entry of the conference matrix of order 14 becomes
  // a block of 2 x 2.
  const int i = row / 2, j = column / 2;
  const bool both = row % 2 == 1 && column % 2 == 1;
  if (i == j) return row % 2 == 0 && column % 2 == 0 ? 1 : -1;
  const int entry = i == 0 || j == 0 ? 1 : QuadraticCharacter(i - j, 13);
  return both ? -entry : entry;
}

// P_m and its transpose as floats, row-major.
template <int kOrder>
struct PaleyMatrix {
  std::array<float, kOrder* kOrder> forward = {};
  std::array<float, kOrder* kOrder> transposed = {};
  constexpr PaleyMatrix() {
    for (int i = 0; i < kOrder; ++i) {
      for (int j = 0; j < kOrder; ++j) {
        const auto entry = static_cast<float>(PaleyEntry(kOrder, i, j));
        forward[static_cast<std::size_t>(i * kOrder + j)] = entry;
        transposed[static_cast<std::size_t>(j * kOrder + i)] = entry;
      }
    }
  }
};

}  // namespace tq
