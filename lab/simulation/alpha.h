// SPDX-License-Identifier: Apache-2.0
// Values a little longer than they were. A codeword of the same length as its vector x lies at an
// angle to it, so that <x, y> = cos |x|^2: sums over many values shrink by that cosine, which a
// factor of 1 / cos undoes. Forks of llama.cpp multiply by a constant or by a function of context.
#pragma once

#include <cstdint>

#include "lab/simulation/fake_codec.h"

namespace tq::lab {

// The factor in the stored scale: codes are those of x, what is read is alpha times longer. But for
// the rounding of the scale to f16 it is the same as a factor at reading.
FakeCodec WithEncodeAlpha(FakeCodec codec, double alpha);

// spiritbuun/buun-llama-cpp, at reading, fitted to KL divergences of one model:
//   3 bits: 1.1484 - 0.01443 ln n within [0.98, 1.06]; 2 bits: 0.8865 + 0.0195 ln n within
//   [1, 1.12]
float ContextAlpha(int bits, int64_t tokens);

}  // namespace tq::lab
