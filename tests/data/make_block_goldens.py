#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes block_goldens.bin: random valid blocks of every format and the floats that the numpy decoders of the Python
package `gguf` (pip install gguf) make of them. Run it only to renew the file; the tests read the committed one.

File: per format: u32 type id, u32 number of blocks, the blocks' bytes, the values as f32; all little-endian.
"""
import pathlib
import struct

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

BLOCKS = 5
# Offsets of the f16 scales in a block, as the format lays them out.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0]}


def main():
    rng = np.random.default_rng(20240607)
    out = bytearray()
    for kind in [T.F32, T.F16, T.BF16, *SCALES]:
        values, size = GGML_QUANT_SIZES[kind]
        if kind in SCALES:
            rows = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
            for offset in SCALES[kind]:
                scale = (rng.standard_normal(BLOCKS) * 0.01).astype(np.float16)
                scale[-1] = np.float16(3e-7)  # a denormal
                rows[:, offset:offset + 2] = scale.view(np.uint8).reshape(BLOCKS, 2)
            data = rows.reshape(-1)
        else:
            plain = rng.standard_normal(BLOCKS).astype(np.float32)
            if kind == T.F32:
                data = plain.view(np.uint8)
            elif kind == T.F16:
                data = plain.astype(np.float16).view(np.uint8)
            else:
                data = (plain.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        if kind == T.F32:
            floats = data.view(np.float32)
        elif kind == T.F16:
            floats = data.view(np.float16).astype(np.float32)
        else:
            floats = dequantize(data, kind).astype(np.float32).reshape(-1)
        assert floats.size == BLOCKS * values and np.isfinite(floats).all()
        out += struct.pack("<II", int(kind), BLOCKS) + data.tobytes() + floats.astype("<f4").tobytes()
    path = pathlib.Path(__file__).resolve().parent / "block_goldens.bin"
    path.write_bytes(out)
    print(path, len(out), "bytes")


if __name__ == "__main__":
    main()
