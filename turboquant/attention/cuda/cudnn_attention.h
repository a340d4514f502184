// SPDX-License-Identifier: Apache-2.0
// cuDNN's attention over a range of f16 keys and values: the one place that knows cuDNN. The
// library is opened when running, so a program built with it starts where it is absent; built
// without its headers, cudnn_absent.cc stands here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

namespace tq::cuda {

struct CudnnState {
  std::string version;  // "9.19.0"; empty: it cannot be used
  std::string why_not;
};
// Of this build and machine; found once.
const CudnnState& FindCudnn();

struct CudnnAttentionArgs {
  const uint16_t* q = nullptr;  // f16 [tokens][H][D]
  const uint16_t* k = nullptr;  // f16 [keys][G][D]
  const uint16_t* v = nullptr;
  uint16_t* out = nullptr;  // f16 [tokens][H][D]
  float* stats = nullptr;   // [H][q_rows]: logarithms of the softmax denominators
  int tokens = 0;
  int keys = 0;
  // What a plan is made for: tokens and keys, or more. Memory goes that far (q, out, stats: q_rows;
  // k, v: k_rows, finite behind `keys`).
  int q_rows = 0;
  int k_rows = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;
  bool causal = false;  // the last query sees all keys, each one before it one less
};

class CudnnAttention {
 public:
  explicit CudnnAttention(cudaStream_t stream);
  ~CudnnAttention();

  // Makes the plan of such arguments, unless there is one: takes about 100 ms, so rows are
  // rounded.
  // False if cuDNN has none (and what it says in why_not, unless null).
  bool Prepare(const CudnnAttentionArgs& args, std::string* why_not = nullptr);
  void Run(const CudnnAttentionArgs& args);  // prepared; throws kIo if cuDNN fails

 private:
  class Plans;
  std::unique_ptr<Plans> plans_;
};

}  // namespace tq::cuda
