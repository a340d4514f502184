// SPDX-License-Identifier: Apache-2.0
// Laps over rings (trellis_ring_scalar.h says what a lap does), one ring per 16-bit element of a
// vector. Included after u16_*.inl. Taps and levels are constants here, so a lap is straight code.

static constexpr int kMaxParityValues = 1 << kTrellisMaxParities;
template <int kBits>
static constexpr int kParityValues = 1 << TrellisOfBits(kBits).parities;

struct ParityTable {
  uint8_t of[2 * kTrellisStates];
};
static constexpr ParityTable MakeParityTable(int bits) {
  ParityTable table = {};
  for (uint32_t w = 0; w < 2 * kTrellisStates; ++w) {
    table.of[w] = static_cast<uint8_t>(TrellisOfBits(bits).ParityOf(w));
  }
  return table;
}
template <int kBits>
static constexpr ParityTable kParityOf = MakeParityTable(kBits);

// Levels by parity, then uncoded bits.
struct alignas(32) LevelTable {
  int8_t of[32];
};
static constexpr LevelTable MakeLevelTable(int bits) {
  LevelTable table = {};
  const Trellis& trellis = TrellisOfBits(bits);
  for (uint32_t z = 0; z < 1u << trellis.parities; ++z) {
    for (uint32_t free = 0; free < 1u << trellis.free_bits(); ++free) {
      table.of[z << trellis.free_bits() | free] = static_cast<int8_t>(trellis.Level(free, z));
    }
  }
  return table;
}
template <int kBits>
static constexpr LevelTable kRingLevels = MakeLevelTable(kBits);

// The bits since the mark before that a state has, as they stand in a word.
struct alignas(32) MarkBitsTable {
  int8_t of[kTrellisStates];
};
static constexpr MarkBitsTable MakeMarkBits() {
  MarkBitsTable table = {};
  for (uint32_t s = 0; s < kTrellisStates; ++s) {
    table.of[s] = static_cast<int8_t>(TrellisMarkBits(s, 0));
  }
  return table;
}
static constexpr MarkBitsTable kMarkBits = MakeMarkBits();

struct States {
  U16 of[kTrellisStates];
};
struct alignas(64) RingCosts {
  uint16_t of[kUnitCodes][kMaxParityValues][kRings];
};
struct RingOrigins {  // metrics before marks are set
  States at[kTrellisMarkCount];

  uint16_t Of(int mark, uint32_t state, int ring) const {
    uint16_t metric;
    const auto* rings = reinterpret_cast<const char*>(&at[mark].of[state]);
    __builtin_memcpy(&metric, rings + ring * int{sizeof metric}, sizeof metric);
    return metric;
  }
};
struct alignas(64) RingPaths {  // the state before each mark
  uint16_t of[kTrellisMarkCount][kRings];
};
struct RingWords {  // words 0: bit p mod 16 of half p / 16
  U16 of[2];
};

template <int kBits>
struct StepCosts {
  U16 of[kParityValues<kBits>];
};
template <int kBits>
static inline StepCosts<kBits> CostsAt(const uint16_t (*costs)[kRings]) {
  StepCosts<kBits> d;
#pragma GCC unroll 8
  for (int i = 0; i < kParityValues<kBits>; ++i) {
    d.of[i] = AndU(LoadU(costs[i]), SetU(kTrellisCostMask));
  }
  return d;
}
// From states j and j + 16, which have metrics a and b, to states 2 j and 2 j + 1.
template <int kBits>
static inline void Branch(const StepCosts<kBits>& d, int j, U16 a, U16 b, U16* to) {
  constexpr const ParityTable& z = kParityOf<kBits>;
  to[0] = MinU(AddU(a, d.of[z.of[2 * j]]), AddU(b, d.of[z.of[2 * j + kTrellisStates]]));
  to[1] = MinU(AddU(a, d.of[z.of[2 * j + 1]]), AddU(b, d.of[z.of[2 * j + 1 + kTrellisStates]]));
}
// Two steps: four states become four others, whose metrics are loaded and stored once.
template <int kBits>
static inline void AdvanceTwice(const uint16_t (*costs)[kMaxParityValues][kRings],
                                const States& from, States& to) {
  const StepCosts<kBits> d = CostsAt<kBits>(costs[0]), e = CostsAt<kBits>(costs[1]);
  constexpr int kQuarter = kTrellisStates / 4;
#pragma GCC unroll 8
  for (int j = 0; j < kQuarter; ++j) {
    const U16* a = from.of + j;
    U16 x[2], y[2];
    Branch(d, j, a[0], a[2 * kQuarter], x);
    Branch(d, j + kQuarter, a[kQuarter], a[3 * kQuarter], y);
    Branch(e, 2 * j, x[0], y[0], to.of + 4 * j);
    Branch(e, 2 * j + 1, x[1], y[1], to.of + 4 * j + 2);
  }
}

static inline U16 Least(const States& states) {
  U16 least = states.of[0];
#pragma GCC unroll 32
  for (int s = 1; s < kTrellisStates; ++s) least = MinU(least, states.of[s]);
  return least;
}

static inline void SetMarks(const States& from, States& to) {
#pragma GCC unroll 32
  for (int s = 0; s < kTrellisStates; ++s) {
    to.of[s] = OrU(AndU(from.of[s], SetU(-kTrellisStates)), SetU(s));
  }
}

// From a ring's end of the lap back: returns the state in which its path began.
static inline uint16_t PathTo(uint16_t end, const RingOrigins& origins, int ring,
                              RingPaths& paths) {
  uint32_t state = end;
#pragma GCC unroll 8
  for (int mark = kTrellisMarkCount - 1; mark >= 0; --mark) {
    paths.of[mark][ring] = static_cast<uint16_t>(state);
    state = origins.Of(mark, state, ring) % kTrellisStates;
  }
  return static_cast<uint16_t>(state);
}
// Ring by ring within a try: paths wait for loads, and most rings need no second one.
static inline void Follow(uint16_t* ends, const RingOrigins& origins, RingPaths& paths) {
  int open[kRings], count = 0;
  for (int ring = 0; ring < kRings; ++ring) {
    const uint16_t start = PathTo(ends[ring], origins, ring, paths);
    open[count] = ring;
    count += start != ends[ring];
    ends[ring] = start;
  }
  for (int i = 1; i < kTrellisTries; ++i) {
    int left = 0;
    for (int j = 0; j < count; ++j) {
      const int ring = open[j];
      const uint16_t start = PathTo(ends[ring], origins, ring, paths);
      open[left] = ring;
      left += start != ends[ring];
      ends[ring] = start;
    }
    count = left;
  }
}

template <int kMark>
static inline void PlaceBits(const RingPaths& paths, RingWords& words) {
  constexpr int kFirst = kMark * kTrellisMarkStep;
  // A look-up's upper bytes mean nothing.
  constexpr int kMask = (1 << kTrellisMarkStep) - 1;
  const U16 bits = AndU(LookUp32U(kMarkBits.of, LoadU(paths.of[kMark])), SetU(kMask));
  U16& half = words.of[kFirst / 16];
  half = OrU(half, ShiftLeftU<kFirst % 16>(bits));
}
static inline RingWords CodedBits(const RingPaths& paths) {
  static_assert(kTrellisMarkCount == 8 && 16 % kTrellisMarkStep == 0);
  RingWords words = {SetU(0), SetU(0)};
  PlaceBits<0>(paths, words), PlaceBits<1>(paths, words), PlaceBits<2>(paths, words);
  PlaceBits<3>(paths, words), PlaceBits<4>(paths, words), PlaceBits<5>(paths, words);
  PlaceBits<6>(paths, words), PlaceBits<7>(paths, words);
  return words;
}

// planes[t]: bit p is parity t of position p.
template <int kBits, int kTurn>
static inline void AddTurned(const RingWords& coded, RingWords* planes) {
  RingWords turned = coded;
  if constexpr (kTurn > 0) {
    for (int half = 0; half < 2; ++half) {
      turned.of[half] =
          OrU(ShiftLeftU<kTurn>(coded.of[half]), ShiftRightU<16 - kTurn>(coded.of[1 - half]));
    }
  }
  constexpr Trellis kTrellis = TrellisOfBits(kBits);  // a reference would be a weak symbol
#pragma GCC unroll 3
  for (int t = 0; t < kTrellis.parities; ++t) {
    if ((kTrellis.taps[static_cast<size_t>(t)] >> kTurn & 1u) == 0) continue;
    for (int half = 0; half < 2; ++half) {
      planes[t].of[half] = XorU(planes[t].of[half], turned.of[half]);
    }
  }
}
template <int kBits>
static inline void ParityPlanes(const RingWords& coded, RingWords* planes) {
  static_assert(kTrellisMemory == 6);
  for (int t = 0; t < kTrellisMaxParities; ++t) planes[t] = {SetU(0), SetU(0)};
  AddTurned<kBits, 0>(coded, planes), AddTurned<kBits, 1>(coded, planes);
  AddTurned<kBits, 2>(coded, planes), AddTurned<kBits, 3>(coded, planes);
  AddTurned<kBits, 4>(coded, planes), AddTurned<kBits, 5>(coded, planes);
}

// What the codes come to: levels of 32 positions, 32 lanes apart.
template <int kBits>
static inline void FindLevels(const RingWords& coded, const RingCosts& costs, int8_t* levels) {
  constexpr int kValues = kParityValues<kBits>;
  constexpr int kParities = TrellisOfBits(kBits).parities;
  RingWords planes[kTrellisMaxParities];
  ParityPlanes<kBits>(coded, planes);
  for (int p = 0; p < kUnitCodes; ++p) {
    const U16 bit = SetU(1 << p % 16);
    MaskU is_set[kParities];
    U16 index = SetU(0);
#pragma GCC unroll 3
    for (int t = 0; t < kParities; ++t) {
      is_set[t] = EqualU(AndU(planes[t].of[p / 16], bit), bit);
      index = OrU(index, MaskedU(is_set[t], SetU(1 << (t + kBits - 1))));
    }
    U16 entries[kMaxParityValues];
#pragma GCC unroll 8
    for (int z = 0; z < kValues; ++z) entries[z] = LoadU(costs.of[p][z]);
#pragma GCC unroll 3
    for (int t = 0; t < kParities; ++t) {
#pragma GCC unroll 4
      for (int i = 0; i < kValues >> (t + 1); ++i) {
        entries[i] = SelectU(is_set[t], entries[2 * i + 1], entries[2 * i]);
      }
    }
    index = OrU(index, ShiftRightU<kTrellisFreeShift>(entries[0]));
    StoreBytesU(levels + p * 32, LookUp32U(kRingLevels<kBits>.of, index));
  }
}

template <int kBits>
static void EncodeRingsOf(const int16_t* in, uint16_t (*metrics)[kRings], uint16_t* coded,
                          int8_t* levels) {
  const TrellisCosts* table = &TrellisCostTable(kBits)[kTrellisMaxInput];
  RingCosts costs;
  for (int p = 0; p < kUnitCodes; ++p) {
    GatherRows<kParityValues<kBits>>(table, in + p * 32, costs.of[p]);
  }
  States now, half;
  for (int s = 0; s < kTrellisStates; ++s) now.of[s] = LoadU(metrics[s]);
  const U16 least = AndU(Least(now), SetU(-kTrellisStates));
  for (U16& state : now.of) state = SubU(state, least);
  SetMarks(now, now);
  RingOrigins origins;
  static_assert(kTrellisMarkStep == 4);
  for (int mark = 0; mark < kTrellisMarkCount; ++mark) {
    const auto* of_mark = costs.of + mark * kTrellisMarkStep;
    AdvanceTwice<kBits>(of_mark, now, half);
    AdvanceTwice<kBits>(of_mark + 2, half, origins.at[mark]);
    SetMarks(origins.at[mark], now);
  }
  for (int s = 0; s < kTrellisStates; ++s) StoreU(metrics[s], now.of[s]);
  alignas(64) uint16_t ends[kRings];
  StoreU(ends, AndU(Least(now), SetU(kTrellisStates - 1)));
  RingPaths paths;
  Follow(ends, origins, paths);
  const RingWords words = CodedBits(paths);
  for (int half = 0; half < 2; ++half) StoreU(coded + half * 32, words.of[half]);
  FindLevels<kBits>(words, costs, levels);
}

// Neighbouring lanes of a unit: inputs of 32 positions, 32 lanes apart; levels and the halves of
// words 0 likewise.
static void EncodeRings(int bits, const int16_t* in, uint16_t (*metrics)[kRings], uint16_t* coded,
                        int8_t* levels) {
  switch (bits) {
    case 2:
      return EncodeRingsOf<2>(in, metrics, coded, levels);
    case 3:
      return EncodeRingsOf<3>(in, metrics, coded, levels);
    default:
      return EncodeRingsOf<4>(in, metrics, coded, levels);
  }
}

// Level bytes of a unit (trellis.h). Selectors: nibble m of dword j is code 8 j + m.
template <int kBits, int kParity>
static inline uint32_t ParityPlane(uint32_t coded) {
  constexpr uint8_t kTaps = TrellisOfBits(kBits).taps[kParity];
  uint32_t plane = 0;
#pragma GCC unroll 6
  for (int i = 0; i < kTrellisMemory; ++i) {
    if (kTaps >> i & 1u) {
      plane ^= coded << i | coded >> (31 & -i);
    }
  }
  return plane;
}
// Bit j of every nibble of `plane` to bit kBit of the nibbles of dword j.
template <int kBit>
static inline __m128i PlaceBit(uint32_t plane) {
  const __m128i wide = _mm_set1_epi32(static_cast<int>(plane));
  const __m128i up =
      _mm_sllv_epi32(wide, _mm_setr_epi32(kBit, kBit >= 1 ? kBit - 1 : 32,
                                          kBit >= 2 ? kBit - 2 : 32, kBit >= 3 ? kBit - 3 : 32));
  const __m128i down =
      _mm_srlv_epi32(wide, _mm_setr_epi32(32, kBit < 1 ? 1 - kBit : 32, kBit < 2 ? 2 - kBit : 32,
                                          kBit < 3 ? 3 - kBit : 32));
  return _mm_and_si128(_mm_or_si128(up, down), _mm_set1_epi8(static_cast<char>(0x11 << kBit)));
}

struct alignas(32) TrellisBytes {
  int8_t at[32];
};
// The sum of base and step, and half, by selector nibble; level + 128 wraps to the level itself.
static constexpr TrellisBytes MakeTrellisBytes(int bits, bool half) {
  TrellisBytes table = {};
  const Trellis& trellis = TrellisOfBits(bits);
  for (int i = 0; i < 32; ++i) {
    const auto cell = static_cast<size_t>(i % 8);
    const bool gate = i % 16 >= 8;
    const int value = half ? (gate ? 0 : trellis.half[cell])
                           : trellis.base[cell] + (gate ? 0 : trellis.step[cell]) - 128;
    table.at[i] = static_cast<int8_t>(value);
  }
  return table;
}
template <int kBits, bool kHalf>
static constexpr TrellisBytes kTrellisBytes = MakeTrellisBytes(kBits, kHalf);

template <int kBits>
static inline void UnpackTrellisUnit(const std::byte* words, std::byte* levels) {
  const __m128i w = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words));
  const auto coded = static_cast<uint32_t>(_mm_cvtsi128_si32(w));
  __m128i cells, step_gate, half_gate = _mm_setzero_si128();
  if constexpr (kBits == 2) {
    uint32_t plane;
    __builtin_memcpy(&plane, words + 4, 4);
    cells = _mm_or_si128(PlaceBit<0>(plane), _mm_or_si128(PlaceBit<1>(ParityPlane<2, 2>(coded)),
                                                          PlaceBit<2>(ParityPlane<2, 1>(coded))));
    step_gate = PlaceBit<3>(ParityPlane<2, 0>(coded));
  } else if constexpr (kBits == 3) {
    const __m128i free = _mm_srlv_epi32(_mm_shuffle_epi32(w, 0xA5), _mm_setr_epi32(0, 2, 0, 2));
    cells = _mm_or_si128(_mm_and_si128(free, _mm_set1_epi8(0x33)),
                         PlaceBit<2>(ParityPlane<3, 2>(coded)));
    step_gate = PlaceBit<3>(ParityPlane<3, 1>(coded));
    half_gate = PlaceBit<3>(ParityPlane<3, 0>(coded));
  } else {
    const __m128i free = _mm_shuffle_epi32(w, 0x39);  // words 1, 2, 3
    const __m128i spare = _mm_and_si128(_mm_srli_epi32(free, 3), _mm_set1_epi8(0x11));
    const __m128i placed = _mm_sllv_epi32(spare, _mm_setr_epi32(0, 1, 2, 32));
    const __m128i pair = _mm_or_si128(placed, _mm_shuffle_epi32(placed, 0xB1));
    const __m128i last = _mm_or_si128(pair, _mm_shuffle_epi32(pair, 0x4E));
    cells = _mm_blend_epi32(_mm_and_si128(free, _mm_set1_epi8(0x77)), last, 8);
    step_gate = PlaceBit<3>(ParityPlane<4, 1>(coded));
    half_gate = PlaceBit<3>(ParityPlane<4, 0>(coded));
  }
  const auto table = [](const TrellisBytes& bytes) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes.at));
  };
  __m256i result = _mm256_shuffle_epi8(table(kTrellisBytes<kBits, false>),
                                       FromNibbles(_mm_or_si128(cells, step_gate)));
  if constexpr (kBits != 2) {
    const __m256i half = _mm256_shuffle_epi8(table(kTrellisBytes<kBits, true>),
                                             FromNibbles(_mm_or_si128(cells, half_gate)));
    result = _mm256_add_epi8(result, half);
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(levels), result);
}
