// SPDX-License-Identifier: Apache-2.0
// QJL (Zandieh, Daliri, Han, arXiv 2406.03482) on the residual e = k - y of a codeword y: stored
// are sign(S e), S [D][D] of independent standard Gaussians, and |e| in f16. A query takes
//   <q, k> ~ <q, y> + sqrt(pi / 2) / D |e| <S q, sign(S e)>,
// on average over S exactly. That is linear in q: it is the product of q with
//   y + sqrt(pi / 2) / D |e| S^T sign(S e),
// which is what the codec made here gives back.
#pragma once

#include "lab/simulation/fake_codec.h"

namespace tq::lab {

FakeCodec WithSignResidual(FakeCodec codec, int head_dim);

}  // namespace tq::lab
