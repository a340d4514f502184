// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/cuda/device_linear.h"

#include <algorithm>

#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/error.h"
#include "turboquant/ops/cuda/elementwise_kernels.h"
#include "turboquant/ops/packed_panels.h"

namespace tq::cuda {
namespace {

// Bytes of dequantised weights at a time, and of those made before their products.
constexpr int64_t kPanelWorkspace = int64_t{256} << 20, kAheadWorkspace = int64_t{64} << 20;

const PackedLayout& LayoutAt(int index) { return kPackedLayouts[static_cast<size_t>(index)]; }

DeviceWeight ViewOf(int layout, int64_t rows, int64_t cols) {
  if (cols % kGroupColumns != 0) {
    Throw(ErrorCode::kUnsupported,
          "device 'cuda' runs matrices of a multiple of {} columns, this one has {}: run the model "
          "with --device cpu",
          kGroupColumns, cols);
  }
  return {nullptr, layout, rows, cols, LayoutAt(layout).panel_bytes(cols)};
}

size_t BytesOf(const DeviceWeight& view) {
  return static_cast<size_t>((view.rows + kPanelRows - 1) / kPanelRows * view.panel_bytes);
}

}  // namespace

DeviceWeightMatrix::DeviceWeightMatrix(int layout, int64_t rows, int64_t cols)
    : memory_(BytesOf(ViewOf(layout, rows, cols)), "weights"), view_(ViewOf(layout, rows, cols)) {
  view_.panels = panels();
}

DeviceWeightMatrix::DeviceWeightMatrix(const PackedWeight& host)
    : DeviceWeightMatrix(static_cast<const PackedPanels&>(host).layout_index(), host.rows(),
                         host.cols()) {
  TQ_CHECK(host.bytes() == bytes());
  CopyToDevice(panels(), static_cast<const PackedPanels&>(host).panel(0), bytes(),
               "copying weights");
}

std::string DeviceWeightMatrix::layout_name() const {
  return std::string(LayoutAt(view_.layout).name);
}

void DeviceWeightMatrix::DecodeRow(int64_t r, float* out) const {
  PackedPanels panel(view_.layout, kPanelRows, view_.cols);
  Check(cudaMemcpy(panel.mutable_panel(0), view_.panels + r / kPanelRows * view_.panel_bytes,
                   static_cast<size_t>(view_.panel_bytes), cudaMemcpyDeviceToHost),
        "reading weights");
  panel.DecodeRow(r % kPanelRows, out);
}

ProductTokens DeviceLinear::PlaceOf(MatrixView<const float> x) const {
  if (x.rows > kFewTokens) return {.bf16 = bf16_.as<uint16_t>()};
  return {.records = records_.as<uint8_t>()};
}

ProductTokens DeviceLinear::TokensFor(MatrixView<const float> x) {
  Forget();
  if (x.rows > kFewTokens) {
    if (!fast_) return {};
    Reserve(bf16_, static_cast<size_t>(x.rows * x.cols) * sizeof(uint16_t), "tokens");
  } else {
    if (x.cols % kGroupColumns != 0) return {};
    Reserve(records_, static_cast<size_t>(TokenRecordsBytes(x.cols)), "tokens");
  }
  made_ = x;
  return PlaceOf(x);
}

bool DeviceLinear::HasTokensOf(MatrixView<const float> x) const {
  return made_.data == x.data && made_.rows == x.rows && made_.cols == x.cols &&
         made_.stride == x.stride;
}

// Of a fast product's tokens: as the operation that made them left them, else converted here.
ProductTokens DeviceLinear::Converted(MatrixView<const float> x) {
  if (HasTokensOf(x)) return PlaceOf(x);
  const ProductTokens tokens = TokensFor(x);
  if (tokens.records != nullptr) LaunchQuantizeTokens(x, tokens.records, stream_);
  if (tokens.bf16 != nullptr) LaunchToBf16(x, tokens.bf16, stream_);
  return tokens;
}

void DeviceLinear::Run(MatrixView<const float> x, std::span<const LinearOut> outs,
                       Precision precision) {
  if (x.rows == 0) return;
  Expect(precision);
  for (const LinearOut& out : outs) {
    const DeviceWeight& weight = static_cast<const DeviceWeightMatrix&>(*out.weight).view();
    TQ_CHECK(weight.cols == x.cols && out.out.cols == weight.rows && out.out.rows == x.rows);
    if (x.rows > kFewTokens) {
      Many(x, out, weight);
      continue;
    }
    const bool int8 = fast_ && LayoutAt(weight.layout).quantised();
    MatVecCall call;
    call.weight = weight;
    call.x = x;
    call.quantises = int8 && outs.size() == 1 && !HasTokensOf(x) && QuantisesFloats(weight, x);
    call.records = int8 && !call.quantises ? Converted(x).records : nullptr;
    call.bias = out.bias;
    call.out = out.out;
    LaunchMatVec(call, stream_);
  }
  announced_.clear();
  Forget();
  CheckLaunch("multiplying matrices");
}

void DeviceLinear::Announce(const PackedWeight& weight) {
  const DeviceWeight& view = static_cast<const DeviceWeightMatrix&>(weight).view();
  const int64_t first = announced_.empty() ? 0 : announced_.back().end;
  const int64_t end = first + view.rows * view.cols;
  if (end * 2 <= kAheadWorkspace) announced_.push_back({&view, first, end});
}

void DeviceLinear::DequantizeAnnounced() {
  ahead_.clear();
  Reserve(ahead_panels_, static_cast<size_t>(announced_.back().end) * 2, "dequantised weights");
  for (const auto& [weight, first, end] : announced_)
    LaunchDequantizeBf16(*weight, 0, weight->rows, ahead_panels_.as<uint16_t>() + first, stream_);
  ahead_.swap(announced_);
}

void DeviceLinear::Product(const uint16_t* tokens, const uint16_t* panels, int64_t cols,
                           MatrixView<float> out, bool accumulate) {
  before_product_();
  cublas_.ProductBf16(tokens, panels, cols, out, accumulate);
}

void DeviceLinear::Many(MatrixView<const float> x, const LinearOut& out,
                        const DeviceWeight& weight) {
  const bool accumulate = out.bias != nullptr;
  const uint16_t* tokens = fast_ ? Converted(x).bf16 : nullptr;
  if (accumulate) LaunchFillRows(out.out, out.bias, stream_);
  const auto ahead = std::ranges::find(ahead_, &weight, &Ahead::weight);
  if (fast_ && ahead != ahead_.end()) {
    Product(tokens, ahead_panels_.as<uint16_t>() + ahead->first, x.cols, out.out, accumulate);
    ahead_.erase(ahead);
    return;
  }
  const int64_t row_bytes = weight.cols * (fast_ ? 2 : 4);
  const int64_t at_once = kPanelWorkspace / row_bytes / kPanelRows * kPanelRows;
  const int64_t step = std::min(std::max(at_once, int64_t{kPanelRows}), weight.rows);
  Reserve(panels_, static_cast<size_t>((step + kPanelRows) * row_bytes), "dequantised weights");
  for (int64_t row = 0; row < weight.rows; row += step) {
    const int64_t rows = std::min(step, weight.rows - row);
    const MatrixView<float> part(out.out.data + row, x.rows, rows, out.out.stride);
    if (fast_) {
      LaunchDequantizeBf16(weight, row, rows, panels_.as<uint16_t>(), stream_);
      if (!announced_.empty()) DequantizeAnnounced();
      Product(tokens, panels_.as<uint16_t>(), x.cols, part, accumulate);
    } else {
      LaunchDequantizeF32(weight, row, rows, panels_.as<float>(), stream_);
      cublas_.ProductF32(x, panels_.as<float>(), part, accumulate);
    }
  }
}

}  // namespace tq::cuda
