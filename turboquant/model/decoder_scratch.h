// SPDX-License-Identifier: Apache-2.0
// Activations of one forward pass: grow-only memory of the backend, views sized to the step.
#pragma once

#include <algorithm>
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

inline constexpr int64_t kFrugalRows = 128;  // products of more are not faster on a CPU

// What takes each row by itself goes over a block of rows at a time.
struct RowBlock {
  MatrixView<float> x;         // [rows, E] the residual stream
  MatrixView<float> normed;    // [rows, E] what blocks read and give; of this block of rows alone
  MatrixView<float> qkv;       // [rows, (H + 2 G) D]
  MatrixView<float> attended;  // [rows, H D]
  MatrixView<float> gate_up;   // [rows, 2 F], of this block of rows alone
  MatrixView<float> gate, up;  // its halves
};

class DecoderScratch {
 public:
  DecoderScratch(const ModelSpec& spec, Backend& backend) : spec_(spec), backend_(backend) {}

  // Sizes everything for the plan's T tokens, spans one after another; may throw kOutOfMemory.
  void Begin(const StepPlan& plan) {
    tokens_.clear();
    for (const SequenceSpan& span : plan.spans)
      tokens_.insert(tokens_.end(), span.tokens.begin(), span.tokens.end());
    frugal_ = plan.frugal;
    block_rows_ = frugal_ ? std::min(kFrugalRows, rows()) : rows();
    EnsureSize(x_, backend_, rows() * spec_.embedding);
    EnsureSize(normed_, backend_, block_rows_ * spec_.embedding);
    EnsureSize(qkv_, backend_, rows() * qkv_cols());
    if (!frugal_) EnsureSize(attended_, backend_, rows() * q_cols());
    EnsureSize(gate_up_, backend_, block_rows_ * 2 * spec_.feed_forward);
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

  MatrixView<float> x() const { return {x_->data(), rows(), spec_.embedding}; }  // [T, E]
  MatrixView<float> qkv() const { return {qkv_->data(), rows(), qkv_cols()}; }   // [T, (H + 2 G) D]
  MatrixView<float> attended() const {                                           // [T, H D]
    if (frugal_) return {qkv_->data(), rows(), q_cols(), qkv_cols()};
    return {attended_->data(), rows(), q_cols()};
  }

  template <typename Fn>
  void ForBlocks(Fn&& fn) const {
    for (int64_t begin = 0; begin < rows(); begin += block_rows_)
      fn(Block(begin, std::min(block_rows_, rows() - begin)));
  }

  struct Heads {
    float *q, *k, *v;
  };
  Heads HeadsOf(int64_t row) const {
    float* q = qkv().row(row);
    float* k = q + q_cols();
    return {q, k, k + int64_t{spec_.kv_heads} * spec_.head_dim};
  }

 private:
  int64_t rows() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t q_cols() const { return int64_t{spec_.q_heads} * spec_.head_dim; }
  int64_t qkv_cols() const { return q_cols() + int64_t{2} * spec_.kv_heads * spec_.head_dim; }

  RowBlock Block(int64_t begin, int64_t count) const {
    const auto rows_of = [&](MatrixView<float> m) {
      return MatrixView<float>(m.row(begin), count, m.cols, m.stride);
    };
    const int64_t wide = int64_t{2} * spec_.feed_forward;
    float* gate = gate_up_->data();
    return {.x = rows_of(x()),
            .normed = {normed_->data(), count, spec_.embedding},
            .qkv = rows_of(qkv()),
            .attended = rows_of(attended()),
            .gate_up = {gate, count, wide},
            .gate = {gate, count, spec_.feed_forward, wide},
            .up = {gate + spec_.feed_forward, count, spec_.feed_forward, wide}};
  }

  const ModelSpec& spec_;
  Backend& backend_;
  std::vector<int32_t> tokens_, positions_;
  bool frugal_ = false;
  int64_t block_rows_ = 0;
  std::unique_ptr<Buffer> x_, normed_, qkv_, attended_, gate_up_;
};

}  // namespace tq
