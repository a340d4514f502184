// SPDX-License-Identifier: Apache-2.0
// Large products through cuBLAS, which is loaded when a backend starts: the program itself runs
// without it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "turboquant/base/matrix_view.h"

namespace tq::cuda {

class Cublas {
 public:
  // Throws kUnsupported, naming the library, if it cannot be loaded.
  explicit Cublas(cudaStream_t stream);
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  // out (+)= x w^T: x [T][K], w [N][K], out [T][N], sums in f32. bf16 operands are contiguous.
  void ProductBf16(const uint16_t* x, const uint16_t* w, int64_t cols, MatrixView<float> out,
                   bool accumulate);
  // f32 throughout, never tf32.
  void ProductF32(MatrixView<const float> x, const float* w, MatrixView<float> out,
                  bool accumulate);

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace tq::cuda
