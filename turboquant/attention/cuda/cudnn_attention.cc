// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/cudnn_attention.h"

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>
#include <dlfcn.h>

#include <compare>
#include <map>
#include <unordered_map>
#include <utility>

#include "turboquant/attention/cuda/prefill_rows.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/base/error.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // where the front end looks up the library's functions
}

namespace tq::cuda {
namespace {

namespace fe = cudnn_frontend;

constexpr const char* kLibrary = "libcudnn.so.9";
constexpr size_t kLeastVersion = 90700;  // masks that start at the end, of any number of tokens

CudnnState Open() {
  CudnnState state;
  fe::cudnn_dlhandle = dlopen(kLibrary, RTLD_NOW);
  if (fe::cudnn_dlhandle == nullptr) {
    const char* error = dlerror();
    state.why_not = fmt::format("no {} ({})", kLibrary, error == nullptr ? "" : error);
    return state;
  }
  try {
    int device = 0;  // the front end needs the CUDA runtime as a library, too
    fe::detail::cuda_get_device(&device);
    const size_t version = fe::detail::get_backend_version();
    const std::string text =
        fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
    cudnnHandle_t handle = nullptr;
    if (version < kLeastVersion) {
      state.why_not = fmt::format("cuDNN {} is too old", text);
    } else if (fe::detail::create_handle(&handle) != CUDNN_STATUS_SUCCESS) {
      state.why_not = fmt::format("cuDNN {} does not start on this device", text);
      cudaGetLastError();
    } else {
      fe::detail::destroy_handle(handle);
      state.version = text;
    }
  } catch (const std::exception& error) {
    state.why_not = error.what();
  }
  return state;
}

enum Uid : int64_t { kQ = 1, kK, kV, kOut, kStats, kQueryCount, kKeyCount };

struct Shape {
  int q_rows, k_rows, q_heads, kv_heads, head_dim;
  float scale;
  bool causal, padded;
  auto operator<=>(const Shape&) const = default;
};

Shape ShapeOf(const CudnnAttentionArgs& args) {
  return {.q_rows = args.q_rows,
          .k_rows = args.k_rows,
          .q_heads = args.q_heads,
          .kv_heads = args.kv_heads,
          .head_dim = args.head_dim,
          .scale = args.scale,
          .causal = args.causal,
          .padded = args.q_rows != args.tokens || args.k_rows != args.keys};
}

// f16 [rows][heads][D] as cuDNN's [1, heads, rows, D].
fe::graph::Tensor_attributes Rows(Uid uid, int64_t rows, int64_t heads, int64_t dim) {
  return fe::graph::Tensor_attributes()
      .set_uid(uid)
      .set_dim({1, heads, rows, dim})
      .set_stride({rows * heads * dim, dim, heads * dim, 1});
}

fe::graph::Tensor_attributes Count(Uid uid) {
  return fe::graph::Tensor_attributes()
      .set_uid(uid)
      .set_dim({1, 1, 1, 1})
      .set_stride({1, 1, 1, 1})
      .set_data_type(fe::DataType_t::INT32);
}

struct Plan {
  fe::graph::Graph graph;
  int64_t workspace = 0;
  std::string why_not;
};

void Describe(const Shape& s, fe::graph::Graph& graph) {
  graph.set_io_data_type(fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  auto options = fe::graph::SDPA_attributes();
  options.set_generate_stats(true).set_attn_scale(s.scale);
  if (s.causal) {
    options.set_diagonal_alignment(fe::DiagonalAlignment_t::BOTTOM_RIGHT)
        .set_diagonal_band_right_bound(0);
  }
  if (s.padded) {
    options.set_padding_mask(true)
        .set_seq_len_q(graph.tensor(Count(kQueryCount)))
        .set_seq_len_kv(graph.tensor(Count(kKeyCount)));
  }
  auto [out, stats] = graph.sdpa(graph.tensor(Rows(kQ, s.q_rows, s.q_heads, s.head_dim)),
                                 graph.tensor(Rows(kK, s.k_rows, s.kv_heads, s.head_dim)),
                                 graph.tensor(Rows(kV, s.k_rows, s.kv_heads, s.head_dim)), options);
  out->set_output(true)
      .set_uid(kOut)
      .set_dim({1, s.q_heads, s.q_rows, s.head_dim})
      .set_stride({int64_t{s.q_rows} * s.q_heads * s.head_dim, s.head_dim,
                   int64_t{s.q_heads} * s.head_dim, 1});
  stats->set_output(true)
      .set_uid(kStats)
      .set_data_type(fe::DataType_t::FLOAT)
      .set_dim({1, s.q_heads, s.q_rows, 1})
      .set_stride({int64_t{s.q_heads} * s.q_rows, s.q_rows, 1, 1});
}

std::unique_ptr<Plan> MakePlan(const Shape& shape, cudnnHandle_t handle) {
  auto plan = std::make_unique<Plan>();
  try {
    Describe(shape, plan->graph);
    auto status = plan->graph.build(handle, {fe::HeurMode_t::A});
    if (status.is_bad()) {
      plan->why_not = status.get_message();
    } else {
      plan->workspace = plan->graph.get_workspace_size();
    }
  } catch (const std::exception& error) {
    plan->why_not = error.what();
  }
  if (!plan->why_not.empty()) cudaGetLastError();  // what a refusal may have left
  return plan;
}

}  // namespace

const CudnnState& FindCudnn() {
  static const CudnnState state = Open();
  return state;
}

class CudnnAttention::Plans {
 public:
  explicit Plans(cudaStream_t stream)
      : stream_(stream), counts_(2 * sizeof(int32_t), "counts of cuDNN's attention") {
    const bool made = fe::detail::create_handle(&handle_) == CUDNN_STATUS_SUCCESS;
    if (made && fe::detail::set_stream(handle_, stream) == CUDNN_STATUS_SUCCESS) return;
    if (made) fe::detail::destroy_handle(handle_);
    Throw(ErrorCode::kIo,
          "cuDNN {} does not start on this device: free memory there, take another cuDNN out of "
          "LD_LIBRARY_PATH, or build with -DTQ_CUDNN=OFF",
          FindCudnn().version);
  }
  ~Plans() {
    plans_.clear();  // made with the handle
    fe::detail::destroy_handle(handle_);
  }

  Plan& Of(const CudnnAttentionArgs& args) {
    const Shape shape = ShapeOf(args);
    std::unique_ptr<Plan>& plan = plans_[shape];
    if (plan == nullptr) plan = MakePlan(shape, handle_);
    return *plan;
  }

  void Run(const CudnnAttentionArgs& args) {
    Plan& plan = Of(args);
    TQ_CHECK(plan.why_not.empty());
    workspace_.EnsureSize(static_cast<size_t>(std::max<int64_t>(plan.workspace, 1)),
                          "the workspace of cuDNN's attention");
    const auto mutable_half = [](const uint16_t* p) { return const_cast<uint16_t*>(p); };
    std::unordered_map<int64_t, void*> tensors = {{kQ, mutable_half(args.q)},
                                                  {kK, mutable_half(args.k)},
                                                  {kV, mutable_half(args.v)},
                                                  {kOut, args.out},
                                                  {kStats, args.stats}};
    if (ShapeOf(args).padded) {
      LaunchSetCounts(counts_.as<int32_t>(), args.tokens, args.keys, stream_);
      tensors[kQueryCount] = counts_.as<int32_t>();
      tensors[kKeyCount] = counts_.as<int32_t>() + 1;
    }
    auto status = plan.graph.execute(handle_, tensors, workspace_.as<void>());
    if (status.is_bad())
      Throw(ErrorCode::kIo,
            "cuDNN's attention failed: {}; free memory on the device, or build with -DTQ_CUDNN=OFF",
            status.get_message());
  }

 private:
  cudaStream_t stream_;
  cudnnHandle_t handle_ = nullptr;
  DeviceBytes counts_, workspace_;
  std::map<Shape, std::unique_ptr<Plan>> plans_;
};

CudnnAttention::CudnnAttention(cudaStream_t stream) {
  if (FindCudnn().why_not.empty()) plans_ = std::make_unique<Plans>(stream);
}
CudnnAttention::~CudnnAttention() = default;

bool CudnnAttention::Prepare(const CudnnAttentionArgs& args, std::string* why_not) {
  const std::string& why = plans_ == nullptr ? FindCudnn().why_not : plans_->Of(args).why_not;
  if (why_not != nullptr) *why_not = why;
  return why.empty();
}

void CudnnAttention::Run(const CudnnAttentionArgs& args) {
  TQ_CHECK(plans_ != nullptr);
  plans_->Run(args);
}

}  // namespace tq::cuda
