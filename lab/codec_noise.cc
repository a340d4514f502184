// SPDX-License-Identifier: Apache-2.0
#include "lab/codec_noise.h"

#include <cmath>
#include <vector>

#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/kv/policy.h"

namespace tq::lab {

double CodecNoise(Codec codec, int head_dim, uint64_t seed) {
  constexpr int kPages = 4;
  const PageLayout open = MakePageLayout(head_dim, 1, OpenCodec(codec), OpenCodec(codec));
  const PageLayout sealed = MakePageLayout(head_dim, 1, codec, codec);
  const PageCodec& pages = GetPageCodec();
  AlignedBuffer<std::byte> open_head(open.head_bytes), sealed_head(sealed.head_bytes);
  std::vector<float> values(static_cast<size_t>(kPageTokens * head_dim)), decoded(values.size());
  Random random(seed);
  double error = 0, energy = 0;
  for (int page = 0; page < kPages; ++page) {
    for (float& x : values) x = static_cast<float>(random.Gaussian());
    pages.EncodeValues(open, open_head.data(), 0, {values.data(), kPageTokens, head_dim});
    pages.SealValues(open, open_head.data(), sealed, sealed_head.data(), {});
    pages.DecodeValues(sealed, sealed_head.data(), 0, {decoded.data(), kPageTokens, head_dim});
    for (size_t i = 0; i < values.size(); ++i) {
      error += (double{values[i]} - decoded[i]) * (double{values[i]} - decoded[i]);
      energy += double{values[i]} * values[i];
    }
  }
  return error / energy;
}

double CodecDb(Codec codec, int head_dim, uint64_t seed) {
  return -10 * std::log10(CodecNoise(codec, head_dim, seed));
}

}  // namespace tq::lab
