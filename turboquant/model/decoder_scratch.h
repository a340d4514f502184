// SPDX-License-Identifier: Apache-2.0
// Activations of one forward pass: grow-only memory of the backend, views sized to the step.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "turboquant/backend/backend.h"
#include "turboquant/model/model_spec.h"
#include "turboquant/model/step_plan.h"

namespace tq {

// A buffer that is replaced by a larger one when needed; contents are not kept.
inline float* EnsureSize(std::unique_ptr<Buffer>& buffer, Backend& backend, size_t floats) {
  if (buffer == nullptr || buffer->size() < floats) {
    buffer.reset();
    buffer = backend.Allocate(floats);
  }
  return buffer->data();
}

class DecoderScratch {
 public:
  DecoderScratch(const ModelSpec& spec, Backend& backend) : spec_(spec), backend_(backend) {}

  // Sizes everything for the plan's T tokens, spans one after another; may throw kOutOfMemory.
  void Begin(const StepPlan& plan) {
    tokens_.clear();
    for (const SequenceSpan& span : plan.spans)
      tokens_.insert(tokens_.end(), span.tokens.begin(), span.tokens.end());
    EnsureSize(x_, backend_, rows() * spec_.embedding);
    EnsureSize(normed_, backend_, rows() * spec_.embedding);
    EnsureSize(qkv_, backend_, rows() * qkv_cols());
    EnsureSize(attended_, backend_, rows() * spec_.q_heads * spec_.head_dim);
    EnsureSize(gate_up_, backend_, rows() * 2 * spec_.feed_forward);
  }

  void SetPositions(const AppendPlan& append) {
    positions_.clear();
    for (const AppendPlan::Span& span : append.spans) {
      for (int t = 0; t < span.tokens; ++t)
        positions_.push_back(static_cast<int32_t>(span.first_position + t));
    }
    TQ_CHECK(positions_.size() == tokens_.size());
  }

  std::span<const int32_t> tokens() const { return tokens_; }        // [T]
  std::span<const int32_t> positions() const { return positions_; }  // [T]

  MatrixView<float> x() const {
    return {x_->data(), rows(), spec_.embedding};
  }  // [T, E] the residual stream
  MatrixView<float> normed() const {
    return {normed_->data(), rows(), spec_.embedding};
  }  // [T, E] what blocks read and give
  MatrixView<float> qkv() const { return {qkv_->data(), rows(), qkv_cols()}; }  // [T, (H + 2 G) D]
  MatrixView<float> attended() const {
    return {attended_->data(), rows(), int64_t{spec_.q_heads} * spec_.head_dim};
  }
  MatrixView<float> gate_up() const {
    return {gate_up_->data(), rows(), int64_t{2} * spec_.feed_forward};
  }  // [T, 2 F]
  MatrixView<float> gate() const {
    return {gate_up_->data(), rows(), spec_.feed_forward, int64_t{2} * spec_.feed_forward};
  }
  MatrixView<float> up() const {
    return {gate_up_->data() + spec_.feed_forward, rows(), spec_.feed_forward,
            int64_t{2} * spec_.feed_forward};
  }

  struct Heads {
    float *q, *k, *v;
  };
  Heads HeadsOf(int64_t row) const {
    float* q = qkv().row(row);
    float* k = q + int64_t{spec_.q_heads} * spec_.head_dim;
    return {q, k, k + int64_t{spec_.kv_heads} * spec_.head_dim};
  }

 private:
  int64_t rows() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t qkv_cols() const { return int64_t{spec_.q_heads + 2 * spec_.kv_heads} * spec_.head_dim; }

  const ModelSpec& spec_;
  Backend& backend_;
  std::vector<int32_t> tokens_, positions_;
  std::unique_ptr<Buffer> x_, normed_, qkv_, attended_, gate_up_;
};

}  // namespace tq
