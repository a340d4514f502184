// SPDX-License-Identifier: Apache-2.0
#include "lab/codec_round_trip.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "turboquant/base/aligned_buffer.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/kv/policy.h"

namespace tq::lab {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The pages of one head's side; the other side has no part in it.
class HeadPages {
 public:
  HeadPages(Codec codec, Side side, int head_dim)
      : side_(side),
        tiles_(InfoOf(codec).tiles),
        sealed_(Layout(codec, side, head_dim)),  // first: it is the codec that is refused
        open_(Layout(OpenCodec(codec), side, head_dim)),
        seals_(OpenCodec(codec) != codec),
        open_bytes_(open_.head_bytes),
        sealed_bytes_(sealed_.head_bytes),
        reference_(static_cast<size_t>(head_dim), 0.0f) {
    std::ranges::fill(open_bytes_.span(), std::byte{0});
    std::ranges::fill(sealed_bytes_.span(), std::byte{0});
  }

  // Rows [128][D], in place; the first `wanted` of them come back.
  void Pass(MatrixView<float> rows, int64_t wanted, RoundTripSums& sums) {
    const auto dim = static_cast<int>(rows.cols);
    Clock::time_point start = Clock::now();
    if (tiles_) RotateRows(rows.data, rows.rows, rows.stride, dim, side_);
    Store(rows);
    sums.encode_seconds +=
        SecondsSince(start) * static_cast<double>(wanted) / static_cast<double>(rows.rows);
    start = Clock::now();
    Load({rows.data, wanted, rows.cols, rows.stride});
    if (tiles_) RotateBackRows(rows.data, wanted, rows.stride, dim, side_);
    sums.decode_seconds += SecondsSince(start);
  }

 private:
  static PageLayout Layout(Codec codec, Side side, int head_dim) {
    const Codec other = Codec::kF16;
    return side == Side::kKey ? MakePageLayout(head_dim, 1, codec, other)
                              : MakePageLayout(head_dim, 1, other, codec);
  }
  bool Keys() const { return side_ == Side::kKey; }

  void Store(MatrixView<const float> rows) {
    if (Keys()) {
      codec_.SetReference(open_, open_bytes_.data(), reference_.data());
      codec_.EncodeKeys(open_, open_bytes_.data(), 0, rows);
      if (tiles_) codec_.MeanKey(open_, open_bytes_.data(), reference_.data());
    } else {
      codec_.EncodeValues(open_, open_bytes_.data(), 0, rows);
    }
    if (!seals_) return;
    (Keys() ? codec_.SealKeys : codec_.SealValues)(open_, open_bytes_.data(), sealed_,
                                                   sealed_bytes_.data(), {});
  }
  void Load(MatrixView<float> rows) const {
    const std::byte* bytes = seals_ ? sealed_bytes_.data() : open_bytes_.data();
    (Keys() ? codec_.DecodeKeys : codec_.DecodeValues)(seals_ ? sealed_ : open_, bytes, 0, rows);
  }

  const PageCodec& codec_ = GetPageCodec();
  const Side side_;
  const bool tiles_;
  const PageLayout sealed_, open_;
  const bool seals_;
  AlignedBuffer<std::byte> open_bytes_, sealed_bytes_;
  std::vector<float> reference_;  // of the page that is next, stored basis
};

void Compare(MatrixView<const float> in, MatrixView<const float> out, RoundTripSums& sums) {
  for (int64_t r = 0; r < in.rows; ++r) {
    double xx = 0, yy = 0, xy = 0, error = 0;
    for (int64_t d = 0; d < in.cols; ++d) {
      const double x = in.row(r)[d], y = out.row(r)[d];
      xx += x * x, yy += y * y, xy += x * y, error += (x - y) * (x - y);
    }
    sums.energy += xx;
    sums.error += error;
    ++sums.vectors;
    if (xx == 0) continue;
    sums.cosine += yy > 0 ? xy / std::sqrt(xx * yy) : 0;
    ++sums.nonzero;
  }
}

}  // namespace

double RoundTripSums::Db() const { return error > 0 ? 10 * std::log10(energy / error) : INFINITY; }
double RoundTripSums::Cosine() const {
  return nonzero > 0 ? cosine / static_cast<double>(nonzero) : 1.0;
}
RoundTripSums& RoundTripSums::operator+=(const RoundTripSums& other) {
  vectors += other.vectors;
  energy += other.energy;
  error += other.error;
  cosine += other.cosine;
  nonzero += other.nonzero;
  encode_seconds += other.encode_seconds;
  decode_seconds += other.decode_seconds;
  return *this;
}

double StoredBitsPerValue(Codec codec, Side side, int head_dim) {
  const bool reference = side == Side::kKey && InfoOf(codec).tiles;  // f16, one a page
  return BitsPerValue(codec, head_dim) + (reference ? 16.0 / kPageTokens : 0.0);
}

RoundTripSums RoundTrip(Codec codec, Side side, MatrixView<const float> in, MatrixView<float> out) {
  const auto dim = static_cast<int>(in.cols);
  std::vector<float> rows(static_cast<size_t>(kPageTokens) * in.cols);
  const MatrixView<float> page(rows.data(), kPageTokens, in.cols);
  const auto load = [&](int64_t begin) {  // gives how many vectors of it are to come back
    const int64_t count = std::min<int64_t>(kPageTokens, in.rows - begin);
    for (int64_t r = 0; r < kPageTokens; ++r)
      std::copy_n(in.row(begin + r % count), in.cols, page.row(r));
    return count;
  };
  if (in.rows > 0) {  // tables that are made at their first use belong to no vector
    RoundTripSums unmeasured;
    HeadPages(codec, side, dim).Pass(page, load(0), unmeasured);
  }
  HeadPages pages(codec, side, dim);
  RoundTripSums sums;
  for (int64_t begin = 0; begin < in.rows; begin += kPageTokens) {
    const int64_t count = load(begin);
    pages.Pass(page, count, sums);
    for (int64_t r = 0; r < count; ++r) std::copy_n(page.row(r), in.cols, out.row(begin + r));
  }
  Compare(in, out, sums);
  return sums;
}

}  // namespace tq::lab
