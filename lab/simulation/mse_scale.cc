// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/mse_scale.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace tq::lab {

FakeCodec WithMseScale(FakeCodec codec) {
  return [codec = std::move(codec)](MatrixView<float> rows) {
    std::vector<float> exact(static_cast<size_t>(rows.rows * rows.cols));
    for (int64_t r = 0; r < rows.rows; ++r)
      std::copy_n(rows.row(r), rows.cols, exact.data() + r * rows.cols);
    codec(rows);
    for (int64_t r = 0; r < rows.rows; ++r) {
      float* y = rows.row(r);
      const double product = std::inner_product(y, y + rows.cols, &exact[r * rows.cols], 0.0);
      const double square = std::inner_product(y, y + rows.cols, y, 0.0);
      const auto factor = static_cast<float>(square > 0 ? product / square : 0);
      for (int64_t d = 0; d < rows.cols; ++d) y[d] *= factor;
    }
  };
}

}  // namespace tq::lab
