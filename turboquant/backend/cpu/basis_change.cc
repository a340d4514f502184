// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cpu/basis_change.h"

#include <algorithm>
#include <array>

#include "turboquant/base/error.h"

namespace tq {
namespace {

constexpr int64_t kSerialValues =
    16384;  // a rotation of fewer values is cheaper than a parallel region

// x <- M x for `rows` rows; M [D][D] row-major.
void Multiply(const float* matrix, float* x, int rows, int64_t stride, int head_dim) {
  std::array<float, 512> result;
  TQ_CHECK(head_dim <= static_cast<int>(result.size()));
  for (int r = 0; r < rows; ++r, x += stride) {
    for (int i = 0; i < head_dim; ++i) {
      float sum = 0;
      for (int j = 0; j < head_dim; ++j) sum += matrix[i * head_dim + j] * x[j];
      result[i] = sum;
    }
    std::copy_n(result.data(), head_dim, x);
  }
}

// fn(begin, end) on ranges of tokens.
template <typename Fn>
void ForTokens(int64_t tokens, int64_t values_per_token, const ThreadPool& pool, Fn&& fn) {
  if (tokens * values_per_token <= kSerialValues) return fn(int64_t{0}, tokens);
  pool.ParallelFor(tokens, 1, [&](int64_t begin, int64_t end, int) { fn(begin, end); });
}

}  // namespace

void ToStoredKeys(float* x, int tokens, int64_t stride, int head_dim, const KeyMap* map) {
  if (map != nullptr && map->forward != nullptr)
    Multiply(map->forward, x, tokens, stride, head_dim);
  RotateRows(x, tokens, stride, head_dim, Side::kKey);
}

void ToStoredValues(float* x, int tokens, int64_t stride, int head_dim) {
  RotateRows(x, tokens, stride, head_dim, Side::kValue);
}

void QueriesToStored(float* q, const AttentionArgs& args, const KeyMap* key_maps,
                     const ThreadPool& pool) {
  if (!InfoOf(args.kv.open.k).tiles) return;
  const int head_dim = args.kv.open.head_dim, heads = args.q_heads,
            group = heads / args.kv.open.kv_heads;
  ForTokens(args.tokens, int64_t{heads} * head_dim, pool, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = q + t * args.q_stride;
      for (int h = 0; key_maps != nullptr && h < heads; ++h) {
        const float* matrix = key_maps[h / group].inverse_transpose;
        if (matrix != nullptr) Multiply(matrix, row + h * head_dim, 1, head_dim, head_dim);
      }
      RotateRows(row, heads, head_dim, head_dim, Side::kKey);
    }
  });
}

void OutputsFromStored(const AttentionArgs& args, const ThreadPool& pool) {
  if (!InfoOf(args.kv.open.v).tiles) return;
  const int head_dim = args.kv.open.head_dim, heads = args.q_heads;
  ForTokens(args.tokens, int64_t{heads} * head_dim, pool, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      RotateBackRows(args.out + t * args.out_stride, heads, head_dim, head_dim, Side::kValue);
    }
  });
}

}  // namespace tq
