// SPDX-License-Identifier: Apache-2.0
// The body of MapRows in vectors of kWidth floats; included by one file per instruction set inside
// its namespace. Up to three rows share what is read of the matrix: the query heads of one KV head,
// or the tokens of a prompt.

// Columns [column, column + kColumns * kWidth) of kRows rows.
template <int kRows, int kColumns>
static inline void MapBlock(const float* matrix, const float* x, int64_t stride, int head_dim,
                            int column, float (*out)[512]) {
  Vector sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) sums[r][c] = Broadcast(0.0f);
  }
  const float* m = matrix + column;
  for (int j = 0; j < head_dim; ++j, m += head_dim) {
    for (int r = 0; r < kRows; ++r) {
      const Vector factor = Broadcast(x[r * stride + j]);
      for (int c = 0; c < kColumns; ++c)
        sums[r][c] = MulAdd(factor, Load(m + c * kWidth), sums[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) Store(out[r] + column + c * kWidth, sums[r][c]);
  }
}

template <int kRows>
static inline void MapSome(const float* matrix, float* x, int64_t stride, int head_dim) {
  float out[kRows][512];
  int column = 0;
  for (; column + 4 * kWidth <= head_dim; column += 4 * kWidth)
    MapBlock<kRows, 4>(matrix, x, stride, head_dim, column, out);
  for (; column < head_dim; column += kWidth)
    MapBlock<kRows, 1>(matrix, x, stride, head_dim, column, out);
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < head_dim; i += kWidth) Store(x + r * stride + i, Load(out[r] + i));
  }
}

void MapRows(const float* matrix, float* x, int64_t count, int64_t stride, int head_dim) noexcept {
  for (; count >= 3; count -= 3, x += 3 * stride) MapSome<3>(matrix, x, stride, head_dim);
  if (count == 2) MapSome<2>(matrix, x, stride, head_dim);
  if (count == 1) MapSome<1>(matrix, x, stride, head_dim);
}
