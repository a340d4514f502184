// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "turboquant/ops/linear.h"

namespace tq {

void LinearReference(MatrixView<const float> x, const LinearOut& out) {
  std::vector<float> row(static_cast<size_t>(out.weight->cols()));
  for (int64_t n = 0; n < out.weight->rows(); ++n) {
    out.weight->DecodeRow(n, row.data());
    for (int64_t t = 0; t < x.rows; ++t) {
      double sum = out.bias != nullptr ? static_cast<double>(out.bias[n]) : 0.0;
      for (int64_t k = 0; k < x.cols; ++k) {
        sum += static_cast<double>(row[static_cast<size_t>(k)]) * static_cast<double>(x.row(t)[k]);
      }
      out.out.row(t)[n] = static_cast<float>(sum);
    }
  }
}

}  // namespace tq
