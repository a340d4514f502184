#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes page_goldens.txt: hashes of rotated vectors and of open and sealed pages, made from docs/format.md alone.

A second implementation of the format, in NumPy, that shares no code with the library: tests/codec/golden_test.cc feeds the
same inputs to the library and compares. Usage: make_page_goldens.py > page_goldens.txt
"""
import pathlib
import re

import numpy as np

F = np.float32
HEAD_DIMS = [64, 80, 96, 112, 128, 192, 256, 512]
MAX_HALF = F(65504)
MAX_FLOAT = np.finfo(F).max
TOKENS = 128
BITS = {"turbo8": 8, "turbo4": 4, "turbo3": 3, "turbo2": 2, "turbo4_tcq": 4, "turbo3_tcq": 3, "turbo2_tcq": 2}
TRELLISES = pathlib.Path(__file__).parents[2] / "turboquant/codec/tables/trellises.inc"
LEVELS = {2: [33, 110], 3: [10, 31, 55, 88], 4: [5.5, 16.5, 27.5, 39.5, 52.5, 67.5, 86.5, 114.5]}
SIGMA = {2: F(72.8308), 3: F(40.9063), 4: F(41.8593)}
SIGN_SEED = 0x7475726271756E74
M64 = (1 << 64) - 1


def split_mix(seed):
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) & M64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
        yield z ^ (z >> 31)


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & M64
    return "%016x" % h


def values(seed, count):
    """Bell-shaped, exact in f32: the sum of a word's four 16-bit parts."""
    numbers = split_mix(seed)
    sums = []
    for _ in range(count):
        n = next(numbers)
        sums.append((n & 0xFFFF) + (n >> 16 & 0xFFFF) + (n >> 32 & 0xFFFF) + (n >> 48) - 131070)
    return np.array(sums, F) / F(32768)


def page_input(seed, d, awkward):
    x = values(seed, TOKENS * d).reshape(TOKENS, d)
    x = x + ((np.arange(d) % 7 - 3) * 0.5).astype(F)
    if awkward:
        x[5] = 0
        x[9] = x[9] * F(1e30)
        x[11, 3:6] = [np.nan, np.inf, -np.inf]
        x[13] = x[13] * F(1e-7)
        x[14] = x[14] * F(1e-41)
        x[17, 17] = 1000
    return x


# --- rotation ---------------------------------------------------------------------------------------------------------


def character(a, q):
    a %= q
    return 0 if a == 0 else 1 if pow(a, (q - 1) // 2, q) == 1 else -1


def paley(order):
    if order == 1:
        return np.ones((1, 1), F)
    if order in (12, 20):
        q = order - 1
        s = np.zeros((order, order), F)
        s[0, 1:] = 1
        s[1:, 0] = -1
        s[1:, 1:] = [[character(i - j, q) for j in range(q)] for i in range(q)]
        return s + np.eye(order, dtype=F)
    q = 13
    c = np.zeros((q + 1, q + 1), F)
    c[0, 1:] = c[1:, 0] = 1
    c[1:, 1:] = [[character(i - j, q) for j in range(q)] for i in range(q)]
    return np.kron(c, np.array([[1, 1], [1, -1]], F)) + np.kron(np.eye(q + 1, dtype=F), np.array([[1, -1], [-1, -1]], F))


def signs(d, side):
    numbers = split_mix(SIGN_SEED + 2 * d + side)
    words = [next(numbers) for _ in range((d + 63) // 64)]
    return np.array([-1 if words[i // 64] >> (i % 64) & 1 else 1 for i in range(d)], F)


def rotate(x, side, back):
    d = x.shape[-1]
    order = {80: 20, 96: 12, 112: 28, 192: 12}.get(d, 1)
    n = d // order
    s = signs(d, side)
    c = F(1 / np.sqrt(float(d)))
    p = paley(order).T if back else paley(order)
    y = x.copy() if back else x * s
    y = y.reshape(len(x), order, n)
    stride = 1
    while stride < n:
        z = y.copy()
        for b in range(n):
            if b & stride == 0:
                z[:, :, b] = y[:, :, b] + y[:, :, b + stride]
                z[:, :, b + stride] = y[:, :, b] - y[:, :, b + stride]
        y = z
        stride *= 2
    if order > 1:
        z = p[None, :, 0, None] * y[:, None, 0, :]
        for i in range(1, order):
            z = z + p[None, :, i, None] * y[:, None, i, :]
        y = z
    y = y.reshape(len(x), d)
    return y * (s * c) if back else y * c


# --- arithmetic of a head vector --------------------------------------------------------------------------------------


def clean(x):
    return np.clip(np.where(np.isnan(x), F(0), x), -MAX_FLOAT, MAX_FLOAT).astype(F)


def half(x):
    """f16 with the largest finite values for what is beyond."""
    return np.clip(np.asarray(x, F), -MAX_HALF, MAX_HALF).astype(np.float16)


def encode8(x):
    """[n][d] -> int codes and f16 scales."""
    scale = half(np.abs(x).max(axis=-1) / F(127))
    wide = scale.astype(F)[:, None]
    with np.errstate(all="ignore"):
        codes = np.rint(np.clip(x / wide, F(-127), F(127)))
    return np.where(wide == 0, 0, codes).astype(int), scale


def decode8(codes, scale, r):
    y = codes.astype(F) * scale.astype(F)[:, None]
    return y if r is None else y + r.astype(F)


def page_mean(x):
    total = np.zeros(x.shape[1], F)
    for row in x:
        total = total + row
    return total * F(1 / 128)


def vector_norms(x):
    d = x.shape[1]
    parts = np.zeros((len(x), 16), F)
    for i in range(0, d, 16):
        parts = parts + x[:, i : i + 16] * x[:, i : i + 16]
    while parts.shape[1] > 1:
        w = parts.shape[1] // 2
        parts = parts[:, :w] + parts[:, w:]
    return np.sqrt(parts[:, 0])


def seal_vectors(x, bits):
    d = x.shape[1]
    norm = vector_norms(x)
    gain = F(float(SIGMA[bits]) * np.sqrt(float(d)))
    with np.errstate(all="ignore"):
        factor = np.where(norm > 0, gain / norm, F(0)).astype(F)
    y = x * factor[:, None]
    levels = np.array(LEVELS[bits])
    bounds = ((levels[:-1] + levels[1:]) / 2).astype(F)
    index = (np.abs(y)[:, :, None] > bounds).sum(axis=-1)
    negative = y < 0
    if bits == 4:
        codes = index | negative * 8
    else:
        codes = np.where(negative, len(levels) - 1 - index, len(levels) + index)
    doubled = ((2 * levels[index]).astype(int) ** 2).sum(axis=1)
    return codes, half(norm / (np.sqrt(doubled.astype(F)) * F(0.5)))


# --- tiles ------------------------------------------------------------------------------------------------------------


def unit_words(codes, bits):
    c = [int(x) for x in codes]
    if bits == 8:
        return [sum((c[4 * w + i] & 255) << 8 * i for i in range(4)) for w in range(8)]
    nibbles = [[c[8 * j + k] for k in range(8)] for j in range(4)]
    join = lambda row: sum(v << 4 * k for k, v in enumerate(row))
    if bits == 2:
        return [join(nibbles[0]) | join(nibbles[1]) << 2, join(nibbles[2]) | join(nibbles[3]) << 2]
    if bits == 3:
        return [join(nibbles[j]) | join([v >> j & 1 for v in nibbles[3]]) << 3 for j in range(3)]
    words = []
    for row in nibbles:
        word = join([v & 7 for v in row])
        for i in range(4):
            word |= (row[i] >> 3) << 4 * (2 * i + 1) + 3
            word |= (row[4 + i] >> 3) << 4 * (2 * i) + 3
        words.append(word)
    return words


def tile_tokens(d):
    return {64: 64, 192: 64, 80: 128, 96: 128, 112: 128}.get(d, 32)


def lane_streams(tokens, d, values_side):
    """[32 lanes][codes]: indices into a tile's rows [tokens][d]."""
    streams = []
    for g in range(8):
        for t in range(4):
            if values_side:
                stream = []
                for block in range(d // 16):
                    for part in range(tokens // 32):
                        for e in range(4):
                            for b in range(4):
                                token = 32 * part + 16 * (e >> 1) + [2 * t, 2 * t + 8, 2 * t + 1, 2 * t + 9][b]
                                stream.append(token * d + 16 * block + g + 8 * (e & 1))
            else:
                stream = [i * d + x for i in range(g, tokens, 8) for x in range(t * d // 4, (t + 1) * d // 4)]
            streams.append(stream)
    return np.array(streams)


def stored(lanes, d):
    """Words [32 lanes][..] to stored bytes."""
    piece = 8 if d in (80, 112) else 16
    streams = [np.array(words, "<u4").tobytes() for words in lanes]
    return b"".join(s[p : p + piece] for p in range(0, len(streams[0]), piece) for s in streams)


def side_bytes(codes, bits, values_side):
    """Codes [tokens of a tile][d] to stored bytes."""
    tokens, d = codes.shape
    lanes = []
    for stream in codes.ravel()[lane_streams(tokens, d, values_side)]:
        lanes.append([word for u in range(0, len(stream), 32) for word in unit_words(stream[u : u + 32], bits)])
    return stored(lanes, d)


# --- trellis ----------------------------------------------------------------------------------------------------------


class Trellis:
    def __init__(self, bits):
        for line in TRELLISES.read_text().splitlines():
            numbers = [float(x) for x in re.findall(r"[0-9.]+", line.partition("{")[2])]
            if numbers and not line.startswith("//") and numbers[1] == bits:
                break
        n = [int(x) for x in numbers[:-1]]
        self.bits, self.parities, self.sigma = bits, n[2], F(numbers[-1])
        taps, base, step, half = n[3:6], n[6:14], n[14:22], n[22:30]
        self.parity = np.array([sum((bin(w & taps[t]).count("1") & 1) << t for t in range(self.parities)) for w in range(64)])
        self.levels = np.zeros((1 << self.parities, 1 << bits - 1), int)
        for z in range(1 << self.parities):
            z0, z1, z2 = z & 1, z >> 1 & 1, z >> 2 & 1
            for b in range(1 << bits - 1):
                cell = {2: b + 2 * z2 + 4 * z1, 3: b + 4 * z2, 4: b}[bits]
                first, second = (z0, 1) if bits == 2 else (z1, z0)
                self.levels[z, b] = base[cell] + (0 if first else step[cell]) + (0 if second else half[cell]) - 128
        self.grid = {2: 1, 3: 2, 4: 4}[bits]

        distance = np.abs(np.arange(-511, 512)[:, None, None] - self.grid * self.levels)
        self.free = distance.argmin(axis=2)
        squares = np.minimum(distance.min(axis=2), 255) ** 2
        self.costs = np.minimum((squares - squares.min(axis=1, keepdims=True)) >> 6, 55) << 5

    def lap(self, inputs, metrics):
        """[rings][32] in ring order -> coded bits, uncoded bits, levels, all [rings][32], and metrics for the next lap."""
        rings = len(inputs)
        each, state = np.arange(rings), np.arange(32)
        cost = self.costs[inputs + 511]
        metrics = metrics - (metrics.min(axis=1, keepdims=True) & ~31) & ~31 | state
        origins = []
        for p in range(32):
            metrics = np.minimum(metrics[:, state >> 1] + cost[:, p][:, self.parity[state]],
                                 metrics[:, (state | 32) >> 1] + cost[:, p][:, self.parity[state | 32]])
            if (p + 1) % 4 == 0:
                origins.append(metrics & 31)
                metrics = metrics & ~31 | state
        end = metrics.min(axis=1) & 31
        coded = np.zeros((rings, 32), int)
        open_rings = np.ones(rings, bool)
        for _ in range(4):
            path = np.zeros((rings, 32), int)
            s = end
            for p, origin in zip(range(32, 0, -4), origins[::-1]):
                for i in range(4):
                    path[:, p - 1 - i] = s >> i & 1
                s = origin[each, s]
            coded[open_rings] = path[open_rings]
            open_rings &= s != end
            end = np.where(open_rings, s, end)
        window = sum(np.roll(coded, i, axis=1) << i for i in range(6))
        parity = self.parity[window]
        free = self.free[inputs + 511, parity]
        return coded, free, self.levels[parity, free], metrics


def trellis_words(coded, free, bits):
    """One ring's bits, in ring order, to the words of its unit."""
    words = [sum(int(coded[p]) << p for p in range(32))] + [0] * (bits - 1)
    for p in range(32):
        m, j, b = p // 4, p % 4, int(free[p])
        if bits == 2:
            words[1] |= b << p
        elif bits == 3:
            words[1 + j // 2] |= b << 4 * m + 2 * (j % 2)
        elif j < 3:
            words[1 + j] |= b << 4 * m
        else:
            for e in range(3):
                words[1 + e] |= (b >> e & 1) << 4 * m + 3
    return words


def seal_trellis_tile(x, bits, values_side):
    """x [tokens][d] of a tile -> stored bytes, scales."""
    tokens, d = x.shape
    code = Trellis(bits)
    norm = vector_norms(x)
    gain = F(float(code.sigma) * np.sqrt(float(d)))
    with np.errstate(all="ignore"):
        factor = np.where(norm > 0, gain / norm, F(0)).astype(F)
    y = x * factor[:, None]
    target = np.rint(np.clip(y * F(64), F(-32767), F(32767))).astype(int)
    streams = lane_streams(tokens, d, values_side).reshape(-1, 32)  # units
    ring = np.array([8 * (p % 4) + p // 4 for p in range(32)])
    places = streams[:, ring]
    targets, token_of = target.ravel()[places], places // d
    group = np.arange(tokens)
    for unit in streams // d:  # tokens that share a unit are one group
        group[np.isin(group, group[unit])] = group[unit].min()
    unit_group = group[streams[:, 0] // d]

    def scaled(factor):
        return (targets * factor + (1 << 14)) >> 15

    def sums(levels):
        rows = np.zeros(tokens * d, int)
        rows[places] = levels
        rows = rows.reshape(tokens, d)
        return (rows * target).sum(axis=1), (rows * rows).sum(axis=1)

    def best_gain(product, square):
        with np.errstate(all="ignore"):
            gain = np.clip(F(64 * 512) * square.astype(F) / product.astype(F), F(128), F(1024))
        return np.where(product > 0, np.rint(gain), 512).astype(int)

    base, growth, reach, foretold, moves = {
        (2, False): (.6, .02, 53, 6, [(1.11, 0), (.97, 0), (1.035, 0), (.895, 0), (.925, 0), (.835, 0), (.97, .9),
                                      (1.045, 1.5), (1.07, 1.3), (.985, 2.7), (1.015, 1.9), (.975, 2.1)]),
        (3, False): (.325, .026, 73, 5, [(1.045, 0), (.995, 0), (.96, 0), (.93, 0), (.9, 0), (.96, .3), (1.015, 1.5),
                                         (1.025, 1.3), (1, 1.4)]),
        (4, False): (.01, .026, 116, 4, [(1.015, 0), (1.045, 0), (.99, 0), (.965, 0), (1.015, 1.3), (1, .6),
                                         (1.01, .9)]),
        (2, True): (.5, .02, 66, 2, [(1.135, 0), (.95, 0), (.99, 0), (1.01, 2), (.98, 4), (1.02, 1.5), (1.06, 3),
                                     (.975, 3.6), (1, 2.3), (.99, 2.5), (.95, 3.1), (1.06, 3.8), (1, 2.8),
                                     (1.03, 2.2), (.97, 1.9)]),
        (3, True): (.251, .025, 82, 2, [(.975, 0), (1.01, 0), (.958, .6), (.99, 1.9), (1.036, 2), (.978, 1.4),
                                        (1.017, 3.3), (1.013, 2.2), (.994, 2.3), (.993, 2)]),
        (4, True): (.045, .03, 113, 2, [(.995, 0), (1.03, 0), (.97, .3), (.99, 2.1), (1.03, 2), (.985, 2.1),
                                        (.99, 2.1), (1.01, 1.8), (.995, 3.2), (1.005, 1.7)]),
    }[bits, values_side]
    base = int(F(base) * F(512) + F(0.5)) + int(np.log2(d / 64)) * int(F(growth) * F(512) + F(0.5))
    first = base + reach * 32768 // np.maximum(np.abs(target).max(axis=1), 1)
    first = np.clip(first, 128, 720 if bits == 4 else 592)
    before = None
    metrics = np.zeros((len(places), 32), int)
    best = None
    for i, move in enumerate(moves):
        c, m = (int(F(x) * F(1024) + F(0.5)) for x in move)
        own = np.full(tokens, 512) if best is None else best_gain(*best[3])
        gain = first * c if i < foretold else own * c + (own - before) * m
        gain = np.clip((gain + 512) >> 10, 128, 1024)
        before = own
        factor = (gain * code.grid)[token_of]
        coded, free, levels, metrics = code.lap(np.clip(scaled(factor), -511, 511), metrics)
        if best is not None:
            judged = (own + gain)[token_of]
            nearer = ((levels - best[4]) * (judged * targets - 32768 * (levels + best[4]))).sum(axis=1) > 0
            coded, free, levels = (np.where(nearer[:, None], new, old) for new, old in
                                   ((coded, best[1]), (free, best[2]), (levels, best[4])))
        both = sums(levels)
        product = both[0].astype(F)
        with np.errstate(all="ignore"):
            each = np.where(both[1] > 0, product * product / both[1].astype(F), F(0)).astype(F)
        score = np.zeros(tokens, F)
        for token in range(tokens):
            score[group[token]] = score[group[token]] + each[token]
        if best is None:
            best = [score, coded, free, both, levels]
            continue
        better = score > best[0]
        unit, token = better[unit_group], better[group]
        best[0] = np.where(better, score, best[0])
        for i, new in ((1, coded), (2, free), (4, levels)):
            best[i] = np.where(unit[:, None], new, best[i])
        best[3] = tuple(np.where(token, new, old) for new, old in zip(both, best[3]))
    words = [trellis_words(c, f, bits) for c, f in zip(best[1], best[2])]
    units = len(words) // 32
    lanes = [sum(words[i * units : (i + 1) * units], []) for i in range(32)]
    length = np.sqrt(best[3][1].astype(F))
    with np.errstate(all="ignore"):
        scale = np.where(length > 0, norm / length, F(0))
    return stored(lanes, d), half(scale)


def seal_trellis(x, bits, values_side):
    """x [128][d] -> bytes of each tile's codes, scales."""
    step = tile_tokens(x.shape[1])
    tiles = [seal_trellis_tile(x[first : first + step], bits, values_side) for first in range(0, TOKENS, step)]
    return [codes for codes, _ in tiles], np.concatenate([scale for _, scale in tiles])


def scale_bytes(k_scale, v_scale):
    out = b""
    for first in range(0, len(k_scale), 32):
        for g in range(8):
            for scales in (k_scale, v_scale):
                out += np.array([scales[first + g + 8 * i] for i in range(4)], "<f2").tobytes()
    return out


# --- rows -------------------------------------------------------------------------------------------------------------


def row_bytes(x, codec):
    x = clean(x)
    if codec == "f32":
        return x.astype("<f4").tobytes()
    if codec == "f16":
        return half(x).astype("<f2").tobytes()
    if codec == "bf16":
        limit = np.array([0x7F7F0000], np.uint32).view(F)[0]
        bits = np.clip(x, -limit, limit).view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    out = b""
    for block in x.reshape(-1, 32):
        if codec == "q8_0":
            codes, scale = encode8(block[None])
            out += scale.astype("<f2").tobytes() + codes.astype(np.int8).tobytes()
        else:
            extreme = block[np.argmax(np.abs(block))] if np.any(block != 0) else F(0)
            scale = half(F(extreme) / F(-8))
            wide = scale.astype(F)
            with np.errstate(all="ignore"):
                ratio = np.zeros(32, F) if wide == 0 else np.clip(block / wide, F(-8), F(8))
            codes = np.minimum((ratio + F(8.5)).astype(int), 15)
            out += scale.astype("<f2").tobytes() + (codes[:16] | codes[16:] << 4).astype(np.uint8).tobytes()
    return out


# --- pages ------------------------------------------------------------------------------------------------------------


def pad(data):
    return data + b"\0" * (-len(data) % 64)


def page(d, k, v, r):
    """k, v: (codec, codes [128][d] or bytes of each tile's codes, scales) for tiles or (codec, row bytes). One head's block."""
    out = pad(r.astype("<f2").tobytes()) if k[0] in BITS else b""
    if k[0] in BITS or v[0] in BITS:
        step = tile_tokens(d)
        none = np.zeros(TOKENS, np.float16)
        for first in range(0, TOKENS, step):
            part = slice(first, first + step)
            for side, values_side in ((k, False), (v, True)):
                if side[0].endswith("_tcq"):
                    out += side[1][first // step]
                elif side[0] in BITS:
                    out += side_bytes(side[1][part], BITS[side[0]], values_side)
            out += scale_bytes((k[2] if k[0] in BITS else none)[part], (v[2] if v[0] in BITS else none)[part])
    for side in (k, v):
        if side[0] not in BITS:
            out += side[1]
    return pad(out)


def case(d, open_k, open_v, sealed_k, sealed_v, awkward):
    r = half(((np.arange(d) % 5 - 2) * 0.25).astype(F))
    sides = []
    sealed_r = r
    for codec, target, seed, keys in ((open_k, sealed_k, 1, True), (open_v, sealed_v, 2, False)):
        x = page_input(seed * 1000 + d, d, awkward)
        if codec != "turbo8":
            rows = (codec, row_bytes(x, codec))
            sides.append((rows, rows))
            continue
        x = clean(x)
        if keys:
            x = x - r.astype(F)
        codes, scale = encode8(x)
        opened = ("turbo8", codes, scale)
        if target == "turbo8":
            sides.append((opened, opened))
            continue
        y = decode8(codes, scale, r if keys else None)
        if keys:
            sealed_r = half(page_mean(y))
            y = y - sealed_r.astype(F)
        seal = seal_trellis(y, BITS[target], not keys) if target.endswith("_tcq") else seal_vectors(y, BITS[target])
        sides.append((opened, (target, *seal)))
    return page(d, sides[0][0], sides[1][0], r), page(d, sides[0][1], sides[1][1], sealed_r)


def main():
    print("# Made by make_page_goldens.py; do not edit.")
    print("# rotate: head dim, side, hash of 3 rows forward, hash of the same rows back")
    for d in HEAD_DIMS:
        for side in (0, 1):
            x = values(d, 3 * d).reshape(3, d)
            print("rotate", d, side, *(fnv(rotate(x, side, b).astype("<f4").tobytes()) for b in (False, True)))
    print("# page: head dim, open K and V, sealed K and V, awkward input, hash of the open page, hash of the sealed page")
    t8 = "turbo8"
    for d in HEAD_DIMS:
        cases = [(t8, t8, "turbo4", "turbo3"), (t8, t8, "turbo3", "turbo2"), (t8, t8, "turbo2", "turbo4"),
                 (t8, "f16", "turbo3", "f16"), ("bf16", t8, "bf16", t8)]
        cases.append((t8, t8, "turbo4_tcq", "turbo3_tcq"))
        cases.append((t8, t8, "turbo2_tcq", "turbo4_tcq") if d in (64, 112) else (t8, t8, "turbo3_tcq", "turbo2_tcq"))
        cases.append(("f32", t8, "f32", t8))
        if d % 32 == 0:
            cases.append(("q8_0", "q4_0", "q8_0", "q4_0"))
        for c in cases:
            for awkward in [0, 1] if d in (80, 128) else [0]:
                print("page", d, *c, awkward, *map(fnv, case(d, *c, awkward)))
    print("# dump: as page, then the sealed page's bytes")
    print("dump", 64, t8, t8, "turbo3", "turbo4", 0, case(64, t8, t8, "turbo3", "turbo4", 0)[1].hex())


if __name__ == "__main__":
    main()
