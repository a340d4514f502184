// SPDX-License-Identifier: Apache-2.0
// What host code may know of CUDA: a stream is a pointer.
#pragma once

struct CUstream_st;

namespace tq::cuda {

using Stream = CUstream_st*;

}  // namespace tq::cuda
