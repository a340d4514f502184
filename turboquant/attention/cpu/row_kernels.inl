// SPDX-License-Identifier: Apache-2.0
// Decode over rows (f32, f16, bf16, q8_0, q4_0), for any Vec: blocks of rows become floats in L1,
// once for all columns. Included inside an ISA's namespace after its Vec.

inline constexpr int kRowBlock = 16;  // rows expanded at a time

inline void ExpandBlocks8(const std::byte* row, int dims, float* out) {
  for (int d = 0; d < dims; d += 32, row += 34) {
    uint16_t bits;
    __builtin_memcpy(&bits, row, 2);
    const Vec::F scale = Vec::Set1(HalfBitsToFloat(bits));
    for (int i = 0; i < 32; i += Vec::kWidth) {
      Vec::Store(out + d + i, Vec::Mul(Vec::LoadInt8(row + 2 + i), scale));
    }
  }
}

inline void ExpandBlocks4(const std::byte* row, int dims, float* out) {
  for (int d = 0; d < dims; d += 32, row += 18) {
    uint16_t bits;
    __builtin_memcpy(&bits, row, 2);
    const Vec::F scale = Vec::Set1(HalfBitsToFloat(bits));
    for (int i = 0; i < 16; i += Vec::kWidth) {
      Vec::Store(out + d + i, Vec::Mul(Vec::LoadNibbles(row + 2 + i, false), scale));
      Vec::Store(out + d + i + 16, Vec::Mul(Vec::LoadNibbles(row + 2 + i, true), scale));
    }
  }
}

// Values of `bytes` bytes each; the tail that does not fill a vector goes through a copy.
template <typename LoadFn>
inline void ExpandPlain(const std::byte* row, int dims, int bytes, float* out, LoadFn load) {
  int d = 0;
  for (; d + Vec::kWidth <= dims; d += Vec::kWidth) Vec::Store(out + d, load(row + d * bytes));
  if (d < dims) {
    std::byte tail[Vec::kWidth * 4] = {};
    __builtin_memcpy(tail, row + d * bytes, static_cast<size_t>((dims - d) * bytes));
    Vec::Store(out + d, load(tail));
    d += Vec::kWidth;
  }
}

// One row to out [padded_dim], zero beyond dims.
inline void ExpandRow(Codec codec, const std::byte* row, int dims, int padded, float* out) {
  for (int d = dims / Vec::kWidth * Vec::kWidth; d < padded; d += Vec::kWidth) {
    Vec::Store(out + d, Vec::Zero());
  }
  switch (codec) {
    case Codec::kF16:
      ExpandPlain(row, dims, 2, out, [](const std::byte* p) { return Vec::LoadHalf(p); });
      break;
    case Codec::kBf16:
      ExpandPlain(row, dims, 2, out, [](const std::byte* p) { return Vec::LoadBf16(p); });
      break;
    case Codec::kQ8_0:
      ExpandBlocks8(row, dims, out);
      break;
    case Codec::kQ4_0:
      ExpandBlocks4(row, dims, out);
      break;
    default:
      ExpandPlain(row, dims, 4, out,
                  [](const std::byte* p) { return Vec::Load(reinterpret_cast<const float*>(p)); });
  }
}

struct FloatRows {
  const float* data;
  int64_t stride;
};

// Rows [first, first + n) as floats, n <= kRowBlock: in place if they are floats already.
inline FloatRows ExpandRows(const PageSide& side, const Columns& columns, int first, int n) {
  const std::byte* rows = side.data + first * side.stride;
  if (side.codec == Codec::kF32 && columns.head_dim == columns.padded_dim) {
    return {reinterpret_cast<const float*>(rows), side.stride / 4};
  }
  auto* out = reinterpret_cast<float*>(columns.scratch);
  for (int i = 0; i < n; ++i) {
    ExpandRow(side.codec, rows + i * side.stride, columns.head_dim, columns.padded_dim,
              out + i * columns.padded_dim);
  }
  return {out, columns.padded_dim};
}

// Scores of R rows against C columns.
template <int R, int C>
inline void DotBlock(const float* rows, int64_t row_stride, const float* q, int padded,
                     float* scores) {
  Vec::F sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = Vec::Zero();
  }
  for (int d = 0; d < padded; d += Vec::kWidth) {
    Vec::F query[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) query[c] = Vec::Load(q + c * padded + d);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec::F x = Vec::Load(rows + r * row_stride + d);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] = Vec::Fma(x, query[c], sum[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) scores[c * kPageTokens + r] = Vec::Sum(sum[r][c]);
  }
}

template <int C>
inline void DotRows(const FloatRows& rows, int n, const Columns& columns, int column, int token) {
  const float* q = columns.q + column * columns.padded_dim;
  float* scores = columns.scores + column * kPageTokens + token;
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    DotBlock<4, C>(rows.data + i * rows.stride, rows.stride, q, columns.padded_dim, scores + i);
  }
  for (; i < n; ++i) {
    DotBlock<1, C>(rows.data + i * rows.stride, rows.stride, q, columns.padded_dim, scores + i);
  }
}

void ScoreRows(const PageSide& k, const Columns& columns, int begin, int end, int first,
               int last) noexcept {
  for (int token = first; token < last; token += kRowBlock) {
    const int n = last - token < kRowBlock ? last - token : kRowBlock;
    const FloatRows rows = ExpandRows(k, columns, token, n);
    int column = begin;
    for (; column + 3 <= end; column += 3) DotRows<3>(rows, n, columns, column, token);
    if (end - column == 2) DotRows<2>(rows, n, columns, column, token);
    if (end - column == 1) DotRows<1>(rows, n, columns, column, token);
  }
}

// o += weights * rows for B vectors of dims and C columns.
template <int B, int C>
inline void MixBlock(const FloatRows& rows, int n, const float* weights, int padded, float* o) {
  Vec::F sum[B][C];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[b][c] = Vec::Load(o + c * padded + b * Vec::kWidth);
  }
  for (int i = 0; i < n; ++i) {
    Vec::F w[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) w[c] = Vec::Set1(weights[c * kPageTokens + i]);
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const Vec::F x = Vec::Load(rows.data + i * rows.stride + b * Vec::kWidth);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[b][c] = Vec::Fma(x, w[c], sum[b][c]);
    }
  }
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) Vec::Store(o + c * padded + b * Vec::kWidth, sum[b][c]);
  }
}

template <int C>
inline void MixColumns(const FloatRows& rows, int n, const Columns& columns, int column,
                       int token) {
  constexpr int kVectors = Vec::kWidth == 8 ? 3 : 4;  // with C = 3: what registers hold
  const float* weights = columns.scores + column * kPageTokens + token;
  const int padded = columns.padded_dim;
  float* o = columns.o + column * padded;
  int d = 0;
  for (; d + kVectors * Vec::kWidth <= padded; d += kVectors * Vec::kWidth) {
    MixBlock<kVectors, C>({rows.data + d, rows.stride}, n, weights, padded, o + d);
  }
  for (; d < padded; d += Vec::kWidth) {
    MixBlock<1, C>({rows.data + d, rows.stride}, n, weights, padded, o + d);
  }
}

void MixRows(const PageSide& v, const Columns& columns, int begin, int end, int first,
             int last) noexcept {
  for (int column = begin; column < end; ++column) {
    float* o = columns.o + column * columns.padded_dim;
    const Vec::F keep = Vec::Set1(columns.keep[column]);
    for (int d = 0; d < columns.padded_dim; d += Vec::kWidth) {
      Vec::Store(o + d, Vec::Mul(Vec::Load(o + d), keep));
    }
  }
  for (int token = first; token < last; token += kRowBlock) {
    const int n = last - token < kRowBlock ? last - token : kRowBlock;
    const FloatRows rows = ExpandRows(v, columns, token, n);
    int column = begin;
    for (; column + 3 <= end; column += 3) MixColumns<3>(rows, n, columns, column, token);
    if (end - column == 2) MixColumns<2>(rows, n, columns, column, token);
    if (end - column == 1) MixColumns<1>(rows, n, columns, column, token);
  }
}
