// SPDX-License-Identifier: Apache-2.0
// Fake quantisation: what a cache would give back for some vectors, in float32. Any idea is a
// function from rows to rows.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "turboquant/base/matrix_view.h"
#include "turboquant/codec/codec.h"
#include "turboquant/codec/transform.h"

namespace tq::lab {

// Head vectors [n][D] of one KV head, in place; n <= 128. Called from several threads at once.
using FakeCodec = std::function<void(MatrixView<float> rows)>;

// A codec of the product, through its own pages: tiles pass through 8 bits first, as everything in
// the cache does. Whole vectors only: no rotation, no reference. Tiles want a head dim of
// kHeadDims.
FakeCodec FakeCodecOf(Codec codec, int head_dim);

// The codec with correct(x, y) behind it for every vector x [D] that it gives back as y [D].
using FakeCorrection = std::function<void(std::span<const float> x, float* y)>;
FakeCodec WithCorrection(FakeCodec codec, FakeCorrection correct);

enum class FakeCentring {
  kNone,
  kPage,      // the mean of the page's own vectors
  kPrevious,  // the mean of the page before (of the first: the calibrated one, or 0): an open
              // page's
  kFirst,     // one frozen mean for all: of the first page, without its first 4 tokens
};

// How one side (keys or values) of a layer is stored.
struct FakeSide {
  FakeCodec codec;      // null: exact
  bool rotate = false;  // signs and Hadamard transform round the codec
  FakeCentring centring = FakeCentring::kNone;
  const KeyMap* maps = nullptr;  // [G] or null: calibrated maps, which rotate too
  bool channel_scale = false;    // as channel_statistics.h has it
  bool vector_mean = false;      // each vector loses its mean, which is stored nowhere
  // Keys of a scalar codebook of so many bits: codes are chosen as query_subspace.h has it, for a
  // subspace of that rank. 0: each is the nearest.
  int subspace_bits = 0, subspace_rank = 0;
};

class QuerySubspace;

// What a page knows of a head's vectors; null: nothing of the kind.
struct FakeStatistics {
  const float* reference = nullptr;  // [D], subtracted before and added afterwards
  const float* scales = nullptr;     // [D], multiplied before and divided by afterwards
  const QuerySubspace* subspace = nullptr;
};

// Queries [n][D] of a head as they meet its codes, in place: the counterpart of what ApplyFakeSide
// does to keys before it codes them. Channel scales are not known here.
void TurnQueries(const FakeSide& side, int head, MatrixView<float> rows);

// The calibrated mean [dims] of a head's keys, in the model's basis; empty: there is none.
std::vector<float> CalibratedMean(const FakeSide& side, int head, int64_t dims);

// Stores and reads back the vectors of one head: rows <- fake(rows).
void ApplyFakeSide(const FakeSide& side, Side which, int head, const FakeStatistics& statistics,
                   MatrixView<float> rows);

}  // namespace tq::lab
