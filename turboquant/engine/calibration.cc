// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/calibration.h"

#include <algorithm>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"

namespace tq {
namespace {

// Row j of `out` is H A e_j: the columns of A, rotated.
void RotatedTranspose(const std::vector<float>& a, int head_dim, float* out) {
  for (int i = 0; i < head_dim; ++i) {
    for (int j = 0; j < head_dim; ++j)
      out[j * head_dim + i] = a[static_cast<size_t>(i * head_dim + j)];
  }
  RotateRows(out, head_dim, head_dim, head_dim, Side::kKey);
}

}  // namespace

bool HeadCalibration::Uses(Codec codec) const {
  const CodecInfo& info = InfoOf(codec);
  const auto* found = std::ranges::find(kCalibratedBits, info.bits);
  return info.tiles && found != kCalibratedBits.end() &&
         Gains(static_cast<size_t>(found - kCalibratedBits.begin()));
}

void HeadCalibration::WriteMatrices(float* out) const {
  const auto dim = static_cast<int>(mean.size());
  RotatedTranspose(forward, dim, out);
  RotatedTranspose(inverse_transpose, dim, out + forward.size());
}

bool UsesCalibration(const CachePolicy& policy) {
  return std::ranges::any_of(policy.k, [](Codec codec) { return InfoOf(codec).tiles; });
}

void CheckCalibrationBelongs(const Calibration& calibration, uint64_t model_id,
                             const KvGeometry& geometry) {
  if (calibration.model_id == model_id && calibration.num_layers == geometry.num_layers &&
      calibration.kv_heads == geometry.kv_heads && calibration.head_dim == geometry.head_dim) {
    return;
  }
  Throw(
      ErrorCode::kInvalidArgument,
      "the calibration was made for another model: {} ({} layers, {} KV heads of dim {}), but this "
      "one is {} ({} layers, {} KV heads of dim {})",
      HexString(calibration.model_id), calibration.num_layers, calibration.kv_heads,
      calibration.head_dim, HexString(model_id), geometry.num_layers, geometry.kv_heads,
      geometry.head_dim);
}

KeyMapSet::KeyMapSet(const Calibration& calibration, std::span<const Codec> codecs)
    : maps_(calibration.heads.size()) {
  const int dim = calibration.head_dim;
  const size_t square = static_cast<size_t>(dim) * dim;
  const auto codec_of = [&](size_t head) {
    return codecs[head / static_cast<size_t>(calibration.kv_heads)];
  };
  size_t floats = 0;
  for (size_t h = 0; h < maps_.size(); ++h) {
    if (InfoOf(codec_of(h)).tiles)
      floats += dim + (calibration.heads[h].Uses(codec_of(h)) ? 2 * square : 0);
  }
  floats_ = AlignedBuffer<float>(floats);
  float* next = floats_.data();
  for (size_t h = 0; h < maps_.size(); ++h) {
    if (!InfoOf(codec_of(h)).tiles) continue;
    const HeadCalibration& head = calibration.heads[h];
    float* mean = next;
    next += dim;
    std::copy(head.mean.begin(), head.mean.end(), mean);
    maps_[h].mean = mean;
    if (head.Uses(codec_of(h))) {
      head.WriteMatrices(next);
      maps_[h].keys = next;
      maps_[h].queries = next + square;
      next += 2 * square;
      MapRows(maps_[h].keys, mean, 1, dim, dim);
    } else {
      Rotate({mean, static_cast<size_t>(dim)}, Side::kKey);
    }
  }
}

}  // namespace tq
