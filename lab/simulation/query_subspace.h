// SPDX-License-Identifier: Apache-2.0
// Query-subspace correction, after SQuat (Wang et al., arXiv 2503.24358): a key's error harms only
// as far as queries see it, and most of what they are lies in a few directions. Codes are chosen
// one after the other; each takes up the errors of those before it, so that the error that is left
// lies across those directions, as far as that pays. Nothing more is stored.
#pragma once

#include <span>
#include <vector>

#include "lab/simulation/fake_codec.h"

namespace tq::lab {

class QuerySubspace {
 public:
  // moment [D][D]: second moment of queries in the basis of the codes. The subspace is that of the
  // `rank` dimensions that hold most of it; an error in it counts as much more as queries are
  // larger in it than elsewhere, per dimension.
  QuerySubspace(std::span<const double> moment, int dims, int rank);

  // Stores rows [n][D] with codes of so many bits and reads them back through `codec`, whose codes
  // those are. Norms are kept, as the codec itself would.
  void Code(const FakeCodec& codec, int bits, MatrixView<float> rows) const;

  // e^T H e / D: what the error e [D] harms, with the plain square where queries have no subspace.
  double Harm(std::span<const float> error) const;

 private:
  int dims_;
  double weight_ = 0;               // of the subspace, over 1
  std::vector<double> directions_;  // [rank][D], orthonormal
  std::vector<float> feedback_;     // [D][D], row i: of the error of code i on those behind it
};

}  // namespace tq::lab
