// SPDX-License-Identifier: Apache-2.0
#include "lab/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/kv/opening_reference.h"

namespace tq::lab {
namespace {

constexpr int kKvHeads = 2, kGroup = 4, kHeads = kKvHeads * kGroup;
constexpr uint64_t kArenaBytes = uint64_t{64} << 20;
constexpr double kDecodeTolerance = 3e-4;
constexpr double kPromptTolerance = 2e-3;  // f16 operands
// One page is sealed and read, behind a sink and before the window; steps cross the page boundary
// at which that begins.
constexpr int kPromptTokens[] = {260, 118};
constexpr int kSteps = 16;

// One layer of cache on the backend, and the same pages made by plain scalar code on the host.
class Trial {
 public:
  Trial(Backend& backend, Codec codec, int head_dim)
      : backend_(backend), head_dim_(head_dim), random_(static_cast<uint64_t>(head_dim)) {
    const KvGeometry geometry{1, kKvHeads, head_dim, {0}};
    CachePolicy policy;
    policy.k = policy.v = {codec};
    backend.CheckCache(geometry, policy, kHeads);
    auto tested = backend.MakeArenaMemory(kArenaBytes);
    auto wanted = MakeHostArenaMemory(kArenaBytes);
    tested_memory_ = tested.get();
    wanted_memory_ = wanted.get();
    tested_ = std::make_unique<KvCache>(geometry, policy, std::move(tested), kArenaBytes);
    wanted_ = std::make_unique<KvCache>(geometry, policy, std::move(wanted), kArenaBytes);
    sequence_ = tested_->NewSequence();
    wanted_->NewSequence();
  }

  SelfTestResult Run(std::string what) {
    double prompt_error = 0, decode_error = 0;
    for (const int tokens : kPromptTokens) prompt_error = std::max(prompt_error, Step(tokens));
    for (int i = 0; i < kSteps; ++i) decode_error = std::max(decode_error, Step(1));
    const std::string pages = ComparePages();
    const bool close = decode_error <= kDecodeTolerance && prompt_error <= kPromptTolerance;
    return {std::move(what),
            pages.empty() && close ? SelfTestResult::Outcome::kPassed
                                   : SelfTestResult::Outcome::kFailed,
            fmt::format("{}; attention off by {:.1e} decoding (at most {:.0e}), {:.1e} in prompts "
                        "(at most {:.0e})",
                        pages.empty() ? "pages equal" : pages, decode_error, kDecodeTolerance,
                        prompt_error, kPromptTolerance)};
  }

 private:
  // Appends random tokens on both sides; returns the largest error of attention.
  double Step(int tokens) {
    const AppendRequest request{sequence_, tokens};
    const AppendPlan plan = tested_->PlanAppend({&request, 1});
    const AppendPlan same = wanted_->PlanAppend({&request, 1});
    const int64_t row = int64_t{kHeads + 2 * kKvHeads} * head_dim_;
    std::vector<float> qkv(static_cast<size_t>(tokens * row));
    for (size_t i = 0; i < qkv.size(); ++i)
      qkv[i] = static_cast<float>(random_.Gaussian() + (i % 5 == 0 ? 1.5 : 0));
    const std::vector<float> queries = qkv;
    auto rows = backend_.Allocate(qkv.size());
    auto out = backend_.Allocate(static_cast<size_t>(tokens * kHeads * head_dim_));
    backend_.Write(qkv.data(), rows->data(), qkv.size());

    std::vector<int32_t> ids(static_cast<size_t>(tokens)), positions(ids.size());
    for (size_t i = 0; i < ids.size(); ++i)
      positions[i] = static_cast<int32_t>(plan.spans[0].first_position + static_cast<int64_t>(i));
    backend_.BeginStep({*tested_, plan.spans, ids, positions});
    backend_.Seal(*tested_, plan.seal_early);
    const KvLayerView kv = tested_->View(sequence_, 0);
    float* k = rows->data() + kHeads * head_dim_;
    const EncodeArgs encode{.kv = kv,
                            .k = k,
                            .v = k + kKvHeads * head_dim_,
                            .stride = row,
                            .first_position = plan.spans[0].first_position,
                            .tokens = tokens};
    backend_.EncodeKv({&encode, 1});
    backend_.Seal(*tested_, plan.seal_after_encode);
    AttentionArgs attention{.kv = kv,
                            .q = rows->data(),
                            .out = out->data(),
                            .q_stride = row,
                            .out_stride = int64_t{kHeads} * head_dim_,
                            .tokens = tokens,
                            .first_position = plan.spans[0].first_position,
                            .q_heads = kHeads,
                            .scale = 1.0f / std::sqrt(static_cast<float>(head_dim_))};
    backend_.Attend({&attention, 1}, nullptr);
    backend_.Read(rows->data(), qkv.data(), qkv.size());  // k and v are in the stored basis now
    std::vector<float> got(static_cast<size_t>(tokens * kHeads * head_dim_));
    backend_.Read(out->data(), got.data(), got.size());
    tested_->Commit(plan);

    SealByReference(same.seal_early);
    EncodeByReference(same.spans[0].first_position, tokens, qkv, row);
    SealByReference(same.seal_after_encode);
    const double error = AttentionError(attention, queries, got);
    wanted_->Commit(same);
    return error;
  }

  void EncodeByReference(int64_t first, int tokens, std::vector<float>& qkv, int64_t row) {
    const PageCodec& codec = GetPageCodec(Isa::kScalar);
    const KvLayerView kv = wanted_->View(sequence_, 0);
    for (int t = 0; t < tokens; ++t) {
      const auto page = static_cast<int>((first + t) / kPageTokens);
      const auto place = static_cast<int>((first + t) % kPageTokens);
      for (int head = 0; head < kKvHeads; ++head) {
        std::byte* block = kv.OpenHead(page, head);
        if (place == 0) {
          std::vector<float> mean(static_cast<size_t>(head_dim_));
          if (page > 0) OpeningReference(codec, kv, page, head, mean.data());
          codec.SetReference(kv.open, block, mean.data());
        }
        const float* k = qkv.data() + t * row + (kHeads + head) * head_dim_;
        codec.EncodeKeys(kv.open, block, place, {k, 1, head_dim_});
        codec.EncodeValues(kv.open, block, place, {k + kKvHeads * head_dim_, 1, head_dim_});
      }
    }
  }

  void SealByReference(std::span<const SealTask> tasks) {
    const PageCodec& codec = GetPageCodec(Isa::kScalar);
    const KvLayerView kv = wanted_->View(sequence_, 0);
    for (const SealTask& task : tasks) {
      const auto seal = task.side == Side::kKey ? codec.SealKeys : codec.SealValues;
      seal(kv.open, kv.OpenHead(task.page, task.head), kv.sealed,
           kv.SealedHead(task.page, task.head), {});
    }
  }

  // Largest error of an output vector relative to its norm.
  double AttentionError(AttentionArgs args, std::vector<float> queries,
                        const std::vector<float>& got) const {
    const int64_t row = args.q_stride;
    for (int t = 0; t < args.tokens; ++t) {
      RotateRows(queries.data() + t * row, kHeads, head_dim_, head_dim_, Side::kKey, Isa::kScalar);
    }
    std::vector<float> want(got.size());
    args.kv = wanted_->View(sequence_, 0);
    args.q = queries.data();
    args.out = want.data();
    AttendReference(args);
    RotateBackRows(want.data(), args.tokens * kHeads, head_dim_, head_dim_, Side::kValue,
                   Isa::kScalar);
    double worst = 0;
    for (size_t i = 0; i < got.size(); i += static_cast<size_t>(head_dim_)) {
      double error = 0, norm = 1e-30;
      for (size_t j = i; j < i + static_cast<size_t>(head_dim_); ++j) {
        error += std::pow(static_cast<double>(got[j]) - want[j], 2);
        norm += std::pow(static_cast<double>(want[j]), 2);
      }
      const double relative = std::sqrt(error / norm);
      if (!(relative <= worst)) worst = relative;  // NaN sticks
    }
    return worst;
  }

  // Empty if all pages have equal bytes, else which differs first.
  std::string ComparePages() const {
    const KvLayerView a = tested_->View(sequence_, 0), b = wanted_->View(sequence_, 0);
    for (int page = 0; page < a.num_pages; ++page) {
      for (int head = 0; head < kKvHeads; ++head) {
        if (a.open_pages[page] != kNoPage) {
          const auto differs = Differs(a.OpenHead(page, head) - a.arena,
                                       b.OpenHead(page, head) - b.arena, a.open.head_bytes);
          if (differs)
            return fmt::format("open page {}, head {}: byte {} differs", page, head, *differs);
        }
        // Published pages: those that have lost their open form, or may at any time.
        if (a.sealed_pages[page] != kNoPage && a.visibility.Sealed(page, a.length)) {
          const auto differs = Differs(a.SealedHead(page, head) - a.arena,
                                       b.SealedHead(page, head) - b.arena, a.sealed.head_bytes);
          if (differs)
            return fmt::format("sealed page {}, head {}: byte {} differs", page, head, *differs);
        }
      }
    }
    return "";
  }
  std::optional<size_t> Differs(int64_t tested, int64_t wanted, size_t bytes) const {
    std::vector<std::byte> x(bytes), y(bytes);
    tested_memory_->ReadBlock(static_cast<uint64_t>(tested), x.data(), bytes);
    wanted_memory_->ReadBlock(static_cast<uint64_t>(wanted), y.data(), bytes);
    const auto where = std::ranges::mismatch(x, y).in1 - x.begin();
    if (where == static_cast<std::ptrdiff_t>(bytes)) return std::nullopt;
    return static_cast<size_t>(where);
  }

  Backend& backend_;
  int head_dim_;
  Random random_;
  ArenaMemory* tested_memory_;
  ArenaMemory* wanted_memory_;
  std::unique_ptr<KvCache> tested_, wanted_;
  SequenceId sequence_;
};

}  // namespace

void RunSelfTest(Backend& backend, const std::function<void(const SelfTestResult&)>& on_result) {
  const auto run = [&](const CodecInfo& codec, int head_dim) {
    std::string what = fmt::format("{}, head dim {}", codec.name, head_dim);
    try {
      on_result(Trial(backend, codec.codec, head_dim).Run(what));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnsupported) throw;
      on_result({std::move(what), SelfTestResult::Outcome::kNotSupported, error.what()});
    }
  };
  for (const CodecInfo& codec : kCodecs) {
    if (codec.tiles) run(codec, 128);
  }
  for (const int head_dim : {64, 80, 256}) run(InfoOf(Codec::kTurbo3), head_dim);
}

}  // namespace tq::lab
