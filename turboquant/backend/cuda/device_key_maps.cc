// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/device_key_maps.h"

#include <algorithm>
#include <vector>

namespace tq::cuda {
namespace {

// A head without a map has the rotation as its matrix.
void PutMatrix(const float* matrix, int dim, float* out) {
  if (matrix != nullptr) {
    std::copy_n(matrix, int64_t{dim} * dim, out);
    return;
  }
  for (int i = 0; i < dim; ++i) out[int64_t{i} * dim + i] = 1.0f;
  RotateRows(out, dim, dim, dim, Side::kKey);
}

}  // namespace

const DeviceKeyMaps::Layer& DeviceKeyMaps::Of(const KeyMap* maps, int kv_heads, int head_dim) {
  const auto known = std::ranges::find(entries_, maps, &Entry::maps);
  if (known != entries_.end()) return known->layer;
  const int64_t dim = head_dim, matrices = kv_heads * dim * dim;
  std::vector<float> host(static_cast<size_t>(2 * matrices + kv_heads * dim), 0.0f);
  bool any_mean = false;
  for (int64_t head = 0; head < kv_heads; ++head) {
    PutMatrix(maps[head].keys, head_dim, host.data() + head * dim * dim);
    PutMatrix(maps[head].queries, head_dim, host.data() + matrices + head * dim * dim);
    if (maps[head].mean == nullptr) continue;
    any_mean = true;
    std::copy_n(maps[head].mean, dim, host.data() + 2 * matrices + head * dim);
  }
  Entry& entry = entries_.emplace_back();
  entry.maps = maps;
  entry.memory = DeviceBytes(host.size() * sizeof(float), "calibrated key maps");
  auto* device = entry.memory.as<float>();
  CopyToDevice(device, host.data(), host.size() * sizeof(float), "copying calibrated key maps");
  entry.layer = {device, device + matrices, any_mean ? device + 2 * matrices : nullptr};
  return entry.layer;
}

}  // namespace tq::cuda
