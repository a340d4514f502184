// SPDX-License-Identifier: Apache-2.0
// In place of cudnn_attention.cc where cuDNN's headers are not there.
#include "turboquant/attention/cuda/cudnn_attention.h"
#include "turboquant/base/error.h"

namespace tq::cuda {

class CudnnAttention::Plans {};

const CudnnState& FindCudnn() {
  static const CudnnState state{.version = "",
                                .why_not = "this build has no cuDNN (TQ_CUDNN_INCLUDE)"};
  return state;
}

CudnnAttention::CudnnAttention(cudaStream_t) {}
CudnnAttention::~CudnnAttention() = default;

bool CudnnAttention::Prepare(const CudnnAttentionArgs&, std::string* why_not) {
  if (why_not != nullptr) *why_not = FindCudnn().why_not;
  return false;
}

void CudnnAttention::Run(const CudnnAttentionArgs&) {
  Throw(ErrorCode::kUnsupported, "{}", FindCudnn().why_not);
}

}  // namespace tq::cuda
