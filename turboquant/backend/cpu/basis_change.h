// SPDX-License-Identifier: Apache-2.0
// Rows of heads between the model's basis and the cache's, in place (codec/transform.h says what
// the change is).
#pragma once

#include "turboquant/attention/attention.h"
#include "turboquant/codec/transform.h"

namespace tq {

// x <- H A x (keys), for `tokens` rows of one head, `stride` floats apart. `map` null: A =
// identity.
void ToStoredKeys(float* x, int tokens, int64_t stride, int head_dim, const KeyMap* map);
void ToStoredValues(float* x, int tokens, int64_t stride, int head_dim);

// q <- H A^-T q of every query head whose keys lie in tiles. q [T, H, D], key_maps [G] or null.
void QueriesToStored(float* q, const AttentionArgs& args, const KeyMap* key_maps,
                     const ThreadPool& pool);
// o <- H^T o of every output whose values lie in tiles. out [T, H, D].
void OutputsFromStored(const AttentionArgs& args, const ThreadPool& pool);

}  // namespace tq
