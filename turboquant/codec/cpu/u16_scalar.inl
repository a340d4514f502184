// SPDX-License-Identifier: Apache-2.0
// One 16-bit integer, of one ring; u16_avx2.inl says what the names mean.

constexpr int kRings = 1;
using U16 = int16_t;

U16 LoadU(const int16_t* p) { return *p; }
void StoreU(int16_t* p, U16 x) { *p = x; }
U16 LoadBytesU(const int8_t* p) { return *p; }
U16 ScaledU(U16 x, U16 factor) { return static_cast<U16>(TrellisScaled(x, factor)); }
U16 ClampU(U16 x, int limit) {
  return static_cast<U16>(x > limit ? limit : x < -limit ? -limit : x);
}
using SumsU = int32_t;
void AddProductsU(U16 x, U16 y, U16 x2, U16 y2, SumsU& sums) { sums += x * y + x2 * y2; }
void StoreSumsU(int32_t* p, SumsU sums) { *p = sums; }
