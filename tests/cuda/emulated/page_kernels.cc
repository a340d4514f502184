// SPDX-License-Identifier: Apache-2.0
// The page, map and transform kernels as host code.
#include "turboquant/codec/cuda/map_kernels.cu"
#include "turboquant/codec/cuda/transform_kernels.cu"
#include "turboquant/kv/cuda/dequantize.cu"
#include "turboquant/kv/cuda/encode.cu"
#include "turboquant/kv/cuda/encode_keys.cu"
#include "turboquant/kv/cuda/seal.cu"
#include "turboquant/kv/cuda/seal_trellis.cu"
