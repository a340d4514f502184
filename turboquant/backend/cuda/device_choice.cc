// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/device_choice.h"

#include <cuda_runtime_api.h>

#include <charconv>

#include "turboquant/attention/cuda/cudnn_attention.h"
#include "turboquant/backend/cuda/device_probe.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/error.h"

namespace tq {
namespace cuda {
namespace {

std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string WhyUnusable(const GpuInfo& device) {
  if (device.capability < kLeastCapability) {
    return fmt::format("compute capability {}.{}, at least {}.{} is needed", device.capability / 10,
                       device.capability % 10, kLeastCapability / 10, kLeastCapability % 10);
  }
  cudaSetDevice(device.index);
  const cudaError_t status = ProbeKernel();
  cudaGetLastError();
  if (status == cudaSuccess) return "";
  return fmt::format(
      "this build's kernels do not start on it ({}): build with TQ_CUDA_ARCHS for "
      "compute capability {}.{}",
      cudaGetErrorString(status), device.capability / 10, device.capability % 10);
}

std::string DriverVersion() {
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0) return "";
  return VersionText(version);
}

}  // namespace
}  // namespace cuda

GpuList ListGpus() {
  using namespace cuda;
  GpuList list;
  list.driver = DriverVersion();
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    list.why_none = list.driver.empty()
                        ? "there is no NVIDIA driver"
                        : fmt::format("the NVIDIA driver serves CUDA {}, this build needs {}",
                                      list.driver, VersionText(runtime));
    return list;
  }
  if (status != cudaSuccess || count == 0) {
    list.why_none = status == cudaErrorNoDevice || status == cudaSuccess
                        ? "there is no NVIDIA GPU"
                        : cudaGetErrorString(status);
    return list;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, i), "asking for its properties");
    GpuInfo device;
    device.index = i;
    device.name = properties.name;
    device.capability = 10 * properties.major + properties.minor;
    device.total_bytes = properties.totalGlobalMem;
    device.multiprocessors = properties.multiProcessorCount;
    device.why_not = WhyUnusable(device);
    list.gpus.push_back(std::move(device));
  }
  return list;
}

std::string PromptAttention() {
  const cuda::CudnnState& cudnn = cuda::FindCudnn();
  return cudnn.why_not.empty() ? "cuDNN " + cudnn.version : "our own kernel: " + cudnn.why_not;
}

namespace cuda {

GpuInfo UseDevice(std::string_view text) {
  int index = 0;
  if (text != "cuda") {
    const std::string_view digits = text.substr(text.find(':') + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error != std::errc() || end != digits.data() + digits.size() || index < 0) {
      Throw(ErrorCode::kInvalidArgument, "device '{}': write cuda, or cuda:0, cuda:1, ...", text);
    }
  }
  const GpuList list = ListGpus();
  const std::vector<GpuInfo>& devices = list.gpus;
  if (devices.empty()) {
    Throw(ErrorCode::kUnsupported,
          "device '{}': {}; use --device cpu, or `turboquant doctor` to see what there is", text,
          list.why_none);
  }
  if (index >= static_cast<int>(devices.size())) {
    Throw(ErrorCode::kUnsupported, "device '{}': there are {} GPUs, cuda:0 to cuda:{}", text,
          devices.size(), devices.size() - 1);
  }
  const GpuInfo& device = devices[static_cast<size_t>(index)];
  if (!device.why_not.empty()) {
    Throw(ErrorCode::kUnsupported, "device '{}' ({}): {}", text, device.name, device.why_not);
  }
  Check(cudaSetDevice(index), "choosing the device");
  return device;
}

}  // namespace cuda
}  // namespace tq
