// SPDX-License-Identifier: Apache-2.0
// The one place where kernels are put together: coarse calls on memory that the backend owns. `cpu`
// works on host memory, `cuda` on a GPU's, so no caller dereferences activations except through
// Read and Write.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "turboquant/attention/attention.h"
#include "turboquant/codec/transform.h"
#include "turboquant/gguf/gguf_file.h"
#include "turboquant/kv/kv_cache.h"
#include "turboquant/ops/elementwise.h"
#include "turboquant/ops/linear.h"

namespace tq {

// Activation memory; data() is an address on the backend's device.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual float* data() = 0;
  virtual const float* data() const = 0;
  virtual size_t size() const = 0;  // floats
};

struct BackendOptions {
  std::string device = "cpu";  // "cpu", "cuda" (the first GPU) or "cuda:N"; see MakeBackend
  int threads = 0;             // 0 = all
};

// New keys and values of one sequence at one layer.
struct EncodeArgs {
  KvLayerView kv;
  float* k = nullptr;  // [T, G, D] post-RoPE; left in the stored basis afterwards
  float* v = nullptr;  // [T, G, D]; left in the stored basis afterwards
  int64_t stride = 0;  // floats between tokens
  int64_t first_position = 0;
  int tokens = 0;
  const KeyMap* key_maps = nullptr;  // [G] or null
  bool centring = true;
};

// What one step works on: everything that differs between two steps of the same shape.
struct StepInputs {
  const KvCache& cache;  // planned: lengths and tables are those after the step
  std::span<const AppendPlan::Span> spans;
  std::span<const int32_t> tokens;     // [T] of all spans, one after another
  std::span<const int32_t> positions;  // [T]
  // Spans of several tokens may attend to each other as rows, not by way of pages; what they read
  // of the cache then is what the first of them sees.
  bool fresh_prompts = false;
};

// Steps with equal keys make the same calls on the same memory, with other inputs.
struct StepKey {
  const void* caller = nullptr;
  const KvCache* cache = nullptr;
  size_t sequences = 0;  // each with one token
  Precision precision = Precision::kFast;
  bool operator==(const StepKey&) const = default;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "cpu (avx512, 2 threads)"
  virtual int threads() const = 0;
  // Bytes that the backend's device has left for caches; nothing: it is the host's memory.
  virtual std::optional<uint64_t> FreeMemory() const { return std::nullopt; }
  // Throws kUnsupported, saying what does run, if the kernels lack a codec or head dim of a cache.
  virtual void CheckCache(const KvGeometry&, const CachePolicy&, int /*q_heads*/) const {}

  // A step: BeginStep, then the calls that work on its tokens. RunStep makes the calls in `body`,
  // or repeats what an earlier body with the same key did, on the inputs of the last BeginStep.
  virtual void BeginStep(const StepInputs&) {}
  virtual void RunStep(const StepKey&, const std::function<void()>& body) { body(); }
  // Returns when all work so far is done, what goes on beside steps included.
  virtual void Finish() {}

  virtual std::unique_ptr<Buffer> Allocate(
      size_t floats) = 0;  // grow-only use expected; throws kOutOfMemory
  // The backend must outlive it.
  virtual std::unique_ptr<ArenaMemory> MakeArenaMemory(uint64_t reserve_bytes) = 0;
  // Activations where the host may use them, until the next call: the memory itself or a copy. The
  // calls before have been carried out.
  virtual float* OnHost(float* device, size_t floats) = 0;
  void Read(const float* device, float* host, size_t floats) {
    std::copy_n(OnHost(const_cast<float*>(device), floats), floats, host);
  }
  virtual void Write(const float* host, float* device, size_t floats) = 0;  // may be OnHost's copy
  // For each row the index of its largest value into `indices` (host): the lower one of equals, NaN
  // never, -1 if nothing is above -infinity.
  virtual void Largest(MatrixView<const float> x, int32_t* indices) = 0;

  virtual std::unique_ptr<const PackedWeight> LoadWeight(
      std::span<const GgufTensor* const> tensors) = 0;  // stacked; nullptr if they cannot be
  virtual std::unique_ptr<Buffer> LoadVector(
      std::span<const GgufTensor* const> tensors) = 0;  // norms, biases: f32, end to end
  // Random 4-bit weights (ops/random_panels.h), made where they stay: for timing.
  virtual std::unique_ptr<const PackedWeight> RandomWeight(int64_t rows, int64_t cols,
                                                           uint64_t seed) = 0;

  // out[t] = table[tokens[t]] * scale. out [T, E]
  virtual void Embed(const PackedWeight& table, std::span<const int32_t> tokens, float scale,
                     MatrixView<float> out) = 0;
  virtual void Linear(MatrixView<const float> x, std::span<const LinearOut> outs,
                      Precision precision) = 0;
  // The weight of a product of this step that comes behind the next one: it may be prepared with
  // that one's. It must outlive the step.
  virtual void Announce(const PackedWeight&) {}
  virtual void RmsNorm(MatrixView<const float> x, const float* weight, float eps,
                       MatrixView<float> out) = 0;
  virtual void Add(MatrixView<float> x, MatrixView<const float> y) = 0;
  // x += y, then out = the norm of x. out may be y.
  virtual void AddRmsNorm(MatrixView<float> x, MatrixView<const float> y, const float* weight,
                          float eps, MatrixView<float> out) {
    Add(x, y);
    RmsNorm(x, weight, eps, out);
  }
  virtual void GatedActivation(Activation activation, MatrixView<const float> gate,
                               MatrixView<const float> up, MatrixView<float> out) = 0;
  // The two and a product of what they give, which nothing else reads: `made` is where they may
  // leave it, and holds nothing defined afterwards.
  virtual void AddRmsNormLinear(MatrixView<float> x, MatrixView<const float> y, const float* weight,
                                float eps, MatrixView<float> made, std::span<const LinearOut> outs,
                                Precision precision) {
    AddRmsNorm(x, y, weight, eps, made);
    Linear(made, outs, precision);
  }
  virtual void GatedLinear(Activation activation, MatrixView<const float> gate,
                           MatrixView<const float> up, MatrixView<float> made,
                           std::span<const LinearOut> outs, Precision precision) {
    GatedActivation(activation, gate, up, made);
    Linear(made, outs, precision);
  }
  virtual void Rope(MatrixView<float> x, int heads, int head_dim,
                    std::span<const int32_t> positions, const RopeTable& table) = 0;

  // k, v -> pages (bias, norms and RoPE are already applied): transform, then Encode page by page;
  // opens pages (sets r). All sequences of a step at one layer, in the order of its spans.
  virtual void EncodeKv(std::span<const EncodeArgs> calls) = 0;
  virtual void Seal(const KvCache& cache, std::span<const SealTask> tasks) = 0;
  // q [T, H, D] in the model's basis on entry, may be transformed in place; out [T, H, D] in the
  // model's basis on return. Calls as for EncodeKv.
  virtual void Attend(std::span<const AttentionArgs> calls, const KeyMap* key_maps) = 0;
};

// Throws kUnsupported for a device that this build or machine lacks, listing what there is. There
// is no fallback from one device to another.
std::unique_ptr<Backend> MakeBackend(const BackendOptions& options);

}  // namespace tq
