// SPDX-License-Identifier: Apache-2.0
// The architectures written down plainly, in double, over dequantised weights: the oracle of the
// decoder. It reads the file's metadata itself and shares nothing with turboquant/model.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "turboquant/gguf/gguf_file.h"

namespace tq::test {

class ReferenceModel {
 public:
  explicit ReferenceModel(const GgufFile& file);

  using Vector = std::vector<double>;
  using Rows = std::vector<Vector>;
  struct LayerTrace {
    Rows q, k, v;  // [T][H D], [T][G D], [T][G D], after norms and RoPE
  };
  struct Result {
    Rows logits;                     // [T][V]
    std::vector<LayerTrace> layers;  // [L]
  };
  Result Run(std::span<const int32_t> tokens) const;

 private:
  struct Matrix {
    size_t rows = 0, cols = 0;
    std::vector<float> values;
  };
  const Matrix& Get(const std::string& name) const;
  bool Has(const std::string& name) const { return tensors_.contains(name); }
  double Number(const std::string& key, double fallback) const;

  Vector Multiply(const std::string& name, const Vector& x) const;  // W x + bias, if there is one
  Vector Norm(const std::string& name, const Vector& x) const;
  void NormHeads(const std::string& name, Vector& heads) const;
  void Rotate(Vector& heads, int64_t position, bool local) const;
  Vector Attend(const LayerTrace& cache, size_t position, int window) const;

  std::map<std::string, Matrix> tensors_;
  std::map<std::string, double> numbers_;  // metadata without the architecture's prefix
  std::string architecture_, scaling_;
  size_t layers_, q_heads_, kv_heads_, head_dim_;
  double eps_;
};

}  // namespace tq::test
