// SPDX-License-Identifier: Apache-2.0
// Prefill: packing of panels and the register-blocked matrix product over them, for any Vec.
// Included inside an ISA's namespace after its Vec.

inline int WidthOfStripe(int cols, int begin) {
  return cols - begin < kPanelWidth ? cols - begin : kPanelWidth;
}

void PackKeys(MatrixView<const float> rows, int padded_dim, float* panel) noexcept {
  const int dims = static_cast<int>(rows.cols);
  constexpr int kBlock = 16;  // tokens and dims of a block: reads and writes whole cache lines
  for (int stripe = 0; stripe < kPageTokens; stripe += kPanelWidth) {
    for (int token = 0; token < kPanelWidth; token += kBlock) {
      for (int d0 = 0; d0 < padded_dim; d0 += kBlock) {
        float block[kBlock][kBlock];
        for (int i = 0; i < kBlock; ++i) {
          const int row = stripe + token + i;
          for (int j = 0; j < kBlock; ++j) {
            block[j][i] = row < rows.rows && d0 + j < dims ? rows.row(row)[d0 + j] : 0.0f;
          }
        }
        for (int j = 0; j < kBlock; ++j) {
          for (int i = 0; i < kBlock; i += Vec::kWidth) {
            Vec::Store(panel + (d0 + j) * kPanelWidth + token + i, Vec::Load(&block[j][i]));
          }
        }
      }
    }
    panel += padded_dim * kPanelWidth;
  }
}

void PackValues(MatrixView<const float> rows, int padded_dim, float* panel) noexcept {
  const int dims = static_cast<int>(rows.cols);
  for (int stripe = 0; stripe < padded_dim; stripe += kPanelWidth) {
    const int width = WidthOfStripe(padded_dim, stripe);
    for (int token = 0; token < kPageTokens; ++token, panel += width) {
      if (token >= rows.rows) {
        for (int d = 0; d < width; d += Vec::kWidth) Vec::Store(panel + d, Vec::Zero());
      } else if (stripe + width <= dims) {
        const float* row = rows.row(token) + stripe;
        for (int d = 0; d < width; d += Vec::kWidth) Vec::Store(panel + d, Vec::Load(row + d));
      } else {
        const float* row = rows.row(token);
        for (int d = 0; d < width; ++d) panel[d] = stripe + d < dims ? row[stripe + d] : 0.0f;
      }
    }
  }
}

// c [M][N vectors] = a [M][depth] * b [depth][N vectors] (+ c * keep).
template <int M, int N>
inline void MultiplyBlock(const float* a, int64_t a_stride, int depth, const float* b, int b_stride,
                          const float* keep, float* c, int64_t c_stride) {
  Vec::F sum[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      sum[m][n] = keep == nullptr
                      ? Vec::Zero()
                      : Vec::Mul(Vec::Load(c + m * c_stride + n * Vec::kWidth), Vec::Set1(keep[m]));
    }
  }
  for (int k = 0; k < depth; ++k) {
    Vec::F y[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) y[n] = Vec::Load(b + k * b_stride + n * Vec::kWidth);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vec::F x = Vec::Set1(a[m * a_stride + k]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[m][n] = Vec::Fma(x, y[n], sum[m][n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) Vec::Store(c + m * c_stride + n * Vec::kWidth, sum[m][n]);
  }
}

template <int N>
inline void MultiplyRows(MatrixView<const float> a, const float* b, int b_stride, const float* keep,
                         MatrixView<float> c, int column) {
  const int rows = static_cast<int>(a.rows);
  const int depth = static_cast<int>(a.cols);
  int m = 0;
  for (; m + Vec::kGemmRows <= rows; m += Vec::kGemmRows) {
    MultiplyBlock<Vec::kGemmRows, N>(a.row(m), a.stride, depth, b, b_stride,
                                     keep == nullptr ? nullptr : keep + m, c.row(m) + column,
                                     c.stride);
  }
  for (; m + 2 <= rows; m += 2) {
    MultiplyBlock<2, N>(a.row(m), a.stride, depth, b, b_stride,
                        keep == nullptr ? nullptr : keep + m, c.row(m) + column, c.stride);
  }
  if (m < rows) {
    MultiplyBlock<1, N>(a.row(m), a.stride, depth, b, b_stride,
                        keep == nullptr ? nullptr : keep + m, c.row(m) + column, c.stride);
  }
}

void Multiply(MatrixView<const float> a, const float* panel, int panel_rows, const float* keep,
              MatrixView<float> c) noexcept {
  constexpr int kStep = Vec::kGemmVectors * Vec::kWidth;
  const int cols = static_cast<int>(c.cols);
  for (int stripe = 0; stripe < cols; stripe += kPanelWidth) {
    const int width = WidthOfStripe(cols, stripe);
    int n = 0;
    for (; n + kStep <= width; n += kStep) {
      MultiplyRows<Vec::kGemmVectors>(a, panel + n, width, keep, c, stripe + n);
    }
    for (; n < width; n += Vec::kWidth) MultiplyRows<1>(a, panel + n, width, keep, c, stripe + n);
    panel += panel_rows * width;
  }
}
