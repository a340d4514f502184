// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/calibration_file.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/kv/atomic_file.h"

namespace tq {
namespace {

static_assert(std::endian::native == std::endian::little, "calibration files are little-endian");

struct Head {
  std::array<char, 8> magic = {'T', 'Q', 'C', 'A', 'L', 'I', '\x1a', '\n'};
  uint32_t version = kCalibrationVersion;
  uint32_t zero = 0;
  uint64_t file_bytes = 0;
  uint64_t checksum = 0;  // over what follows, seeded by that over this head with a checksum of 0
  uint64_t model_id = 0;
  uint64_t text_hash = 0;
  int32_t tokens = 0;
  int32_t num_layers = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
};
static_assert(sizeof(Head) == 64);

uint64_t Checksum(Head head, std::span<const std::byte> rest) {
  head.checksum = 0;
  return Hash64(rest, Hash64(std::as_bytes(std::span(&head, 1))));
}

// The floats of one KV head: mean [D], score gain, error ratios, then A and A^-T or nothing.
constexpr size_t kFigures = 1 + kCalibratedBits.size();

class FloatReader {
 public:
  explicit FloatReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint32_t Flag() {
    uint32_t flag;
    std::memcpy(&flag, Take(sizeof flag).data(), sizeof flag);
    if (flag > 1) Throw(ErrorCode::kCorruptFile, "it is damaged: a flag is {}", flag);
    return flag;
  }
  std::vector<float> Floats(size_t count) {
    const auto from = Take(count * sizeof(float));
    std::vector<float> floats(count);
    if (count > 0) std::memcpy(floats.data(), from.data(), from.size());
    if (!std::ranges::all_of(floats, [](float x) { return std::isfinite(x); }))
      Throw(ErrorCode::kCorruptFile, "it is damaged: a number in it is not finite");
    return floats;
  }
  void End() const {
    if (!bytes_.empty())
      Throw(ErrorCode::kCorruptFile, "it is damaged: {} bytes are left over", bytes_.size());
  }

 private:
  std::span<const std::byte> Take(size_t n) {
    if (n > bytes_.size()) Throw(ErrorCode::kCorruptFile, "it is damaged: it ends within a field");
    const auto taken = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return taken;
  }
  std::span<const std::byte> bytes_;
};

}  // namespace

std::vector<std::byte> WriteCalibration(Calibration& c) {
  std::vector<std::byte> bytes(sizeof(Head));
  const auto put = [&](const auto& values) {
    const auto added = std::as_bytes(std::span(values));
    bytes.insert(bytes.end(), added.begin(), added.end());
  };
  for (const HeadCalibration& head : c.heads) {
    put(std::array{static_cast<uint32_t>(head.forward.empty() ? 0 : 1)});
    put(head.mean);
    put(std::array{head.score_gain_db});
    put(head.error_ratio);
    put(head.forward);
    put(head.inverse_transpose);
  }
  Head head;
  head.file_bytes = bytes.size();
  head.model_id = c.model_id;
  head.text_hash = c.text_hash;
  head.tokens = c.tokens;
  head.num_layers = c.num_layers;
  head.kv_heads = c.kv_heads;
  head.head_dim = c.head_dim;
  c.id = head.checksum = Checksum(head, std::span(bytes).subspan(sizeof head));
  std::memcpy(bytes.data(), &head, sizeof head);
  return bytes;
}

Calibration ReadCalibration(std::span<const std::byte> bytes) {
  Head head, expected;
  if (bytes.size() < sizeof head)
    Throw(ErrorCode::kCorruptFile, "it is no calibration: {} bytes are too few", bytes.size());
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.magic != expected.magic) Throw(ErrorCode::kCorruptFile, "it is no calibration");
  if (head.version != kCalibrationVersion) {
    Throw(ErrorCode::kUnsupported, "it has format version {}, this build reads version {}",
          head.version, kCalibrationVersion);
  }
  if (head.file_bytes != bytes.size()) {
    Throw(ErrorCode::kCorruptFile, "it is {}: {} bytes of {}",
          bytes.size() < head.file_bytes ? "truncated" : "too long", bytes.size(), head.file_bytes);
  }
  const auto rest = bytes.subspan(sizeof head);
  if (Checksum(head, rest) != head.checksum)
    Throw(ErrorCode::kCorruptFile, "it is damaged: it does not match its checksum");
  if (std::ranges::find(kHeadDims, head.head_dim) == kHeadDims.end() || head.num_layers < 1 ||
      head.kv_heads < 1 || head.zero != 0 ||
      static_cast<uint64_t>(head.num_layers) * static_cast<uint64_t>(head.kv_heads) > rest.size()) {
    Throw(ErrorCode::kCorruptFile, "it is damaged: {} layers with {} KV heads of dim {} cannot be",
          head.num_layers, head.kv_heads, head.head_dim);
  }
  Calibration c;
  c.id = head.checksum;
  c.model_id = head.model_id;
  c.text_hash = head.text_hash;
  c.tokens = head.tokens;
  c.num_layers = head.num_layers;
  c.kv_heads = head.kv_heads;
  c.head_dim = head.head_dim;
  const auto dim = static_cast<size_t>(c.head_dim);
  FloatReader in(rest);
  for (int64_t i = 0; i < int64_t{c.num_layers} * c.kv_heads; ++i) {
    HeadCalibration h;
    const bool has_map = in.Flag() == 1;
    h.mean = in.Floats(dim);
    const std::vector<float> figures = in.Floats(kFigures);
    h.score_gain_db = figures[0];
    std::copy(figures.begin() + 1, figures.end(), h.error_ratio.begin());
    if (has_map) {
      h.forward = in.Floats(dim * dim);
      h.inverse_transpose = in.Floats(dim * dim);
    }
    c.heads.push_back(std::move(h));
  }
  in.End();
  return c;
}

void SaveCalibration(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error)
    Throw(ErrorCode::kIo, "cannot make the folder {}: {}", path.parent_path().string(),
          error.message());
  AtomicFile file(path);
  file.WriteAt(0, bytes);
  file.Commit();
}

Calibration LoadCalibration(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  std::error_code error;
  if (!in || !std::filesystem::is_regular_file(path, error)) {
    const bool there = std::filesystem::exists(path, error);
    Throw(there ? ErrorCode::kIo : ErrorCode::kNotFound, "calibration {}: {}", path.string(),
          there ? "cannot be read" : "there is no such file");
  }
  std::vector<std::byte> bytes(static_cast<size_t>(in.tellg()));
  in.seekg(0);
  if (!in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size())))
    Throw(ErrorCode::kIo, "calibration {}: cannot be read", path.string());
  try {
    return ReadCalibration(bytes);
  } catch (const Error& problem) {
    throw Error(problem.code(), fmt::format("calibration {}: {}", path.string(), problem.what()));
  }
}

}  // namespace tq
