// SPDX-License-Identifier: Apache-2.0
// Page kernels against PageCodec: the same bytes.
#pragma once

#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "device_buffer.h"
#include "tests/attention/page_builder.h"
#include "turboquant/base/half.h"
#include "turboquant/codec/cuda/map_kernels.h"
#include "turboquant/codec/cuda/transform_kernels.h"
#include "turboquant/codec/transform.h"
#include "turboquant/kv/cuda/page_kernels.h"
#include "turboquant/kv/opening_reference.h"

namespace tq {

struct PageCaseSpec {
  int head_dim = 128;
  int kv_heads = 2;
  Codec k = Codec::kTurbo3;
  Codec v = Codec::kTurbo3;
  std::vector<int> chunks = {300};  // tokens appended by each launch
  bool rotate = false;
  bool strange = false;  // NaN, infinities, denormals, zero vectors
  std::vector<PageSpec::Age> ages = {};

  std::string Text() const {
    std::string text =
        fmt::format("D {} G {} k {} v {}{}{} chunks", head_dim, kv_heads, InfoOf(k).name,
                    InfoOf(v).name, rotate ? " rotate" : "", strange ? " strange" : "");
    for (int n : chunks) text += fmt::format(" {}", n);
    for (const PageSpec::Age& age : ages)
      text += fmt::format(" age {} k {} v {}", age.window_pages, InfoOf(age.k).name,
                          InfoOf(age.v).name);
    return text;
  }
};

inline bool SameFloats(const char* what, const std::vector<float>& got,
                       const std::vector<float>& want) {
  for (size_t i = 0; i < got.size(); ++i) {
    const bool both_nan = std::isnan(got[i]) && std::isnan(want[i]);
    if (std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(want[i]) || both_nan) continue;
    std::printf("  %s: element %zu got %.9e want %.9e\n", what, i, static_cast<double>(got[i]),
                static_cast<double>(want[i]));
    return false;
  }
  return true;
}

class PageCase {
 public:
  explicit PageCase(const PageCaseSpec& spec) : spec_(spec) {
    for (int n : spec.chunks) length_ += n;
    Random random(7);
    const int64_t n = int64_t{length_} * spec.kv_heads * spec.head_dim;
    k_ = GaussianVector(random, n);
    v_ = GaussianVector(random, n, 0.3);
    for (size_t i = 0; i < k_.size(); ++i) {
      k_[i] += std::sin(static_cast<float>(i % static_cast<size_t>(spec.kv_heads * spec.head_dim)));
    }
    if (spec.strange) MakeStrange();
    std::vector<float> k = k_, v = v_;
    if (spec.rotate) {
      const int64_t rows = int64_t{length_} * spec.kv_heads;
      if (InfoOf(spec.k).tiles)
        RotateRows(k.data(), rows, spec.head_dim, spec.head_dim, Side::kKey);
      if (InfoOf(spec.v).tiles) {
        RotateRows(v.data(), rows, spec.head_dim, spec.head_dim, Side::kValue);
      }
    }
    stored_k_ = k;
    stored_v_ = v;
    PageSpec pages;
    pages.head_dim = spec.head_dim;
    pages.kv_heads = spec.kv_heads;
    pages.k = spec.k;
    pages.v = spec.v;
    pages.length = length_;
    pages.ages = spec.ages;
    built_ = std::make_unique<BuiltPages>(pages, k.data(), v.data());
  }

  // Appends chunk by chunk, seals form by form, decodes. False after printing what differs.
  bool Run() {
    const KvLayerView& view = built_->view();
    const std::vector<std::byte> want(built_->arena().begin(), built_->arena().end());
    DeviceBuffer<std::byte> arena(want.size());
    DeviceBuffer<uint32_t> open(std::span<const uint32_t>(view.open_pages, Pages()));
    std::vector<uint32_t> sealed_ids;
    std::vector<int32_t> below = {view.visibility.sealed_below};
    for (int form = kSealedForm; form <= LastForm(); ++form) {
      for (int page = 0; page < view.num_pages; ++page)
        sealed_ids.push_back(view.PageId(form, page));
      if (form > kSealedForm) below.push_back(view.Aged(form).aged_below);
    }
    DeviceBuffer<uint32_t> sealed{std::span<const uint32_t>(sealed_ids)};
    DeviceBuffer<int32_t> lost_below{std::span<const int32_t>(below)};
    DeviceBuffer<float> k(std::span<const float>(k_.data(), k_.size()));
    DeviceBuffer<float> v(std::span<const float>(v_.data(), v_.size()));
    DeviceBuffer<int32_t> numbers(3);  // position, tokens, row

    cuda::EncodeArgs encode;
    encode.tables = {open.data(),
                     sealed.data(),
                     numbers.data(),
                     numbers.data() + 1,
                     numbers.data() + 2,
                     lost_below.data(),
                     static_cast<int>(Pages()),
                     1,
                     1};
    encode.pages = {arena.data(), 0, 0, view.open, view.sealed, view.visibility, view.aged,
                    view.num_aged};
    encode.k_stride = encode.v_stride = spec_.kv_heads * spec_.head_dim;
    encode.rotate_k = encode.rotate_v = spec_.rotate;
    DeviceBuffer<float> kept(static_cast<size_t>(length_ * encode.k_stride));
    encode.kept_keys = kept.data();
    int done = 0;
    for (const int n : spec_.chunks) {
      const int32_t values[] = {done, n, 0};
      numbers.Upload(values);
      encode.k = k.data() + done * encode.k_stride;
      encode.v = v.data() + done * encode.v_stride;
      encode.max_tokens = n;
      cuda::LaunchEncode(encode, nullptr);
      if (cuda::NeedsKeyChain(encode)) cuda::LaunchKeyChain(encode, nullptr);
      WaitForDevice();
      done += n;
    }
    bool good = Same("encode", arena.Download(), want, kOpenForm);
    if (spec_.rotate) {
      good &= SameFloats("rotated keys", k.Download(), stored_k_);
      good &= SameFloats("rotated values", v.Download(), stored_v_);
    }

    for (int form = kSealedForm; view.visibility.seals && form <= LastForm(); ++form) {
      // Go on from right pages.
      arena.Upload(std::span<const std::byte>(want.data(), FormBegin(form)));
      const cuda::PageSealer sealer(arena.data(), view.Layout(form - 1), view.Layout(form),
                                    JobsTo(form));
      sealer.SealAll(nullptr);
      WaitForDevice();
      good &= Same("seal", arena.Download(), want, form);
      if (form > kSealedForm) continue;
      // The same in parts: values need nothing of the rest.
      arena.Fill(0xff);
      arena.Upload(std::span<const std::byte>(want.data(), FormBegin(form)));
      for (const Side side : {Side::kKey, Side::kValue}) sealer.PrepareSearch(side, nullptr);
      sealer.Search(Side::kValue, false, nullptr);
      sealer.SealRest(nullptr);
      sealer.Search(Side::kKey, false, nullptr);
      WaitForDevice();
      good &= Same("seal in parts", arena.Download(), want, form);
    }

    arena.Upload(std::span<const std::byte>(want.data(), want.size()));
    good &= CheckDequantize(encode, arena);
    for (int form = kSealedForm; view.visibility.seals && form <= LastForm(); ++form)
      good &= CheckOpening(encode, arena, numbers, form);
    return good;
  }

 private:
  size_t Pages() const { return static_cast<size_t>(built_->view().num_pages); }
  int LastForm() const { return kSealedForm + built_->view().num_aged; }
  // Pages of a form lie one after the other.
  uint64_t FormBegin(int form) const { return built_->view().PageId(form, 0) * kPageIdUnit; }
  uint64_t FormEnd(int form) const {
    return form < LastForm() ? FormBegin(form + 1) : built_->arena().size();
  }

  std::vector<cuda::SealJob> JobsTo(int form) const {
    const KvLayerView& view = built_->view();
    std::vector<cuda::SealJob> jobs;
    for (int page = 0; page < length_ / kPageTokens; ++page) {
      for (int head = 0; head < spec_.kv_heads; ++head) {
        for (const Side side : {Side::kKey, Side::kValue}) {
          const auto offset = [&](int of_form, int of_page) {
            return static_cast<uint64_t>(view.Head(of_form, of_page, head) - view.arena);
          };
          jobs.push_back({offset(form - 1, page), offset(form, page), side});
          // Of some pages the mean is taken from the page behind.
          const int behind = page + 1;
          if (form == kSealedForm && page % 2 == 1 && behind < view.num_pages)
            jobs.back().behind_offset = offset(kOpenForm, behind);
        }
      }
    }
    return jobs;
  }

  // A page that opens behind one that has lost its forms before `form`, as after a truncation.
  bool CheckOpening(cuda::EncodeArgs encode, const DeviceBuffer<std::byte>& arena,
                    DeviceBuffer<int32_t>& numbers, int form) const {
    const int page = (length_ - 1) / kPageTokens;
    KvLayerView view = built_->view();
    if (page == 0 || !InfoOf(view.open.k).tiles) return true;
    std::vector<uint32_t> open(Pages(), kNoPage), sealed;
    open.back() = view.open_pages[page];
    for (int of = kSealedForm; of <= LastForm(); ++of) {
      for (int i = 0; i < view.num_pages; ++i)
        sealed.push_back(of < form ? kNoPage : view.PageId(of, i));
    }
    view.open_pages = open.data();
    view.sealed_pages = sealed.data();
    for (int i = 0; i < view.num_aged; ++i)
      view.aged[static_cast<size_t>(i)].pages = sealed.data() + (i + 1) * view.num_pages;
    DeviceBuffer<uint32_t> open_ids{std::span<const uint32_t>(open)};
    DeviceBuffer<uint32_t> sealed_ids{std::span<const uint32_t>(sealed)};
    DeviceBuffer<float> k{std::span<const float>(k_)}, v{std::span<const float>(v_)};
    const int32_t values[] = {page * kPageTokens, 1, 0};
    numbers.Upload(values);
    encode.tables.open_pages = open_ids.data();
    encode.tables.sealed_pages = sealed_ids.data();
    encode.k = k.data();
    encode.v = v.data();
    encode.max_tokens = 1;
    cuda::LaunchEncode(encode, nullptr);
    WaitForDevice();
    const std::vector<std::byte> got = arena.Download();
    for (int head = 0; head < spec_.kv_heads; ++head) {
      std::vector<float> mean(static_cast<size_t>(spec_.head_dim));
      std::vector<std::byte> want(view.open.head_bytes);
      OpeningReference(GetPageCodec(), view, page, head, mean.data());
      GetPageCodec().SetReference(view.open, want.data(), mean.data());
      const auto at = static_cast<size_t>(view.OpenHead(page, head) - view.arena);
      const size_t begin = view.open.reference_offset, end = view.open.tiles_offset;
      if (std::memcmp(got.data() + at + begin, want.data() + begin, end - begin) == 0) continue;
      std::printf("  opening behind form %d: head %d has another reference\n", form, head);
      return false;
    }
    return true;
  }

  void MakeStrange() {
    const float odd[] = {NAN,     INFINITY, -INFINITY, 1e38f, -1e38f, 1e-40f,
                         -1e-42f, 0.0f,     -0.0f,     65504, 1e-7f,  -3e5f};
    const size_t d = static_cast<size_t>(spec_.head_dim);
    for (std::vector<float>* x : {&k_, &v_}) {
      for (size_t i = 0; i < x->size(); i += 37) (*x)[i] = odd[i / 37 % std::size(odd)];
      for (size_t i = 0; i + d <= x->size(); i += 11 * d) {
        std::fill_n(x->begin() + static_cast<std::ptrdiff_t>(i), d, i % 2 == 0 ? 0.0f : 1e-41f);
      }
    }
  }

  // Which page, head and offset of it.
  bool Same(const char* what, const std::vector<std::byte>& got, const std::vector<std::byte>& want,
            int form) const {
    size_t differing = 0;
    size_t first = 0;
    for (uint64_t i = FormBegin(form); i < FormEnd(form); ++i) {
      if (got[i] == want[i]) continue;
      if (differing++ == 0) first = i;
    }
    if (differing == 0) return true;
    const PageLayout& layout = built_->view().Layout(form);
    const uint64_t block = (layout.bytes() + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
    const uint64_t in_page = (first - FormBegin(form)) % block;
    const uint64_t in_head = in_page % layout.head_bytes;
    std::printf("  %s, form %d: %zu bytes differ; first: page %llu head %llu offset %llu", what,
                form, differing, static_cast<unsigned long long>((first - FormBegin(form)) / block),
                static_cast<unsigned long long>(in_page / layout.head_bytes),
                static_cast<unsigned long long>(in_head));
    if (in_head >= layout.tiles_offset && layout.tile_bytes != 0) {
      std::printf(
          " (tile %llu + %llu; v at %u, scales at %u)",
          static_cast<unsigned long long>((in_head - layout.tiles_offset) / layout.tile_bytes),
          static_cast<unsigned long long>((in_head - layout.tiles_offset) % layout.tile_bytes),
          layout.tile_v_offset, layout.tile_scale_offset);
    }
    std::printf(": got %02x want %02x\n", static_cast<unsigned>(got[first]),
                static_cast<unsigned>(want[first]));
    return false;
  }

  bool CheckDequantize(const cuda::EncodeArgs& encode, const DeviceBuffer<std::byte>& arena) const {
    const KvLayerView& view = built_->view();
    const int d = spec_.head_dim, kv = spec_.kv_heads;
    cuda::DequantizeArgs args;
    args.tables = encode.tables;
    args.pages = encode.pages;
    args.pages.arena = arena.data();
    args.position = length_ - 1;
    args.first = length_ > 40 ? 37 : 0;
    args.count = length_ - static_cast<int>(args.first);
    const auto n = static_cast<size_t>(args.count) * static_cast<size_t>(kv * d);
    DeviceBuffer<uint16_t> k(n), v(n);
    args.k = k.data();
    args.v = v.data();
    cuda::LaunchDequantize(args, nullptr);
    WaitForDevice();
    const std::vector<uint16_t> got_k = k.Download(), got_v = v.Download();
    const PageCodec& codec = GetPageCodec();
    std::vector<float> row(static_cast<size_t>(d));
    for (int i = 0; i < args.count; ++i) {
      const int position = static_cast<int>(args.first) + i;
      const int page = position / kPageTokens;
      const int form = view.FormAt(page, args.position);
      const PageLayout& layout = view.Layout(form);
      for (int head = 0; head < kv; ++head) {
        const std::byte* block = view.Head(form, page, head);
        for (const bool keys : {true, false}) {
          const auto decode = keys ? codec.DecodeKeys : codec.DecodeValues;
          decode(layout, block, position % kPageTokens, {row.data(), 1, d});
          for (int dim = 0; dim < d; ++dim) {
            const float value = row[static_cast<size_t>(dim)];
            const Half want = FloatToHalf(std::fmin(std::fmax(value, -65504.0f), 65504.0f));
            const size_t at = static_cast<size_t>((i * kv + head) * d + dim);
            const Half got = keys ? got_k[at] : got_v[at];
            if (got == want) continue;
            std::printf("  dequantize %s: token %d head %d dim %d form %d got %04x want %04x\n",
                        keys ? "keys" : "values", position, head, dim, form, got, want);
            return false;
          }
        }
      }
    }
    return true;
  }

  PageCaseSpec spec_;
  int length_ = 0;
  std::vector<float> k_, v_, stored_k_, stored_v_;
  std::unique_ptr<BuiltPages> built_;
};

// The rotation, to the bit.
inline bool CheckTransform(int head_dim, Side side, bool back) {
  constexpr int kRows = 11, kHeads = 4;
  Random random(5);
  const std::vector<float> x = GaussianVector(random, int64_t{kRows} * kHeads * head_dim);
  DeviceBuffer<float> device(std::span<const float>(x.data(), x.size()));
  cuda::TransformArgs args;
  args.x = device.data();
  args.rows = kRows;
  args.stride = kHeads * head_dim;
  args.heads = kHeads;
  args.head_dim = head_dim;
  args.side = side;
  (back ? cuda::LaunchToModel : cuda::LaunchToStored)(args, nullptr);
  WaitForDevice();
  std::vector<float> want = x;
  (back ? RotateBackRows : RotateRows)(want.data(), kRows * kHeads, head_dim, head_dim, side,
                                       ActiveIsa());
  return SameFloats("transform", device.Download(), want);
}

// Rows of heads times a matrix of their KV head, against double.
inline bool CheckMapRows(int head_dim, int rows) {
  constexpr int kHeads = 4, kMaps = 2;
  Random random(6);
  const int64_t stride = kHeads * head_dim + 8;
  const std::vector<float> x = GaussianVector(random, rows * stride);
  const std::vector<float> maps = GaussianVector(random, int64_t{kMaps} * head_dim * head_dim, 0.1);
  DeviceBuffer<float> device(std::span<const float>(x.data(), x.size()));
  DeviceBuffer<float> device_maps(std::span<const float>(maps.data(), maps.size()));
  cuda::LaunchMapRows({.x = device.data(),
                       .rows = rows,
                       .stride = stride,
                       .heads = kHeads,
                       .head_dim = head_dim,
                       .matrices = device_maps.data(),
                       .map_heads = kMaps},
                      nullptr);
  WaitForDevice();
  const std::vector<float> got = device.Download();
  for (int64_t i = 0; i < rows * stride; ++i) {
    const int64_t row = i / stride, head = i % stride / head_dim, d = i % stride % head_dim;
    double want = x[static_cast<size_t>(i)];  // between rows: untouched
    if (head < kHeads) {
      const float* from = x.data() + row * stride + head * head_dim;
      const float* matrix = maps.data() + head / (kHeads / kMaps) * head_dim * head_dim;
      want = 0;
      for (int j = 0; j < head_dim; ++j)
        want += static_cast<double>(from[j]) * matrix[j * head_dim + d];
    }
    if (std::fabs(got[static_cast<size_t>(i)] - want) < 1e-6 * std::sqrt(head_dim)) continue;
    std::printf("  map rows: row %d element %d got %.9e want %.9e\n", static_cast<int>(row),
                static_cast<int>(i % stride), static_cast<double>(got[static_cast<size_t>(i)]),
                want);
    return false;
  }
  return true;
}

}  // namespace tq
