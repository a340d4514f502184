// SPDX-License-Identifier: Apache-2.0
// What a cache type gives back of vectors, and how long it takes: through the product's own pages,
// as if a cache held them.
#pragma once

#include "turboquant/base/matrix_view.h"
#include "turboquant/codec/codec.h"
#include "turboquant/codec/transform.h"

namespace tq::lab {

struct RoundTripSums {
  int64_t vectors = 0;
  double energy = 0, error = 0;  // sums of squares: of the vectors, of the difference
  double cosine = 0;             // summed over vectors that are not zero ...
  int64_t nonzero = 0;           // ... so many
  double encode_seconds = 0;     // change of basis, 8-bit or row form, sealing
  double decode_seconds = 0;     // and back to the basis given

  double Db() const;      // signal to noise; infinite if nothing is lost
  double Cosine() const;  // mean
  RoundTripSums& operator+=(const RoundTripSums& other);
};

// Scales, and of keys the page's reference vector, included.
double StoredBitsPerValue(Codec codec, Side side, int head_dim);

// One KV head's vectors [n][D] in the model's basis, in order of tokens; `out` [n][D] is what the
// cache would give back. Keys are centred by pages of 128, without a calibrated map; the last page
// is filled up with its own vectors. Throws kUnsupported if the codec does not know that head dim.
RoundTripSums RoundTrip(Codec codec, Side side, MatrixView<const float> in, MatrixView<float> out);

}  // namespace tq::lab
