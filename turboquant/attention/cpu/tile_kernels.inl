// SPDX-License-Identifier: Apache-2.0
// What decode over tiles has in common, for any Vec. Included inside an ISA's namespace after its
// Vec.

// Calls fn<number of columns>(first column) for blocks of at most six.
template <typename Fn>
inline void ForColumnBlocks(int begin, int end, Fn fn) {
  for (int c = begin; c < end;) {
    switch (end - c) {
      case 1:
        fn.template Run<1>(c);
        c += 1;
        break;
      case 2:
        fn.template Run<2>(c);
        c += 2;
        break;
      case 3:
        fn.template Run<3>(c);
        c += 3;
        break;
      case 4:
        fn.template Run<4>(c);
        c += 4;
        break;
      case 5:
        fn.template Run<5>(c);
        c += 5;
        break;
      default:
        fn.template Run<6>(c);
        c += 6;
        break;
    }
  }
}

// q . r of a page's reference vector.
inline float DotReference(const float* q, const std::byte* r, int dims) {
  Vec::F sum = Vec::Zero();
  for (int d = 0; d < dims; d += Vec::kWidth) {
    sum = Vec::Fma(Vec::Load(q + d), Vec::LoadHalf(r + 2 * d), sum);
  }
  return Vec::Sum(sum);
}
