// SPDX-License-Identifier: Apache-2.0
// The ring encoder (trellis_ring_scalar.h says what it does), one ring per 16-bit element of a
// vector. Included after u16_*.inl. Taps and levels are constants here, so a lap is straight code.

struct alignas(64) RingBatch {
  uint32_t words[kRings][4];
  int8_t levels[kUnitCodes][kRings];
};

static constexpr int kMaxParityValues = 1 << kTrellisMaxParities;

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

// Levels of a parity by uncoded bits.
struct LevelTable {
  int8_t of[kMaxParityValues][8];
};
static constexpr LevelTable MakeLevelTable(int bits) {
  LevelTable table = {};
  const Trellis& trellis = TrellisOfBits(bits);
  for (uint32_t z = 0; z < 1u << trellis.parities; ++z) {
    for (uint32_t free = 0; free < 1u << trellis.free_bits(); ++free) {
      table.of[z][free] = static_cast<int8_t>(trellis.Level(free, z));
    }
  }
  return table;
}
template <int kBits>
static constexpr LevelTable kRingLevels = MakeLevelTable(kBits);
template <int kBits>
static constexpr int kParityValues = 1 << TrellisOfBits(kBits).parities;

struct alignas(64) RingCosts {
  uint16_t of[kUnitCodes][kMaxParityValues][kRings];
};
struct alignas(64) RingChoices {
  uint16_t of[kUnitCodes][kMaxParityValues][kRings];  // uncoded bits << 8 | level as a byte
};
// How the best paths came: bit b of [p][j] says that the window into state 2 j + b has its oldest
// bit clear.
struct alignas(64) RingTurns {
  uint16_t of[kUnitCodes][kTrellisStates / 2][kRings];
};
struct States {
  U16 of[kTrellisStates];
};

template <int kBits>
static inline void Measure(const int16_t (*in)[kRings], RingCosts& costs, RingChoices& choices) {
  constexpr int kValues = kParityValues<kBits>;
  constexpr int kFree = 1 << (kBits - 1);
  for (int p = 0; p < kUnitCodes; ++p) {
    const U16 x = LoadU(in[p]);
    U16 squares[kValues];
    U16 least = SetU(-1);
#pragma GCC unroll 8
    for (int z = 0; z < kValues; ++z) {
      U16 nearest = SetU(32767);
      U16 choice = SetU(0);
#pragma GCC unroll 8
      for (int free = 0; free < kFree; ++free) {
        const int level = kRingLevels<kBits>.of[z][free];
        const U16 distance = AbsU(SubU(x, SetU(level * TrellisGrid(kBits))));
        choice = SelectU(GreaterSigned(nearest, distance), SetU(free << 8 | (level & 255)), choice);
        nearest = MinU(nearest, distance);
      }
      StoreU(choices.of[p][z], choice);
      squares[z] = SquareU(MinU(nearest, SetU(kTrellisMaxDistance)));
      least = MinU(least, squares[z]);
    }
#pragma GCC unroll 8
    for (int z = 0; z < kValues; ++z) {
      const U16 excess = ShiftRightU<kTrellisCostShift>(SubU(squares[z], least));
      StoreU(costs.of[p][z], MinU(excess, SetU(kTrellisMaxCost)));
    }
  }
}

template <int kBits>
static inline void LoadCosts(const RingCosts& costs, int p, U16* d) {
#pragma GCC unroll 8
  for (int z = 0; z < kParityValues<kBits>; ++z) d[z] = LoadU(costs.of[p][z]);
}

// One step of a forward lap; kTrace notes the turns.
template <int kBits, bool kTrace>
static inline void Advance(const U16* d, const States& from, States& to,
                           uint16_t (*turns)[kRings]) {
  constexpr const ParityTable& z = kParityOf<kBits>;
#pragma GCC unroll 16
  for (int j = 0; j < kTrellisStates / 2; ++j) {
    const U16 a = from.of[j], b = from.of[j + kTrellisStates / 2];
    const U16 even0 = AddU(a, d[z.of[2 * j]]);
    const U16 even = MinU(even0, AddU(b, d[z.of[2 * j + kTrellisStates]]));
    const U16 odd0 = AddU(a, d[z.of[2 * j + 1]]);
    const U16 odd = MinU(odd0, AddU(b, d[z.of[2 * j + 1 + kTrellisStates]]));
    to.of[2 * j] = even;
    to.of[2 * j + 1] = odd;
    if constexpr (kTrace) {
      StoreU(turns[j],
             OrU(MaskedU(EqualU(even, even0), SetU(1)), MaskedU(EqualU(odd, odd0), SetU(2))));
    }
  }
}

template <int kBits>
static inline void Retreat(const U16* d, const States& from, States& to) {
  constexpr const ParityTable& z = kParityOf<kBits>;
#pragma GCC unroll 16
  for (int j = 0; j < kTrellisStates / 2; ++j) {
    const U16 a = from.of[2 * j], b = from.of[2 * j + 1];
    to.of[j] = MinU(AddU(a, d[z.of[2 * j]]), AddU(b, d[z.of[2 * j + 1]]));
    to.of[j + kTrellisStates / 2] = MinU(AddU(a, d[z.of[2 * j + kTrellisStates]]),
                                         AddU(b, d[z.of[2 * j + 1 + kTrellisStates]]));
  }
}

// Whole laps, two steps at a time so that states stay where they are.
template <int kBits>
static void LapForward(const RingCosts& costs, States& states) {
  States other;
  for (int p = 0; p < kUnitCodes; p += 2) {
    U16 d[kMaxParityValues];
    LoadCosts<kBits>(costs, p, d);
    Advance<kBits, false>(d, states, other, nullptr);
    LoadCosts<kBits>(costs, p + 1, d);
    Advance<kBits, false>(d, other, states, nullptr);
  }
}
template <int kBits>
static void LapTraced(const RingCosts& costs, States& states, RingTurns& turns) {
  States other;
  for (int p = 0; p < kUnitCodes; p += 2) {
    U16 d[kMaxParityValues];
    LoadCosts<kBits>(costs, p, d);
    Advance<kBits, true>(d, states, other, turns.of[p]);
    LoadCosts<kBits>(costs, p + 1, d);
    Advance<kBits, true>(d, other, states, turns.of[p + 1]);
  }
}
template <int kBits>
static void LapBackward(const RingCosts& costs, States& states) {
  States other;
  for (int p = kUnitCodes - 1; p >= 0; p -= 2) {
    U16 d[kMaxParityValues];
    LoadCosts<kBits>(costs, p, d);
    Retreat<kBits>(d, states, other);
    LoadCosts<kBits>(costs, p - 1, d);
    Retreat<kBits>(d, other, states);
  }
}

static inline void StartAt(U16 start, States& states) {
  for (int s = 0; s < kTrellisStates; ++s) {
    states.of[s] = SelectU(EqualU(start, SetU(s)), SetU(0), SetU(kTrellisOtherStart));
  }
}

// The state of least cost, the smallest of equals; costs it all there is from here on.
static inline U16 TakeBest(States& through) {
  U16 least = through.of[0];
  for (int s = 1; s < kTrellisStates; ++s) least = MinU(least, through.of[s]);
  U16 best = SetU(0);
  for (int s = kTrellisStates - 1; s >= 0; --s) {
    best = SelectU(EqualU(through.of[s], least), SetU(s), best);
  }
  for (int s = 0; s < kTrellisStates; ++s) {
    through.of[s] = SelectU(EqualU(best, SetU(s)), SetU(-1), through.of[s]);
  }
  return best;
}

// Parities are XORs of a window's bits: those of its low four and of its high two, looked up apart.
struct alignas(16) NibbleParities {
  uint8_t low[16], high[16];
};
static constexpr NibbleParities MakeNibbleParities(int bits) {
  NibbleParities table = {};
  for (uint32_t i = 0; i < 16; ++i) {
    table.low[i] = static_cast<uint8_t>(TrellisOfBits(bits).ParityOf(i));
    table.high[i] = i < 4 ? static_cast<uint8_t>(TrellisOfBits(bits).ParityOf(i << 4)) : 0;
  }
  return table;
}
template <int kBits>
static constexpr NibbleParities kNibbleParities = MakeNibbleParities(kBits);

// From every ring's start back along the turns. All rings at once: one ring's walk waits for a load
// at each step (4.3 ns a value one ring after the other, 1.0 so, Zen 3).
template <int kBits>
static void WalkBack(U16 start, const RingTurns& turns, const RingChoices& choices,
                     RingBatch& out) {
  using Words = uint32_t __attribute__((vector_size(4 * kRings)));
  using Halves = uint16_t __attribute__((vector_size(2 * kRings)));
  Words words[4] = {};
  U16 state = start;
  for (int p = kUnitCodes - 1; p >= 0; --p) {
    const U16 half = ShiftRightU<1>(state);
    U16 clear = SetU(0);
#pragma GCC unroll 16
    for (int j = 0; j < kTrellisStates / 2; ++j) {
      clear = OrU(clear, MaskedU(EqualU(half, SetU(j)), LoadU(turns.of[p][j])));
    }
    clear = SelectU(EqualU(AndU(state, SetU(1)), SetU(1)), ShiftRightU<1>(clear), clear);
    const U16 oldest = AndNotU(clear, SetU(1));
    const U16 window = OrU(state, ShiftLeftU<kTrellisMemory - 1>(oldest));
    const U16 parity = XorU(LookUpU(kNibbleParities<kBits>.low, AndU(window, SetU(15))),
                            LookUpU(kNibbleParities<kBits>.high, ShiftRightU<4>(window)));
    U16 choice = LoadU(choices.of[p][0]);
#pragma GCC unroll 8
    for (int z = 1; z < kParityValues<kBits>; ++z) {
      choice = SelectU(EqualU(parity, SetU(z)), LoadU(choices.of[p][z]), choice);
    }
    words[0] |= (__builtin_convertvector(reinterpret_cast<Halves>(window), Words) & 1u) << p;
    SetFreeBits(kBits, words, p % 4 * 8 + p / 4,
                __builtin_convertvector(reinterpret_cast<Halves>(ShiftRightU<8>(choice)), Words));
    StoreBytesU(out.levels[p], choice);
    state = ShiftRightU<1>(window);
  }
  for (int ring = 0; ring < kRings; ++ring) {
    for (int w = 0; w < 4; ++w) out.words[ring][w] = words[w][ring];
  }
}

template <int kBits>
static void EncodeRingsOf(const int16_t (*in)[kRings], RingBatch& out) {
  RingCosts costs;
  RingChoices choices;
  Measure<kBits>(in, costs, choices);
  States through = {}, states = {};
  for (int s = 0; s < kTrellisStates; ++s) through.of[s] = states.of[s] = SetU(0);
  LapForward<kBits>(costs, through);
  LapBackward<kBits>(costs, states);
  for (int s = 0; s < kTrellisStates; ++s) through.of[s] = AddU(through.of[s], states.of[s]);

  U16 best = SetU(-1), start = SetU(0);
  for (int i = 0; i < kTrellisStarts; ++i) {
    const U16 state = TakeBest(through);
    StartAt(state, states);
    LapForward<kBits>(costs, states);
    U16 cost = SetU(-1);
    for (int s = 0; s < kTrellisStates; ++s) {
      cost = SelectU(EqualU(state, SetU(s)), states.of[s], cost);
    }
    const U16 least = MinU(best, cost);
    start = SelectU(EqualU(least, best), start, state);
    best = least;
  }
  RingTurns turns;
  StartAt(start, states);
  LapTraced<kBits>(costs, states, turns);

  WalkBack<kBits>(start, turns, choices, out);
}

static void EncodeRings(int bits, const int16_t (*in)[kRings], RingBatch& out) {
  switch (bits) {
    case 2:
      return EncodeRingsOf<2>(in, out);
    case 3:
      return EncodeRingsOf<3>(in, out);
    default:
      return EncodeRingsOf<4>(in, out);
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
