// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cpu/cpu_backend.h"

#include <cstring>
#include <list>

#include "turboquant/attention/plan.h"
#include "turboquant/backend/cpu/basis_change.h"
#include "turboquant/backend/cpu/kv_encoder.h"
#include "turboquant/backend/vector_tensor.h"
#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/half.h"
#include "turboquant/ops/largest.h"
#include "turboquant/ops/linear_workspace.h"
#include "turboquant/ops/packed_panels.h"
#include "turboquant/ops/random_panels.h"

namespace tq {
namespace {

class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(size_t floats) : memory_(floats) {}
  float* data() override { return memory_.data(); }
  const float* data() const override { return memory_.data(); }
  size_t size() const override { return memory_.size(); }

 private:
  AlignedBuffer<float> memory_;
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads) : pool_(threads) {}

  std::string name() const override {
    return fmt::format("cpu ({}, {} thread{})", IsaName(ActiveIsa()), threads(),
                       threads() == 1 ? "" : "s");
  }
  int threads() const override { return pool_.num_threads(); }

  std::unique_ptr<Buffer> Allocate(size_t floats) override {
    return std::make_unique<HostBuffer>(floats);
  }
  std::unique_ptr<ArenaMemory> MakeArenaMemory(uint64_t reserve_bytes) override {
    return MakeHostArenaMemory(reserve_bytes);
  }
  float* OnHost(float* device, size_t) override { return device; }
  void Write(const float* host, float* device, size_t floats) override {
    if (host != device) std::memcpy(device, host, floats * sizeof(float));
  }

  void Largest(MatrixView<const float> x, int32_t* indices) override {
    for (int64_t t = 0; t < x.rows; ++t)
      indices[t] = LargestIndex({x.row(t), static_cast<size_t>(x.cols)});
  }

  std::unique_ptr<const PackedWeight> LoadWeight(
      std::span<const GgufTensor* const> tensors) override {
    if (tensors.size() == 1) return PackedWeight::Pack(*tensors[0], pool_);
    return PackedWeight::PackStacked(tensors, pool_);
  }

  std::unique_ptr<Buffer> LoadVector(std::span<const GgufTensor* const> tensors) override {
    auto buffer = std::make_unique<HostBuffer>(ValuesOf(tensors));
    DecodeVectors(tensors, buffer->data());
    return buffer;
  }

  std::unique_ptr<const PackedWeight> RandomWeight(int64_t rows, int64_t cols,
                                                   uint64_t seed) override {
    auto weight = std::make_unique<PackedPanels>(kRandomLayout, rows, cols);
    const uint32_t scale = FloatToHalf(RandomWeightScale(cols));
    const int64_t words = weight->panel_bytes() / 4;
    pool_.ParallelFor(weight->num_panels(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin * words; i < end * words; ++i) {
        const uint32_t word = RandomPanelWord(seed, static_cast<uint64_t>(i), scale);
        std::memcpy(weight->mutable_panel(0) + 4 * i, &word, sizeof word);
      }
    });
    return weight;
  }

  void Embed(const PackedWeight& table, std::span<const int32_t> tokens, float scale,
             MatrixView<float> out) override {
    pool_.ParallelFor(static_cast<int64_t>(tokens.size()), 16,
                      [&](int64_t begin, int64_t end, int) {
                        for (int64_t t = begin; t < end; ++t) {
                          table.DecodeRow(tokens[t], out.row(t));
                          for (int64_t i = 0; scale != 1.0f && i < out.cols; ++i)
                            out.row(t)[i] *= scale;
                        }
                      });
  }

  void Linear(MatrixView<const float> x, std::span<const LinearOut> outs,
              Precision precision) override {
    tq::Linear(x, outs, precision, linear_workspace_, pool_);
  }
  void RmsNorm(MatrixView<const float> x, const float* weight, float eps,
               MatrixView<float> out) override {
    tq::RmsNorm(x, weight, eps, out, pool_);
  }
  void Add(MatrixView<float> x, MatrixView<const float> y) override { AddInPlace(x, y, pool_); }
  void GatedActivation(Activation activation, MatrixView<const float> gate,
                       MatrixView<const float> up, MatrixView<float> out) override {
    tq::GatedActivation(activation, gate, up, out, pool_);
  }
  void Rope(MatrixView<float> x, int heads, int head_dim, std::span<const int32_t> positions,
            const RopeTable& table) override {
    RopeAngles& angles = AnglesOf(table);
    angles.Set(table, positions, pool_);
    tq::Rope(x, heads, head_dim, angles, pool_);
  }

  void EncodeKv(std::span<const EncodeArgs> calls) override {
    for (const EncodeArgs& args : calls) EncodeKvOnCpu(args, pool_);
  }
  void Seal(const KvCache& cache, std::span<const SealTask> tasks) override {
    SealOnCpu(cache, tasks, pool_);
  }

  void Attend(std::span<const AttentionArgs> calls, const KeyMap* key_maps) override {
    for (const AttentionArgs& args : calls) {
      QueriesToStored(const_cast<float*>(args.q), args, key_maps,
                      pool_);  // the contract: q is transformed in place
    }
    tq::Attend(calls, attention_workspace_, pool_);
    for (const AttentionArgs& args : calls) OutputsFromStored(args, pool_);
  }

 private:
  // A model has one or two tables (local and global layers), which take turns from layer to layer.
  RopeAngles& AnglesOf(const RopeTable& table) {
    for (auto& [owner, angles] : angles_) {
      if (owner == &table) return angles;
    }
    if (angles_.size() >= kMaxRopeTables) angles_.pop_front();
    return angles_.emplace_back(&table, RopeAngles()).second;
  }
  static constexpr size_t kMaxRopeTables = 4;

  ThreadPool pool_;
  LinearWorkspace linear_workspace_;
  AttentionWorkspace attention_workspace_;
  std::list<std::pair<const RopeTable*, RopeAngles>> angles_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace tq
