// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/cuda/cublas.h"

#include <cublas_v2.h>
#include <dlfcn.h>

#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/base/error.h"

namespace tq::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

constexpr const char* kNames[] = {"libcublas.so.13", "libcublas.so",
                                  "/usr/local/cuda/lib64/libcublas.so.13"};

void* Open() {
  for (const char* name : kNames) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  Throw(ErrorCode::kUnsupported,
        "device 'cuda' needs cuBLAS 13, but {} cannot be loaded ({}): install it with the CUDA "
        "toolkit or name its folder in LD_LIBRARY_PATH",
        kNames[0], dlerror());
}

void Check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    Throw(ErrorCode::kIo, "cuBLAS failed while {} (status {})", what, static_cast<int>(status));
}

}  // namespace

struct Cublas::Library {
  using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                    int, const void*, const void*, cudaDataType, int, const void*,
                                    cudaDataType, int, const void*, void*, cudaDataType, int,
                                    cublasComputeType_t, cublasGemmAlgo_t);
  void* library = Open();
  cublasHandle_t handle = nullptr;
  decltype(&cublasCreate_v2) create = Find<decltype(&cublasCreate_v2)>("cublasCreate_v2");
  decltype(&cublasDestroy_v2) destroy = Find<decltype(&cublasDestroy_v2)>("cublasDestroy_v2");
  decltype(&cublasSetStream_v2) set_stream =
      Find<decltype(&cublasSetStream_v2)>("cublasSetStream_v2");
  decltype(&cublasSetWorkspace_v2) set_workspace =
      Find<decltype(&cublasSetWorkspace_v2)>("cublasSetWorkspace_v2");
  GemmEx gemm = Find<GemmEx>("cublasGemmEx");
  DeviceBytes workspace{kWorkspaceBytes, "cuBLAS"};

  explicit Library(cudaStream_t stream) {
    Check(create(&handle), "starting");
    Check(set_stream(handle, stream), "taking a stream");
    Check(set_workspace(handle, workspace.as<void>(), kWorkspaceBytes), "taking its workspace");
  }
  ~Library() { destroy(handle); }  // the library stays loaded: it cannot be unloaded safely

  template <typename Function>
  Function Find(const char* name) const {
    void* symbol = dlsym(library, name);
    if (symbol == nullptr) Throw(ErrorCode::kUnsupported, "{} has no {}", kNames[0], name);
    return reinterpret_cast<Function>(symbol);
  }

  // cuBLAS counts columns first: out^T [N x T] = w^T' [N x K] x^T [K x T].
  void Product(const void* x, int64_t x_stride, const void* w, int64_t cols, cudaDataType type,
               MatrixView<float> out, bool accumulate, cublasComputeType_t compute) const {
    const float one = 1.0f, beta = accumulate ? 1.0f : 0.0f;
    Check(gemm(handle, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(out.cols),
               static_cast<int>(out.rows), static_cast<int>(cols), &one, w, type,
               static_cast<int>(cols), x, type, static_cast<int>(x_stride), &beta, out.data,
               CUDA_R_32F, static_cast<int>(out.stride), compute, CUBLAS_GEMM_DEFAULT),
          "multiplying matrices");
  }
};

Cublas::Cublas(cudaStream_t stream) : library_(std::make_unique<Library>(stream)) {}
Cublas::~Cublas() = default;

void Cublas::ProductBf16(const uint16_t* x, const uint16_t* w, int64_t cols, MatrixView<float> out,
                         bool accumulate) {
  library_->Product(x, cols, w, cols, CUDA_R_16BF, out, accumulate, CUBLAS_COMPUTE_32F);
}
void Cublas::ProductF32(MatrixView<const float> x, const float* w, MatrixView<float> out,
                        bool accumulate) {
  library_->Product(x.data, x.stride, w, x.cols, CUDA_R_32F, out, accumulate,
                    CUBLAS_COMPUTE_32F_PEDANTIC);
}

}  // namespace tq::cuda
