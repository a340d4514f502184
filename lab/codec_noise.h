// SPDX-License-Identifier: Apache-2.0
// How much noise a codec adds, measured by encoding: pages are bit-exact, so it is the same number
// on every machine, and no table has to be kept beside the list of codecs.
#pragma once

#include "turboquant/codec/codec.h"

namespace tq::lab {

// Energy of the error over that of the values, of Gaussian head vectors through an open and a
// sealed page. Throws kUnsupported for a head dim that the codec cannot hold.
// `seed` of the vectors.
double CodecNoise(Codec codec, int head_dim, uint64_t seed = 1);

// The same in dB, positive: 14.6 for 3-bit scalar codes.
double CodecDb(Codec codec, int head_dim, uint64_t seed = 1);

}  // namespace tq::lab
