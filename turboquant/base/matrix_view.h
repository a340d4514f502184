// SPDX-License-Identifier: Apache-2.0
// A row-major matrix that somebody else owns. Plain data; memory belongs to the backend that made
// it.
#pragma once

#include <cstdint>

namespace tq {

template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements from one row to the next, >= cols

  MatrixView() = default;
  MatrixView(T* data, int64_t rows, int64_t cols)
      : data(data), rows(rows), cols(cols), stride(cols) {}
  MatrixView(T* data, int64_t rows, int64_t cols, int64_t stride)
      : data(data), rows(rows), cols(cols), stride(stride) {}
  T* row(int64_t r) const { return data + r * stride; }
  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }
};

}  // namespace tq
