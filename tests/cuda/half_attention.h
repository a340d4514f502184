// SPDX-License-Identifier: Apache-2.0
// Attention to f16 keys and values by straight loops in double, and what its tests share.
#pragma once

#include <bit>

#include "tests/cuda/device_pair.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/base/half.h"
#include "turboquant/kv/cuda/device_tables.h"

namespace tq::test {

template <typename T>
cuda::DeviceBytes Upload(const std::vector<T>& host) {
  cuda::DeviceBytes memory(host.size() * sizeof(T), "test data");
  cuda::Check(
      cudaMemcpy(memory.as<T>(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
      "copying test data");
  return memory;
}

inline std::vector<uint16_t> ToHalf(const std::vector<float>& x) {
  std::vector<uint16_t> halves;
  for (const float value : x) halves.push_back(FloatToHalf(value));
  return halves;
}

template <typename T>
std::vector<T> Download(const cuda::DeviceBytes& memory, size_t count) {
  std::vector<T> host(count);
  cuda::Check(cudaMemcpy(host.data(), memory.as<T>(), count * sizeof(T), cudaMemcpyDeviceToHost),
              "reading test data");
  return host;
}

inline std::vector<uint32_t> Bits(const std::vector<float>& x) {
  std::vector<uint32_t> bits;
  for (const float value : x) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

inline std::vector<uint16_t> RoundedToBf16(const std::vector<float>& x) {
  std::vector<uint16_t> rounded;
  for (const uint32_t bits : Bits(x))
    rounded.push_back(static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
  return rounded;
}

struct HalfAttention {
  int head_dim, kv_heads, group, tokens;
  int64_t first_position;
  int sliding_window;
  double scale;
};

inline std::vector<float> ToFloats(const std::vector<uint16_t>& halves) {
  std::vector<float> x;
  for (const uint16_t half : halves) x.push_back(HalfToFloat(half));
  return x;
}

// q [tokens][heads][D]; k, v [first_position + tokens][kv_heads][D].
inline std::vector<float> AttendHalves(const std::vector<float>& q,
                                       const std::vector<uint16_t>& k_halves,
                                       const std::vector<uint16_t>& v_halves,
                                       const HalfAttention& shape) {
  const std::vector<float> k = ToFloats(k_halves), v = ToFloats(v_halves);
  const int heads = shape.kv_heads * shape.group, d = shape.head_dim;
  std::vector<float> want(q.size());
  for (int t = 0; t < shape.tokens; ++t) {
    const int64_t position = shape.first_position + t;
    const int64_t first =
        shape.sliding_window > 0 ? std::max<int64_t>(0, position - shape.sliding_window + 1) : 0;
    for (int h = 0; h < heads; ++h) {
      const float* query = q.data() + (int64_t{t} * heads + h) * d;
      const auto row = [&](const std::vector<float>& x, int64_t key) {
        return x.data() + (key * shape.kv_heads + h / shape.group) * d;
      };
      std::vector<double> scores;
      double highest = -1e300, sum = 0;
      for (int64_t key = first; key <= position; ++key) {
        double dot = 0;
        for (int i = 0; i < d; ++i) dot += static_cast<double>(query[i]) * row(k, key)[i];
        scores.push_back(dot * shape.scale);
        highest = std::max(highest, scores.back());
      }
      std::vector<double> out(static_cast<size_t>(d));
      for (size_t j = 0; j < scores.size(); ++j) {
        const double p = std::exp(scores[j] - highest);
        sum += p;
        const float* value = row(v, first + static_cast<int64_t>(j));
        for (int i = 0; i < d; ++i) out[static_cast<size_t>(i)] += p * value[i];
      }
      for (int i = 0; i < d; ++i)
        want[static_cast<size_t>((int64_t{t} * heads + h) * d + i)] =
            static_cast<float>(out[static_cast<size_t>(i)] / sum);
    }
  }
  return want;
}

// Random queries, keys and values of a shape that has HalfAttention's fields, and what comes of
// them.
struct HalfProblem {
  template <class Shape>
  explicit HalfProblem(const Shape& shape)
      : heads(shape.kv_heads * shape.group),
        keys(shape.first_position + shape.tokens),
        scale(1 / std::sqrt(static_cast<double>(shape.head_dim))),
        q(Gaussian(int64_t{shape.tokens} * heads * shape.head_dim, 1, 2)),
        k(ToHalf(Gaussian(keys * shape.kv_heads * shape.head_dim, 2))),
        v(ToHalf(Gaussian(keys * shape.kv_heads * shape.head_dim, 3))),
        want(AttendHalves(q, k, v,
                          {.head_dim = shape.head_dim,
                           .kv_heads = shape.kv_heads,
                           .group = shape.group,
                           .tokens = shape.tokens,
                           .first_position = shape.first_position,
                           .sliding_window = shape.sliding_window,
                           .scale = scale})) {}

  int heads;
  int64_t keys;
  double scale;
  std::vector<float> q;        // [tokens][heads][D]
  std::vector<uint16_t> k, v;  // [keys][kv_heads][D]
  std::vector<float> want;     // [tokens][heads][D]
};

// Keys and values of a problem as pages of f16 rows on the device, the last page first.
class HalfPages {
 public:
  HalfPages(const HalfProblem& problem, int head_dim, int kv_heads)
      : layout_(MakePageLayout(head_dim, kv_heads, Codec::kF16, Codec::kF16)),
        pages_((problem.keys + kPageTokens - 1) / kPageTokens) {
    const int64_t units = (layout_.bytes() + kPageIdUnit - 1) / kPageIdUnit;  // of a page
    const int64_t page_bytes = units * kPageIdUnit;
    std::vector<std::byte> arena(static_cast<size_t>(pages_ * page_bytes), std::byte{0xff});
    std::vector<uint32_t> ids(static_cast<size_t>(pages_));
    const auto block = [&](int64_t page) { return pages_ - 1 - page; };
    for (int64_t page = 0; page < pages_; ++page)
      ids[static_cast<size_t>(page)] = static_cast<uint32_t>(block(page) * units);
    for (int64_t key = 0; key < problem.keys; ++key) {
      for (int h = 0; h < kv_heads; ++h) {
        std::byte* head = arena.data() + block(key / kPageTokens) * page_bytes +
                          static_cast<int64_t>(h) * layout_.head_bytes;
        const int64_t token = key % kPageTokens;
        const auto from = (key * kv_heads + h) * head_dim;
        const auto bytes = static_cast<size_t>(head_dim) * 2;
        std::memcpy(head + layout_.k_rows_offset + token * layout_.k_row_bytes,
                    problem.k.data() + from, bytes);
        std::memcpy(head + layout_.v_rows_offset + token * layout_.v_row_bytes,
                    problem.v.data() + from, bytes);
      }
    }
    arena_ = Upload(arena);
    ids_ = Upload(ids);
  }

  // Ids alone: of one sequence.
  cuda::StepTables Tables() const {
    cuda::StepTables tables;
    tables.open_pages = tables.sealed_pages = ids_.as<uint32_t>();
    tables.page_stride = static_cast<int>(pages_);
    tables.slots = 1;
    return tables;
  }
  cuda::LayerPages Layer(int sliding_window) const {
    cuda::LayerPages layer{arena_.as<std::byte>(), 0, 0, layout_, layout_, {}};
    layer.visibility.sliding_window = sliding_window;
    return layer;
  }

 private:
  PageLayout layout_;
  int64_t pages_;
  cuda::DeviceBytes arena_, ids_;
};

}  // namespace tq::test
