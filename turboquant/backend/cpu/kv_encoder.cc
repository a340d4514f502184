// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cpu/kv_encoder.h"

#include <algorithm>
#include <array>

#include "turboquant/backend/cpu/basis_change.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/kv/opening_reference.h"

namespace tq {
namespace {

constexpr int64_t kSerialValues = 8192;  // encoding fewer values is cheaper than a parallel region

// Sets the reference vector of page `page`, whose first token is about to come. It is fixed from
// here on.
void OpenPage(const EncodeArgs& args, const PageCodec& codec, int page, int head) {
  const KvLayerView& kv = args.kv;
  std::array<float, 512> mean{};
  TQ_CHECK(kv.open.head_dim <= static_cast<int>(mean.size()));
  if (args.centring && page > 0) {
    OpeningReference(codec, kv, page, head, mean.data());
  } else if (args.centring && args.key_maps != nullptr && args.key_maps[head].mean != nullptr) {
    std::copy_n(args.key_maps[head].mean, kv.open.head_dim, mean.data());
  }
  codec.SetReference(kv.open, kv.OpenHead(page, head), mean.data());
}

// Page by page in order: a page opens with the mean of the one before, which may have been filled
// just now.
template <typename Fn>
void ForPages(const EncodeArgs& args, Fn&& fn) {
  for (int done = 0; done < args.tokens;) {
    const int64_t position = args.first_position + done;
    const int first = static_cast<int>(position % kPageTokens);
    const int count = std::min(kPageTokens - first, args.tokens - done);
    fn(static_cast<int>(position / kPageTokens), first, done, count);
    done += count;
  }
}

void EncodeHead(const EncodeArgs& args, const PageCodec& codec, int head, Side side) {
  const KvLayerView& kv = args.kv;
  const int head_dim = kv.open.head_dim;
  float* x = (side == Side::kKey ? args.k : args.v) + int64_t{head} * head_dim;
  if (side == Side::kKey) {
    const bool tiles = InfoOf(kv.open.k).tiles;
    if (tiles)
      ToStoredKeys(x, args.tokens, args.stride, head_dim,
                   args.key_maps != nullptr ? args.key_maps + head : nullptr);
    ForPages(args, [&](int page, int first, int begin, int count) {
      if (tiles && first == 0) OpenPage(args, codec, page, head);
      codec.EncodeKeys(kv.open, kv.OpenHead(page, head), first,
                       {x + begin * args.stride, count, head_dim, args.stride});
    });
  } else {
    if (InfoOf(kv.open.v).tiles) ToStoredValues(x, args.tokens, args.stride, head_dim);
    ForPages(args, [&](int page, int first, int begin, int count) {
      codec.EncodeValues(kv.open, kv.OpenHead(page, head), first,
                         {x + begin * args.stride, count, head_dim, args.stride});
    });
  }
}

// A step has one or two tasks, so threads share the tiles of each. Scalar codes take a hundredth of
// what a trellis takes: they stay whole.
constexpr int kPartTokens = 32;  // of the smallest tiles
constexpr int kParts = kPageTokens / kPartTokens;
void SealPart(const KvCache& cache, const PageCodec& codec, std::span<const SealTask> tasks,
              int64_t i) {
  const SealTask& task = tasks[static_cast<size_t>(i / kParts)];
  const KvLayerView kv = cache.View(task.sequence, task.layer);
  const PageLayout &from = kv.Layout(task.form - 1), &to = kv.Layout(task.form);
  const bool keys = task.side == Side::kKey;
  const int tokens = InfoOf(keys ? to.k : to.v).trellis ? to.tile.tokens : kPageTokens;
  const int first = static_cast<int>(i % kParts) * kPartTokens;
  if (first % tokens != 0) return;  // within another part's tile
  (keys ? codec.SealKeys : codec.SealValues)(from, kv.Head(task.form - 1, task.page, task.head), to,
                                             kv.Head(task.form, task.page, task.head),
                                             {first, first + tokens});
}

}  // namespace

void EncodeKvOnCpu(const EncodeArgs& args, const ThreadPool& pool) {
  const PageCodec& codec = GetPageCodec();
  const int tasks = 2 * args.kv.open.kv_heads;
  const auto encode = [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      EncodeHead(args, codec, static_cast<int>(i / 2), i % 2 == 0 ? Side::kKey : Side::kValue);
  };
  if (int64_t{tasks} * args.tokens * args.kv.open.head_dim <= kSerialValues) {
    encode(0, tasks, 0);
  } else {
    pool.ParallelForDynamic(tasks, 1, encode);
  }
}

void SealOnCpu(const KvCache& cache, std::span<const SealTask> tasks, const ThreadPool& pool) {
  const PageCodec& codec = GetPageCodec();
  while (!tasks.empty()) {  // form by form: each is made from the one before
    const auto same = static_cast<size_t>(
        std::ranges::find_if(
            tasks, [&](const SealTask& task) { return task.form != tasks.front().form; }) -
        tasks.begin());
    const auto seal = [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) SealPart(cache, codec, tasks, i);
    };
    pool.ParallelForDynamic(static_cast<int64_t>(same) * kParts, 1, seal);
    tasks = tasks.subspan(same);
  }
}

}  // namespace tq
