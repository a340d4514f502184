// SPDX-License-Identifier: Apache-2.0
#include "lab/kld_base_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "lab/row_math.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

constexpr std::array<char, 8> kMagic = {'_', 'l', 'o', 'g', 'i', 't', 's', '_'};
namespace fs = std::filesystem;

}  // namespace

KldBaseWriter::KldBaseWriter(const fs::path& path, const TextWindows& windows, int vocabulary)
    : path_(path),
      file_(path),
      vocabulary_(vocabulary),
      rows_left_(static_cast<int64_t>(windows.count) * windows.scored()) {
  const std::array<int32_t, 3> sizes = {windows.context, vocabulary, windows.count};
  Write(kMagic.data(), kMagic.size());
  Write(sizes.data(), sizeof sizes);
  Write(windows.tokens.data(), windows.tokens.size() * sizeof(TokenId));
}

void KldBaseWriter::Write(const void* data, size_t bytes) {
  file_.WriteAt(written_, {static_cast<const std::byte*>(data), bytes});
  written_ += bytes;
}

void KldBaseWriter::WriteRows(MatrixView<const float> logits, const ThreadPool& pool) {
  TQ_CHECK(logits.cols == vocabulary_ && logits.rows <= rows_left_);
  const int64_t words = KldRowWords(vocabulary_);
  encoded_.assign(static_cast<size_t>(logits.rows * words), 0);
  const RowMath& math = GetRowMath();
  pool.ParallelForDynamic(logits.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = logits.row(r);
      const SoftmaxStats stats = math.softmax(row, vocabulary_);
      const float low =
          std::max(*std::min_element(row, row + vocabulary_), stats.max - kKldBaseRange);
      const float header[2] = {(stats.max - low) / 65535.0f,
                               static_cast<float>(low - stats.max - stats.log_sum_exp)};
      uint16_t* out = encoded_.data() + r * words;
      std::memcpy(out, header, sizeof header);
      math.encode(row, low, header[0], vocabulary_, out + 4);
    }
  });
  Write(encoded_.data(), encoded_.size() * sizeof(uint16_t));
  rows_left_ -= logits.rows;
}

void KldBaseWriter::Finish() {
  if (rows_left_ != 0)
    Throw(ErrorCode::kInvalidArgument, "{} misses {} positions and was not kept", path_.string(),
          rows_left_);
  file_.Commit();
}

KldBaseReader::KldBaseReader(const fs::path& path)
    : path_(path), file_(std::fopen(path.c_str(), "rb"), std::fclose) {
  if (!file_) {
    Throw(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot open {}: {}",
          path.string(), std::strerror(errno));
  }
  std::array<char, 8> magic{};
  if (std::fread(magic.data(), 1, magic.size(), file_.get()) != magic.size() || magic != kMagic) {
    Throw(ErrorCode::kCorruptFile,
          "{} is not a file of log-probabilities (it does not begin with _logits_)", path.string());
  }
  std::array<int32_t, 3> sizes{};
  Read(sizes.data(), sizeof sizes, "its header");
  const auto [context, vocabulary, count] = sizes;
  const bool sound = context >= 4 && context <= 1 << 26 && vocabulary >= 1 &&
                     vocabulary <= 1 << 26 && count >= 1 && count <= 1 << 26;
  if (!sound) {
    Throw(ErrorCode::kCorruptFile, "{}: context {}, vocabulary {} and {} windows cannot be",
          path.string(), context, vocabulary, count);
  }
  windows_.context = context;
  windows_.count = count;
  vocabulary_ = vocabulary;
  const uint64_t tokens = static_cast<uint64_t>(context) * static_cast<uint64_t>(count);
  const uint64_t rows = static_cast<uint64_t>(count) * static_cast<uint64_t>(windows_.scored());
  const uint64_t expected =
      kMagic.size() + sizeof sizes + tokens * sizeof(TokenId) +
      rows * static_cast<uint64_t>(KldRowWords(vocabulary)) * sizeof(uint16_t);
  std::error_code error;
  const uint64_t actual = fs::file_size(path, error);
  if (error || actual != expected) {
    Throw(ErrorCode::kCorruptFile,
          "{} has {} bytes, its header announces {}: it is truncated or damaged", path.string(),
          actual, expected);
  }
  windows_.tokens.resize(tokens);
  Read(windows_.tokens.data(), tokens * sizeof(TokenId), "its tokens");
  for (const TokenId token : windows_.tokens) {
    if (token < 0 || token >= vocabulary) {
      Throw(ErrorCode::kCorruptFile, "{}: token {} lies outside the vocabulary of {}",
            path.string(), token, vocabulary);
    }
  }
}

void KldBaseReader::Read(void* data, size_t bytes, const char* what) {
  if (std::fread(data, 1, bytes, file_.get()) != bytes) {
    Throw(ErrorCode::kCorruptFile, "{} ends within {}", path_.string(), what);
  }
}

std::span<const uint16_t> KldBaseReader::ReadRows(int64_t rows) {
  rows_.resize(static_cast<size_t>(rows * KldRowWords(vocabulary_)));
  Read(rows_.data(), rows_.size() * sizeof(uint16_t), "the log-probabilities");
  return rows_;
}

void KldBaseReader::DecodeRow(const uint16_t* row, float* out) const {
  float header[2];
  std::memcpy(header, row, sizeof header);
  GetRowMath().decode(row + 4, header[0], header[1], vocabulary_, out);
}

}  // namespace tq::lab
