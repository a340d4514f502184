// SPDX-License-Identifier: Apache-2.0
// The little linear algebra that calibration needs; linear_algebra.cc is the only file that knows
// the library (Eigen). Square matrices are row-major [D][D].
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "turboquant/base/matrix_view.h"

namespace tq {

// moment += sum over rows of (x - mean)^T (x - mean); mean [D] or null.
void AddMoment(MatrixView<const float> x, const float* mean, std::span<double> moment);

// out = a b^T and out = a b.
void MultiplyTransposed(MatrixView<const float> a, MatrixView<const float> b,
                        MatrixView<float> out);
void Multiply(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> out);

// A with A K A^T = A^-T Q A^-1, both diagonal: of all linear maps the one for which white noise on
// A k does the least harm to scores, for second moments K of keys and Q of queries. Both are shrunk
// first: `shrinkage` of their mean eigenvalue is added to the diagonal.
struct BalancedMap {
  std::vector<float> forward;            // A
  std::vector<float> inverse_transpose;  // A^-T
};
// None if a moment is zero or not finite.
std::optional<BalancedMap> SolveBalancedMap(std::span<const double> keys,
                                            std::span<const double> queries, int head_dim,
                                            double shrinkage);

// tr(A M A^T): the energy of vectors of moment M after A. `a` empty: identity.
double EnergyAfter(std::span<const float> a, std::span<const double> moment, int head_dim);

}  // namespace tq
