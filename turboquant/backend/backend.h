// SPDX-License-Identifier: Apache-2.0
// The one place where kernels are put together: coarse calls on memory that the backend owns. `cpu`
// works on host memory; `cuda` will hold the same calls over device memory, so no caller
// dereferences activations except through Read.
#pragma once

#include <cstdint>
#include <memory>
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
  // The same floats where the host may read them, or null: then Backend::Read copies them.
  virtual const float* host() const = 0;
};

struct BackendOptions {
  std::string device = "cpu";  // "cpu"; "cuda" is refused with what is built in
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

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "cpu (avx512, 2 threads)"
  virtual int threads() const = 0;

  virtual std::unique_ptr<Buffer> Allocate(
      size_t floats) = 0;  // grow-only use expected; throws kOutOfMemory
  virtual std::unique_ptr<ArenaMemory> MakeArenaMemory(uint64_t reserve_bytes) = 0;
  virtual void Read(const float* device, float* host,
                    size_t floats) = 0;  // copies to the host, synchronously

  virtual std::unique_ptr<const PackedWeight> LoadWeight(
      std::span<const GgufTensor* const> tensors) = 0;  // stacked; nullptr if they cannot be
  virtual std::unique_ptr<Buffer> LoadVector(
      std::span<const GgufTensor* const> tensors) = 0;  // norms, biases: f32, end to end

  // out[t] = table[tokens[t]] * scale. out [T, E]
  virtual void Embed(const PackedWeight& table, std::span<const int32_t> tokens, float scale,
                     MatrixView<float> out) = 0;
  virtual void Linear(MatrixView<const float> x, std::span<const LinearOut> outs,
                      Precision precision) = 0;
  virtual void RmsNorm(MatrixView<const float> x, const float* weight, float eps,
                       MatrixView<float> out) = 0;
  virtual void Add(MatrixView<float> x, MatrixView<const float> y) = 0;
  virtual void GatedActivation(Activation activation, MatrixView<const float> gate,
                               MatrixView<const float> up, MatrixView<float> out) = 0;
  virtual void Rope(MatrixView<float> x, int heads, int head_dim,
                    std::span<const int32_t> positions, const RopeTable& table) = 0;

  // k, v -> pages (bias, norms and RoPE are already applied): transform, then Encode page by page;
  // opens pages (sets r).
  virtual void EncodeKv(const EncodeArgs& args) = 0;
  virtual void Seal(const KvCache& cache, std::span<const SealTask> tasks) = 0;
  // q is transformed in place, out is transformed back to the model's basis.
  // q [T, H, D] in the model's basis on entry, out [T, H, D] in the model's basis on return.
  virtual void Attend(std::span<const AttentionArgs> calls, const KeyMap* key_maps) = 0;
};

// Throws kUnsupported for a device that this build or machine lacks, listing what there is.
std::unique_ptr<Backend> MakeBackend(const BackendOptions& options);

}  // namespace tq
