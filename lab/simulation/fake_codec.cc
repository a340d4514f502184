// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/fake_codec.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "lab/simulation/query_subspace.h"
#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/error.h"
#include "turboquant/codec/page_codec.h"

namespace tq::lab {
namespace {

constexpr int kMostDims = 512;

// x <- M x for each row; m [D][D] row-major.
void MultiplyRows(MatrixView<float> rows, const float* m) {
  const int64_t dims = rows.cols;
  std::array<float, kMostDims> out;
  for (int64_t r = 0; r < rows.rows; ++r) {
    float* x = rows.row(r);
    for (int64_t i = 0; i < dims; ++i) {
      float sum = 0;
      for (int64_t j = 0; j < dims; ++j) sum += m[i * dims + j] * x[j];
      out[static_cast<size_t>(i)] = sum;
    }
    std::copy_n(out.begin(), dims, x);
  }
}

void AddToRows(MatrixView<float> rows, const float* reference, float sign) {
  for (int64_t r = 0; r < rows.rows; ++r) {
    for (int64_t d = 0; d < rows.cols; ++d) rows.row(r)[d] += sign * reference[d];
  }
}

void ScaleRows(MatrixView<float> rows, const float* scales, bool back) {
  for (int64_t r = 0; r < rows.rows; ++r) {
    for (int64_t d = 0; d < rows.cols; ++d)
      rows.row(r)[d] = back ? rows.row(r)[d] / scales[d] : rows.row(r)[d] * scales[d];
  }
}

void SubtractOwnMeans(MatrixView<float> rows) {
  for (int64_t r = 0; r < rows.rows; ++r) {
    float* x = rows.row(r);
    const float mean = std::accumulate(x, x + rows.cols, 0.0f) / static_cast<float>(rows.cols);
    for (int64_t d = 0; d < rows.cols; ++d) x[d] -= mean;
  }
}

// One head's page in tiles or rows, values' side: keys would be centred when they are sealed.
void ThroughPages(const PageLayout& open, const PageLayout& sealed, MatrixView<float> rows) {
  const PageCodec& codec = GetPageCodec();
  thread_local AlignedBuffer<std::byte> open_bytes, sealed_bytes;
  open_bytes.EnsureSize(open.head_bytes);
  sealed_bytes.EnsureSize(sealed.head_bytes);
  codec.EncodeValues(open, open_bytes.data(), 0, rows);
  if (open.v == sealed.v) {
    codec.DecodeValues(open, open_bytes.data(), 0, rows);
    return;
  }
  // Sealing takes whole pages: what is missing repeats what is there.
  for (int64_t at = rows.rows; at < kPageTokens; at += rows.rows) {
    const int64_t n = std::min(rows.rows, kPageTokens - at);
    codec.EncodeValues(open, open_bytes.data(), static_cast<int>(at),
                       {rows.data, n, rows.cols, rows.stride});
  }
  codec.SealValues(open, open_bytes.data(), sealed, sealed_bytes.data(), {});
  codec.DecodeValues(sealed, sealed_bytes.data(), 0, rows);
}

}  // namespace

FakeCodec FakeCodecOf(Codec codec, int head_dim) {
  // A narrow partner for the side that is not used.
  const bool tiles = InfoOf(codec).tiles;
  const PageLayout open = MakePageLayout(head_dim, 1, Codec::kF16, tiles ? Codec::kTurbo8 : codec);
  const PageLayout sealed = MakePageLayout(head_dim, 1, Codec::kF16, codec);
  return [open, sealed](MatrixView<float> rows) { ThroughPages(open, sealed, rows); };
}

FakeCodec WithCorrection(FakeCodec codec, FakeCorrection correct) {
  return [codec = std::move(codec), correct = std::move(correct)](MatrixView<float> rows) {
    const auto dims = static_cast<size_t>(rows.cols);
    std::vector<float> exact;
    for (int64_t r = 0; r < rows.rows; ++r)
      exact.insert(exact.end(), rows.row(r), rows.row(r) + rows.cols);
    codec(rows);
    for (int64_t r = 0; r < rows.rows; ++r)
      correct({exact.data() + static_cast<size_t>(r) * dims, dims}, rows.row(r));
  };
}

namespace {

const KeyMap* MapOf(const FakeSide& side, int head) {
  return side.maps != nullptr && side.maps[head].keys != nullptr ? side.maps + head : nullptr;
}

}  // namespace

void TurnQueries(const FakeSide& side, int head, MatrixView<float> rows) {
  const auto dims = static_cast<int>(rows.cols);
  const KeyMap* map = MapOf(side, head);
  if (map != nullptr) MapRows(map->queries, rows.data, rows.rows, rows.stride, dims);
  if (side.rotate && map == nullptr)
    RotateRows(rows.data, rows.rows, rows.stride, dims, Side::kKey);
  if (!side.rotate && map != nullptr)
    RotateBackRows(rows.data, rows.rows, rows.stride, dims, Side::kKey);
}

std::vector<float> CalibratedMean(const FakeSide& side, int head, int64_t dims) {
  if (side.maps == nullptr || side.maps[head].mean == nullptr) return {};
  std::vector<float> mean(side.maps[head].mean, side.maps[head].mean + dims);
  const KeyMap* map = MapOf(side, head);
  if (map != nullptr) MultiplyRows({mean.data(), 1, dims}, map->queries);
  if (map == nullptr) RotateBackRows(mean.data(), 1, dims, static_cast<int>(dims), Side::kKey);
  return mean;
}

void ApplyFakeSide(const FakeSide& side, Side which, int head, const FakeStatistics& statistics,
                   MatrixView<float> rows) {
  if (!side.codec) return;
  const auto dims = static_cast<int>(rows.cols);
  TQ_CHECK(dims <= kMostDims && rows.rows <= kPageTokens);
  const KeyMap* map = MapOf(side, head);
  const auto rotate = [&] { RotateRows(rows.data, rows.rows, rows.stride, dims, which); };
  const auto rotate_back = [&] { RotateBackRows(rows.data, rows.rows, rows.stride, dims, which); };

  if (statistics.reference != nullptr) AddToRows(rows, statistics.reference, -1);
  if (statistics.scales != nullptr) ScaleRows(rows, statistics.scales, false);
  if (side.vector_mean) SubtractOwnMeans(rows);
  // A map's matrix H A is the map itself and the rotation, which is undone if it is not wanted.
  if (map != nullptr) MapRows(map->keys, rows.data, rows.rows, rows.stride, dims);
  if (side.rotate && map == nullptr) rotate();
  if (!side.rotate && map != nullptr) rotate_back();
  if (statistics.subspace != nullptr) {
    statistics.subspace->Code(side.codec, side.subspace_bits, rows);
  } else {
    side.codec(rows);
  }
  if (!side.rotate && map != nullptr) rotate();
  if (side.rotate && map == nullptr) rotate_back();
  if (map != nullptr) MultiplyRows(rows, map->queries);  // (H A^-T)^T is (H A)^-1
  if (statistics.scales != nullptr) ScaleRows(rows, statistics.scales, true);
  if (statistics.reference != nullptr) AddToRows(rows, statistics.reference, 1);
}

}  // namespace tq::lab
