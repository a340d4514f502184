// SPDX-License-Identifier: Apache-2.0
// The backend on a GPU: one stream carries a step's work in order, others work on pages beside it.
// Nothing waits for the device but Read, Write, Finish and memory that goes back.
#include "turboquant/backend/cuda/cuda_backend.h"

#include <algorithm>
#include <list>

#include "turboquant/attention/cuda/cudnn_attention.h"
#include "turboquant/backend/cuda/device_attention.h"
#include "turboquant/backend/cuda/device_choice.h"
#include "turboquant/backend/cuda/device_step.h"
#include "turboquant/backend/cuda/page_work.h"
#include "turboquant/backend/cuda/step_graphs.h"
#include "turboquant/backend/vector_tensor.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/half.h"
#include "turboquant/kv/cuda/device_arena_memory.h"
#include "turboquant/kv/kv_layout.h"
#include "turboquant/ops/cuda/device_linear.h"
#include "turboquant/ops/cuda/elementwise_kernels.h"
#include "turboquant/ops/random_panels.h"

namespace tq {
namespace cuda {
namespace {

// Left free for workspaces, graphs and the driver when a cache takes "what there is".
constexpr uint64_t kKeptFree = uint64_t{896} << 20;

class DeviceBuffer final : public Buffer {
 public:
  explicit DeviceBuffer(size_t floats)
      : memory_(floats * sizeof(float), "activations"), size_(floats) {}
  float* data() override { return memory_.as<float>(); }
  const float* data() const override { return memory_.as<float>(); }
  size_t size() const override { return size_; }

 private:
  DeviceBytes memory_;
  size_t size_;
};

const DeviceWeight& ViewOf(const PackedWeight& weight) {
  return static_cast<const DeviceWeightMatrix&>(weight).view();
}

void CheckNorm(int64_t columns) {
  if (columns > kMostNormColumns) {
    Throw(ErrorCode::kUnsupported,
          "device 'cuda' runs models of up to {} columns, this one has {}: use --device cpu",
          kMostNormColumns, columns);
  }
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(const GpuInfo& device, int threads) : device_(device), pool_(threads) {}
  ~CudaBackend() override { cudaDeviceSynchronize(); }

  std::string name() const override {
    const CudnnState& cudnn = FindCudnn();
    return fmt::format("cuda:{} ({}, compute capability {}.{}{})", device_.index, device_.name,
                       device_.capability / 10, device_.capability % 10,
                       cudnn.why_not.empty() ? ", cuDNN " + cudnn.version : "");
  }
  int threads() const override { return pool_.num_threads(); }

  std::optional<uint64_t> FreeMemory() const override {
    const uint64_t free_bytes = DeviceMemoryInfo().free_bytes;
    return free_bytes - std::min(free_bytes, kKeptFree);
  }
  void CheckCache(const KvGeometry& geometry, const CachePolicy& policy,
                  int q_heads) const override {
    for (const KvGroup& group : KvLayout(geometry, policy).groups) {
      for (const KvGroup::Layer& layer : group.layers) {
        for (const KvGroup::Place& place : layer.places) CheckAttention(place.layout, q_heads);
      }
    }
  }

  std::unique_ptr<Buffer> Allocate(size_t floats) override {
    graphs_.Clear();
    linear_.Forget();  // the memory may be some that was there before
    return std::make_unique<DeviceBuffer>(floats);
  }
  std::unique_ptr<ArenaMemory> MakeArenaMemory(uint64_t reserve_bytes) override {
    graphs_.Clear();
    attention_.ForgetKeyMaps();  // a new cache may come with other maps
    return MakeDeviceArenaMemory(reserve_bytes, stream_, [this] { page_work_.MakeMainWait(); });
  }
  float* OnHost(float* device, size_t floats) override {
    const size_t bytes = floats * sizeof(float);
    staging_.EnsureSize(bytes);
    Check(cudaMemcpyAsync(staging_.as<float>(), device, bytes, cudaMemcpyDeviceToHost, stream_),
          "reading activations");
    stream_.Synchronize();
    return staging_.as<float>();
  }
  void Write(const float* host, float* device, size_t floats) override {
    linear_.Forget();
    Check(cudaMemcpyAsync(device, host, floats * sizeof(float), cudaMemcpyHostToDevice, stream_),
          "writing activations");
    stream_.Synchronize();
  }

  void Largest(MatrixView<const float> x, int32_t* indices) override {
    if (x.rows == 0) return;
    const auto bytes = static_cast<size_t>(x.rows) * sizeof(int32_t);
    largest_.EnsureSize(bytes, "chosen tokens");
    staging_.EnsureSize(bytes);
    LaunchArgmax(x, largest_.as<int32_t>(), stream_);
    Check(cudaMemcpyAsync(staging_.as<int32_t>(), largest_.as<int32_t>(), bytes,
                          cudaMemcpyDeviceToHost, stream_),
          "reading chosen tokens");
    stream_.Synchronize();
    std::copy_n(staging_.as<int32_t>(), x.rows, indices);
  }

  std::unique_ptr<const PackedWeight> LoadWeight(
      std::span<const GgufTensor* const> tensors) override {
    const auto host = PackedWeight::PackStacked(tensors, pool_);
    return host == nullptr ? nullptr : std::make_unique<DeviceWeightMatrix>(*host);
  }
  std::unique_ptr<Buffer> LoadVector(std::span<const GgufTensor* const> tensors) override {
    std::vector<float> host(ValuesOf(tensors));
    DecodeVectors(tensors, host.data());
    auto buffer = std::make_unique<DeviceBuffer>(host.size());
    Write(host.data(), buffer->data(), host.size());
    return buffer;
  }

  std::unique_ptr<const PackedWeight> RandomWeight(int64_t rows, int64_t cols,
                                                   uint64_t seed) override {
    auto weight = std::make_unique<DeviceWeightMatrix>(kRandomLayout, rows, cols);
    LaunchRandomPanels(weight->panels(), weight->bytes(), seed,
                       FloatToHalf(RandomWeightScale(cols)), stream_);
    CheckLaunch("making random weights");
    stream_.Synchronize();
    return weight;
  }

  void BeginStep(const StepInputs& inputs) override {
    page_work_.Begin(inputs);
    linear_.BeginStep();
    if (step_.Begin(inputs)) graphs_.Clear();
    for (RopeEntry& rope : ropes_) rope.ready = false;
  }
  void RunStep(const StepKey& key, const std::function<void()>& body) override {
    linear_.Forget();
    graphs_.Run(key, body);
    linear_.Forget();  // a body that is repeated leaves no word of what it makes
  }

  void Finish() override {
    page_work_.MakeMainWait();
    stream_.Synchronize();
  }

  void Embed(const PackedWeight& table, std::span<const int32_t> tokens, float scale,
             MatrixView<float> out) override {
    linear_.Forget();
    const bool changed = step_.SetTokens(tokens);
    TQ_CHECK(!changed || !graphs_.capturing());
    LaunchEmbed(ViewOf(table), step_.tokens(), scale, out, stream_);
    CheckLaunch("looking up embeddings");
  }
  void Linear(MatrixView<const float> x, std::span<const LinearOut> outs,
              Precision precision) override {
    linear_.Run(x, outs, precision);
  }
  void Announce(const PackedWeight& weight) override { linear_.Announce(weight); }
  void RmsNorm(MatrixView<const float> x, const float* weight, float eps,
               MatrixView<float> out) override {
    if (x.rows == 0) return;
    CheckNorm(x.cols);
    // Without y the kernel only reads x.
    LaunchRmsNorm({const_cast<float*>(x.data), x.rows, x.cols, x.stride}, nullptr, 0, weight, eps,
                  out, TokensOfNorm(x.data, out), false, stream_);
    CheckLaunch("norming");
  }
  void AddRmsNorm(MatrixView<float> x, MatrixView<const float> y, const float* weight, float eps,
                  MatrixView<float> out) override {
    if (x.rows == 0) return;
    AddNorm(x, y, weight, eps, out, linear_.TokensFor(out));
  }
  void AddRmsNormLinear(MatrixView<float> x, MatrixView<const float> y, const float* weight,
                        float eps, MatrixView<float> made, std::span<const LinearOut> outs,
                        Precision precision) override {
    if (x.rows == 0) return;
    MakeAndMultiply(made, outs, precision, [&](MatrixView<float> floats, ProductTokens tokens) {
      AddNorm(x, y, weight, eps, floats, tokens);
    });
  }
  void Add(MatrixView<float> x, MatrixView<const float> y) override {
    linear_.Forget();
    if (x.rows > 0) LaunchAdd(x, y, stream_);
    CheckLaunch("adding");
  }
  void GatedActivation(Activation activation, MatrixView<const float> gate,
                       MatrixView<const float> up, MatrixView<float> out) override {
    if (gate.rows == 0) return;
    Activate(activation, gate, up, out, linear_.TokensFor(out));
  }
  void GatedLinear(Activation activation, MatrixView<const float> gate, MatrixView<const float> up,
                   MatrixView<float> made, std::span<const LinearOut> outs,
                   Precision precision) override {
    if (gate.rows == 0) return;
    MakeAndMultiply(made, outs, precision, [&](MatrixView<float> floats, ProductTokens tokens) {
      Activate(activation, gate, up, floats, tokens);
    });
  }
  void Rope(MatrixView<float> x, int heads, int head_dim, std::span<const int32_t> positions,
            const RopeTable& table) override {
    if (x.rows == 0) return;
    linear_.Forget();
    if (step_.SetPositions(positions)) {
      TQ_CHECK(!graphs_.capturing());
      for (RopeEntry& rope : ropes_) rope.ready = false;
    }
    LaunchRope(x, heads, head_dim, table.rotary_dim, table.style == RopeStyle::kHalves,
               FactorsOf(table, static_cast<int>(positions.size())), stream_);
    CheckLaunch("turning heads");
  }

  void EncodeKv(std::span<const tq::EncodeArgs> calls) override {
    linear_.Forget();
    attention_.Encode(calls, step_.Tables(calls.front().kv));
  }
  void Seal(const KvCache& cache, std::span<const SealTask> tasks) override {
    page_work_.Seal(cache, tasks);
  }

  void Attend(std::span<const AttentionArgs> calls, const KeyMap* key_maps) override {
    linear_.Forget();
    const KvLayerView& kv = calls.front().kv;
    if (static_cast<int>(calls.size()) <
        step_.slots()) {  // an observer has attended for the others
      for (const AttentionArgs& call : calls)
        attention_.AttendOne(call, step_.Tables(kv), step_.SlotOf(call.kv), key_maps);
      return;
    }
    const bool grew = attention_.Attend(calls, step_.Tables(kv), step_.ShortTables(kv), key_maps,
                                        graphs_.capturing());
    if (grew) graphs_.Clear();
  }

 private:
  // A norm in place is of heads, or of what is added to something next: no product reads it.
  ProductTokens TokensOfNorm(const float* x, MatrixView<const float> out) {
    if (x != out.data) return linear_.TokensFor(out);
    linear_.Forget();
    return {};
  }

  void AddNorm(MatrixView<float> x, MatrixView<const float> y, const float* weight, float eps,
               MatrixView<float> out, const ProductTokens& tokens) {
    CheckNorm(x.cols);
    const bool shares = x.rows > kFewTokens && page_work_.RunBesideMemory();
    LaunchRmsNorm(x, y.data, y.stride, weight, eps, out, tokens, shares, stream_);
    CheckLaunch("adding and norming");
  }
  void Activate(Activation activation, MatrixView<const float> gate, MatrixView<const float> up,
                MatrixView<float> out, const ProductTokens& tokens) {
    if (gate.rows > kFewTokens) page_work_.RunBesideMemory();
    LaunchGatedActivation(activation == Activation::kGeluTanh, gate, up, out, tokens, stream_);
    CheckLaunch("activating");
  }
  // make(floats, tokens), then the product of what it made, which reads nothing but bf16 tokens if
  // there are such: floats are null then.
  template <typename Fn>
  void MakeAndMultiply(MatrixView<float> made, std::span<const LinearOut> outs, Precision precision,
                       const Fn& make) {
    linear_.Expect(precision);
    const ProductTokens tokens = linear_.TokensFor(made);
    MatrixView<float> floats = made;
    if (tokens.bf16 != nullptr) floats.data = nullptr;
    make(floats, tokens);
    linear_.Run(made, outs, precision);
  }

  struct RopeEntry {
    RopeTable table;
    DeviceBytes frequencies;
    DeviceBytes factors;
    bool ready = false;  // factors are those of the step's positions
  };

  const float* FactorsOf(const RopeTable& table, int tokens) {
    auto rope = std::ranges::find(ropes_, table, &RopeEntry::table);
    if (rope == ropes_.end()) {
      TQ_CHECK(!graphs_.capturing());
      const size_t bytes = table.frequencies.size() * sizeof(double);
      rope = ropes_.insert(rope, {table, DeviceBytes(bytes, "rotary frequencies"), {}});
      CopyToDevice(rope->frequencies.as<double>(), table.frequencies.data(), bytes,
                   "copying rotary frequencies");
    }
    if (!rope->ready) {
      const auto floats = static_cast<size_t>(tokens) * 2 * static_cast<size_t>(table.rotary_dim);
      if (rope->factors.EnsureSize(floats * sizeof(float), "rotary factors")) graphs_.Clear();
      LaunchRopeFactors({.positions = step_.positions(),
                         .tokens = tokens,
                         .frequencies = rope->frequencies.as<double>(),
                         .rotary_dim = table.rotary_dim,
                         .magnitude = table.magnitude,
                         .halves = table.style == RopeStyle::kHalves,
                         .factors = rope->factors.as<float>()},
                        stream_);
      rope->ready = true;
    }
    return rope->factors.as<float>();
  }

  GpuInfo device_;
  ThreadPool pool_;  // packs weights
  OwnedStream stream_{OwnedStream::Priority::kHigh};
  PageWork page_work_{stream_};
  DeviceLinear linear_{stream_, [this] { graphs_.Clear(); },
                       [this] { page_work_.BeforeProduct(); }};
  DeviceAttention attention_{stream_, page_work_, linear_};
  DeviceStep step_{stream_};
  StepGraphs graphs_{stream_};
  PinnedBytes staging_;
  DeviceBytes largest_;
  std::list<RopeEntry> ropes_;
};

}  // namespace
}  // namespace cuda

const bool kCudaBuiltIn = true;

std::unique_ptr<Backend> MakeCudaBackend(const BackendOptions& options) {
  return std::make_unique<cuda::CudaBackend>(cuda::UseDevice(options.device), options.threads);
}

}  // namespace tq
