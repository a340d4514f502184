// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cpu/basis_change.h"

#include <algorithm>

namespace tq {
namespace {

// A rotation of fewer values is cheaper than a parallel region; so is a map of fewer products.
constexpr int64_t kSerialValues = 16384;
constexpr int64_t kSerialProducts = 65536;

// fn(begin, end) on ranges of tokens.
template <typename Fn>
void ForTokens(int64_t tokens, int64_t values_per_token, const ThreadPool& pool, Fn&& fn) {
  if (tokens * values_per_token <= kSerialValues) return fn(int64_t{0}, tokens);
  pool.ParallelFor(tokens, 1, [&](int64_t begin, int64_t end, int) { fn(begin, end); });
}

constexpr int64_t kMapTokens = 48;  // tokens of a prompt that go through a matrix together

void ToStoredQueries(float* q, int64_t rows, int64_t stride, int head_dim, const KeyMap& map) {
  if (map.queries != nullptr) {
    MapRows(map.queries, q, rows, stride, head_dim);
  } else {
    RotateRows(q, rows, stride, head_dim, Side::kKey);
  }
}

}  // namespace

void ToStoredKeys(float* x, int tokens, int64_t stride, int head_dim, const KeyMap* map) {
  if (map != nullptr && map->keys != nullptr) {
    MapRows(map->keys, x, tokens, stride, head_dim);
  } else {
    RotateRows(x, tokens, stride, head_dim, Side::kKey);
  }
}

void ToStoredValues(float* x, int tokens, int64_t stride, int head_dim) {
  RotateRows(x, tokens, stride, head_dim, Side::kValue);
}

void QueriesToStored(float* q, const AttentionArgs& args, const KeyMap* key_maps,
                     const ThreadPool& pool) {
  if (!InfoOf(args.kv.open.k).tiles) return;
  const int head_dim = args.kv.open.head_dim, heads = args.q_heads,
            kv_heads = args.kv.open.kv_heads, group = heads / kv_heads;
  if (key_maps == nullptr) {
    ForTokens(args.tokens, int64_t{heads} * head_dim, pool, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t)
        RotateRows(q + t * args.q_stride, heads, head_dim, head_dim, Side::kKey);
    });
    return;
  }
  // A task is what shares a matrix: the query heads of a KV head at one token, or one query head at
  // a block of tokens.
  const bool one = args.tokens == 1;
  const int64_t blocks = one ? 1 : (args.tokens + kMapTokens - 1) / kMapTokens;
  const int per_block = one ? kv_heads : heads;
  const auto change = [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t token = task / per_block * kMapTokens;
      const int head = static_cast<int>(task % per_block) * (one ? group : 1);
      const int64_t rows = one ? group : std::min<int64_t>(kMapTokens, args.tokens - token);
      ToStoredQueries(q + token * args.q_stride + int64_t{head} * head_dim, rows,
                      one ? head_dim : args.q_stride, head_dim, key_maps[head / group]);
    }
  };
  const int64_t tasks = blocks * per_block;
  if (int64_t{args.tokens} * heads * head_dim * head_dim <= kSerialProducts) {
    change(0, tasks, 0);
  } else {
    pool.ParallelFor(tasks, 1, change);
  }
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
