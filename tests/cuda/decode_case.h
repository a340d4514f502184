// SPDX-License-Identifier: Apache-2.0
// A batch of random sequences at one layer, on the device and for the reference.
#pragma once

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "device_buffer.h"
#include "tests/attention/page_builder.h"
#include "turboquant/attention/attention.h"
#include "turboquant/attention/cuda/decode_attention.h"
#include "turboquant/codec/transform.h"

namespace tq {

enum class Data { kGaussian, kOutliers, kZeros, kSink, kLateSink, kTiny };

struct DecodeSpec {
  int head_dim = 128;
  int kv_heads = 2;
  int group = 4;
  Codec k = Codec::kTurbo3;
  Codec v = Codec::kTurbo3;
  std::vector<int> lengths = {
      300};        // tokens in the cache, those of the step included; 0: idle slot
  int tokens = 1;  // queries of the first sequence; the others have one
  int window_pages = 1;
  int sliding_window = 0;
  int sink_pages = 1;
  int sealed_below = 0;
  std::vector<PageSpec::Age> ages = {};
  bool generic = false;
  bool narrow = false;
  int blocks = 0;
  bool overlap = false;  // launches that are set up while the one before still runs
  bool rotate = true;    // queries and outputs in the model's basis
  Data data = Data::kGaussian;
  uint64_t seed = 1;

  std::string Text() const {
    std::string text = fmt::format(
        "D {} G {} group {} k {} v {} T {} window {} slide {} sinks {} below {}{}{} data {} "
        "lengths",
        head_dim, kv_heads, group, InfoOf(k).name, InfoOf(v).name, tokens, window_pages,
        sliding_window, sink_pages, sealed_below,
        generic   ? " generic"
        : narrow  ? " narrow"
        : overlap ? " overlap"
                  : "",
        rotate ? "" : " stored basis", static_cast<int>(data));
    for (int n : lengths) text += fmt::format(" {}", n);
    if (blocks > 0) text += fmt::format(" blocks {}", blocks);
    for (const PageSpec::Age& age : ages)
      text += fmt::format(" age {} k {} v {} below {}", age.window_pages, InfoOf(age.k).name,
                          InfoOf(age.v).name, age.aged_below);
    return text;
  }
};

class DecodeCase {
 public:
  explicit DecodeCase(const DecodeSpec& spec) : spec_(spec) {
    Random random(spec.seed);
    for (size_t i = 0; i < spec.lengths.size(); ++i) AddSequence(static_cast<int>(i), random);
  }

  // Largest error of a head's output relative to its norm; prints where, if it is too large.
  double Run() {
    const int d = spec_.head_dim, heads = spec_.kv_heads * spec_.group;
    Upload();
    DeviceBuffer<float> q{std::span<const float>(q_)};
    DeviceBuffer<float> out(q_.size());
    cuda::DecodeArgs args;
    args.tables = Tables();
    args.pages = pages_;
    args.q = q.data();
    args.out = out.data();
    args.q_stride = args.out_stride = heads * d;
    args.q_heads = heads;
    args.tokens = spec_.tokens;
    args.scale = Scale();
    args.rotate_q = spec_.rotate && InfoOf(spec_.k).tiles;
    args.rotate_out = spec_.rotate && InfoOf(spec_.v).tiles;
    args.generic = spec_.generic;
    args.narrow = spec_.narrow;
    args.overlap = spec_.overlap;
    args.blocks = spec_.blocks;
    const int64_t bytes = cuda::DecodeWorkspaceBytes({d, spec_.kv_heads, heads, spec_.tokens});
    DeviceBuffer<std::byte> workspace(static_cast<size_t>(bytes));
    workspace.Fill(0xff);  // not a number: nothing of it counts
    double worst = 0;
    for (int repeat = 0; repeat < 2; ++repeat) {  // the second launch finds the first one's parts
      out.Fill(0xff);
      for (int launch = 0; launch < (spec_.overlap ? 3 : 1); ++launch) {
        cuda::LaunchDecodeAttention(args, workspace.data(), bytes, nullptr);
      }
      WaitForDevice();
      const double error = Compare(out.Download());
      if (!(error <= worst)) worst = error;
    }
    return worst;
  }

 private:
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(spec_.head_dim)); }
  int Tokens(size_t i) const { return spec_.lengths[i] == 0 ? 0 : i == 0 ? spec_.tokens : 1; }

  void AddSequence(int index, Random& random) {
    const auto i = static_cast<size_t>(index);
    const int d = spec_.head_dim, kv = spec_.kv_heads;
    const int length = spec_.lengths[i];
    const int tokens = Tokens(i);
    rows_.push_back(static_cast<int32_t>(q_.size()) / (kv * spec_.group * d));
    const std::vector<float> queries =
        GaussianVector(random, static_cast<int64_t>(tokens) * kv * spec_.group * d,
                       spec_.data == Data::kTiny ? 1e-3 : 1);
    q_.insert(q_.end(), queries.begin(), queries.end());
    if (length == 0) {
      sequences_.push_back(nullptr);
      return;
    }
    PageSpec pages;
    pages.head_dim = d;
    pages.kv_heads = kv;
    pages.k = spec_.k;
    pages.v = spec_.v;
    pages.length = length;
    pages.visibility = {spec_.window_pages, spec_.sink_pages, spec_.sliding_window, true,
                        spec_.sealed_below};
    pages.ages = spec_.ages;
    std::vector<float> k = GaussianVector(random, int64_t{length} * kv * d);
    std::vector<float> v = GaussianVector(random, int64_t{length} * kv * d);
    const std::vector<float> common = GaussianVector(random, kv * d, 2);
    for (size_t j = 0; j < k.size(); ++j) k[j] += common[j % common.size()];
    switch (spec_.data) {
      case Data::kOutliers:
        for (size_t j = 0; j < k.size(); j += 97) k[j] *= 50;
        for (size_t j = 0; j < v.size(); j += 131) v[j] *= 1000;
        break;
      case Data::kZeros:
        for (size_t j = 0; j < v.size(); ++j) v[j] = j / static_cast<size_t>(d) % 3 == 0 ? v[j] : 0;
        for (size_t j = 0; j < k.size(); ++j) k[j] = j / static_cast<size_t>(d) % 5 == 0 ? k[j] : 0;
        break;
      case Data::kSink:
      case Data::kLateSink: {  // one key lies far above the others
        std::vector<float> z(queries.begin(), queries.begin() + d);
        if (spec_.rotate) Rotate(z, Side::kKey);
        const int token = spec_.data == Data::kSink ? 0 : length * 2 / 3;
        float* key = k.data() + int64_t{token} * kv * d;
        for (int j = 0; j < d; ++j) key[j] = 3 * z[static_cast<size_t>(j)];
        break;
      }
      case Data::kTiny:
        for (float& x : v) x *= 1e-5f;
        break;
      case Data::kGaussian:
        break;
    }
    sequences_.push_back(std::make_unique<BuiltPages>(pages, k.data(), v.data()));
  }

  void Upload() {
    int page_stride = 1;
    for (const auto& s : sequences_) {
      if (s != nullptr) page_stride = std::max(page_stride, s->view().num_pages);
    }
    std::vector<std::byte> arena;
    const auto slots = sequences_.size(), stride = static_cast<size_t>(page_stride);
    std::vector<uint32_t> open(slots * stride, kNoPage);
    std::vector<uint32_t> sealed((1 + spec_.ages.size()) * slots * stride, kNoPage);
    std::vector<int32_t> positions, tokens;
    for (size_t i = 0; i < sequences_.size(); ++i) {
      tokens.push_back(Tokens(i));
      positions.push_back(spec_.lengths[i] - Tokens(i));
      if (sequences_[i] == nullptr) continue;
      const KvLayerView& view = sequences_[i]->view();
      const auto base = static_cast<uint32_t>(arena.size() / kPageIdUnit);
      for (int page = 0; page < view.num_pages; ++page) {
        const size_t at = i * stride + static_cast<size_t>(page);
        open[at] = base + view.open_pages[page];
        for (int form = 0; form <= view.num_aged; ++form)
          sealed[static_cast<size_t>(form) * slots * stride + at] =
              base + view.PageId(kSealedForm + form, page);
      }
      arena.insert(arena.end(), sequences_[i]->arena().begin(), sequences_[i]->arena().end());
      arena.resize((arena.size() + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit);
      pages_.open = view.open;
      pages_.sealed = view.sealed;
      pages_.visibility = ViewOf(i).visibility;
      pages_.aged = view.aged;
      pages_.num_aged = view.num_aged;
    }
    arena_ = std::make_unique<DeviceBuffer<std::byte>>(std::span<const std::byte>(arena));
    open_ = std::make_unique<DeviceBuffer<uint32_t>>(std::span<const uint32_t>(open));
    sealed_ = std::make_unique<DeviceBuffer<uint32_t>>(std::span<const uint32_t>(sealed));
    positions_ = std::make_unique<DeviceBuffer<int32_t>>(std::span<const int32_t>(positions));
    tokens_ = std::make_unique<DeviceBuffer<int32_t>>(std::span<const int32_t>(tokens));
    device_rows_ = std::make_unique<DeviceBuffer<int32_t>>(std::span<const int32_t>(rows_));
    std::vector<int32_t> below(slots, spec_.sealed_below);
    for (const PageSpec::Age& age : spec_.ages) below.insert(below.end(), slots, age.aged_below);
    below_ = std::make_unique<DeviceBuffer<int32_t>>(std::span<const int32_t>(below));
    pages_.arena = arena_->data();
    page_stride_ = page_stride;
  }

  cuda::StepTables Tables() const {
    cuda::StepTables tables;
    tables.open_pages = open_->data();
    tables.sealed_pages = sealed_->data();
    tables.first_positions = positions_->data();
    tables.tokens = tokens_->data();
    tables.first_rows = device_rows_->data();
    tables.sealed_below = spec_.sealed_below > 0 || !spec_.ages.empty() ? below_->data() : nullptr;
    tables.page_stride = page_stride_;
    tables.slots = tables.table_slots = static_cast<int>(sequences_.size());
    return tables;
  }

  // As the cache has it: 8 bits on both sides never seal.
  KvLayerView ViewOf(size_t i) const {
    KvLayerView view = sequences_[i]->view();
    const bool same = view.open.k == view.sealed.k && view.open.v == view.sealed.v;
    if (same && !spec_.generic) view.visibility.seals = false;
    return view;
  }

  double Compare(const std::vector<float>& got) {
    if (want_.empty()) MakeReference();
    const int d = spec_.head_dim, heads = spec_.kv_heads * spec_.group;
    double worst = 0;
    size_t worst_at = 0;
    for (size_t at = 0; at < got.size(); at += static_cast<size_t>(d)) {
      double error = 0, norm = 1e-30;
      for (size_t j = at; j < at + static_cast<size_t>(d); ++j) {
        const double e = static_cast<double>(got[j]) - want_[j];
        error += e * e;
        norm += static_cast<double>(want_[j]) * want_[j];
      }
      const double relative = std::sqrt(error / norm);
      if (!(relative <= worst)) {
        worst = relative;
        worst_at = at;
        if (std::isnan(relative)) break;
      }
    }
    if (!(worst <= 3e-4)) {
      std::printf("  row %zu head %zu:\n", worst_at / static_cast<size_t>(d * heads),
                  worst_at / static_cast<size_t>(d) % static_cast<size_t>(heads));
      for (size_t j = 0; j < static_cast<size_t>(d); j += static_cast<size_t>(d / 16)) {
        std::printf("    dim %3zu got % .6e want % .6e\n", j,
                    static_cast<double>(got[worst_at + j]),
                    static_cast<double>(want_[worst_at + j]));
      }
    }
    return worst;
  }

  void MakeReference() {
    const int d = spec_.head_dim, heads = spec_.kv_heads * spec_.group;
    std::vector<float> q = q_;
    const bool rotate_q = spec_.rotate && InfoOf(spec_.k).tiles;
    const bool rotate_out = spec_.rotate && InfoOf(spec_.v).tiles;
    const auto vectors = static_cast<int64_t>(q.size()) / d;
    if (rotate_q) RotateRows(q.data(), vectors, d, d, Side::kKey);
    want_.assign(q.size(), NAN);
    for (size_t i = 0; i < sequences_.size(); ++i) {
      if (sequences_[i] == nullptr) continue;
      AttentionArgs args;
      args.kv = ViewOf(i);
      args.q = q.data() + int64_t{rows_[i]} * heads * d;
      args.out = want_.data() + int64_t{rows_[i]} * heads * d;
      args.q_stride = args.out_stride = heads * d;
      args.tokens = Tokens(i);
      args.first_position = spec_.lengths[i] - Tokens(i);
      args.q_heads = heads;
      args.scale = Scale();
      AttendReference(args);
    }
    if (rotate_out) RotateBackRows(want_.data(), vectors, d, d, Side::kValue);
  }

  DecodeSpec spec_;
  std::vector<std::unique_ptr<BuiltPages>> sequences_;
  std::vector<int32_t> rows_;
  std::vector<float> q_, want_;
  cuda::LayerPages pages_;
  int page_stride_ = 0;
  std::unique_ptr<DeviceBuffer<std::byte>> arena_;
  std::unique_ptr<DeviceBuffer<uint32_t>> open_, sealed_;
  std::unique_ptr<DeviceBuffer<int32_t>> positions_, tokens_, device_rows_, below_;
};

}  // namespace tq
