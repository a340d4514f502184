// SPDX-License-Identifier: Apache-2.0
#include "lab/row_math.h"

namespace tq::lab {

namespace scalar {
extern const RowMath kRowMath;
}
namespace avx2 {
extern const RowMath kRowMath;
}
namespace avx512 {
extern const RowMath kRowMath;
}

const RowMath& GetRowMath(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return scalar::kRowMath;
    case Isa::kAvx2:
      return avx2::kRowMath;
    case Isa::kAvx512:
      return avx512::kRowMath;
  }
  return scalar::kRowMath;
}

}  // namespace tq::lab
