// SPDX-License-Identifier: Apache-2.0
// The scale of least squared error: of all multiples of a codeword y, <x, y> / <y, y> y is nearest
// to x. It is shorter than x by the cosine between them, so scores shrink.
#pragma once

#include "lab/simulation/fake_codec.h"

namespace tq::lab {

// The scale stays in f32.
FakeCodec WithMseScale(FakeCodec codec);

}  // namespace tq::lab
