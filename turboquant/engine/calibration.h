// SPDX-License-Identifier: Apache-2.0
// What is known of a model's keys and queries: per KV head a linear map that makes compressed keys
// cost less, whether it does, and the mean key with which page 0 opens. Immutable, shared.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/base/aligned_buffer.h"
#include "turboquant/codec/transform.h"
#include "turboquant/kv/kv_cache.h"

namespace tq {

// Widths of sealed key codes for which it was measured whether a head gains.
inline constexpr std::array kCalibratedBits = {2, 3, 4};
// A head uses its map if it takes at least this part of the attention output's error away, and that
// many dB off the error of scores. The second rule is there because the first alone is judged on a
// few hundred tokens. 3 dB where 1 dB is now left Gemma's 3-bit divergence at .0071 instead of
// .0062 (8K tokens of WikiText); maps were fitted to the text's own positions alone when 1 dB did
// harm.
inline constexpr float kLeastGain = 0.1f;
inline constexpr float kLeastScoreGain = 1.0f;

struct HeadCalibration {
  std::vector<float> mean;               // [D] of page 0's keys, the model's basis
  std::vector<float> forward;            // A [D][D] row-major; empty: no width gains enough
  std::vector<float> inverse_transpose;  // A^-T, likewise
  // Energy of score errors without the map over that with it if both moments are known, dB.
  float score_gain_db = 0;
  // Energy of the attention output's error with the map over that without, per kCalibratedBits.
  std::array<float, kCalibratedBits.size()> error_ratio = {};

  // Is the map worth its cost at kCalibratedBits[width]?
  bool Gains(size_t width) const {
    return !forward.empty() && score_gain_db >= kLeastScoreGain &&
           error_ratio[width] <= 1 - kLeastGain;
  }
  // Does a cache with keys of this codec use the map?
  bool Uses(Codec codec) const;
  // The two matrices of a KeyMap, one after the other, from A and A^-T. out [2][D][D].
  void WriteMatrices(float* out) const;
};

struct Calibration {
  uint64_t id = 0;  // hash of all that follows (calibration_file.h)
  uint64_t model_id = 0;
  uint64_t text_hash = 0;
  int tokens = 0;
  int num_layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  std::vector<HeadCalibration> heads;  // [L, G]

  const HeadCalibration& head(int layer, int kv_head) const {
    return heads[static_cast<size_t>(layer * kv_heads + kv_head)];
  }
};

// Does any layer keep keys in a form that calibration concerns?
bool UsesCalibration(const CachePolicy& policy);

// Throws kInvalidArgument if the calibration was made for another model.
void CheckCalibrationBelongs(const Calibration& calibration, uint64_t model_id,
                             const KvGeometry& geometry);

// The matrices that a backend reads, for keys [L] that come to be held in `codecs`.
class KeyMapSet {
 public:
  KeyMapSet(const Calibration& calibration, std::span<const Codec> codecs);
  std::span<const KeyMap> maps() const { return maps_; }  // [L, G]

 private:
  AlignedBuffer<float> floats_;
  std::vector<KeyMap> maps_;
};

}  // namespace tq
