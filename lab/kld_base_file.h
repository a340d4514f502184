// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of a reference run in llama-perplexity's file format (--kl-divergence-base):
// "_logits_", int32 context, vocabulary, windows; the windows' tokens; then per scored position
// float32 scale and minimum and a 16-bit code per token, ln p = scale * code + minimum, nothing
// below max - 16. Written and read position by position.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <vector>

#include "lab/logits_source.h"
#include "turboquant/base/thread_pool.h"
#include "turboquant/kv/atomic_file.h"

namespace tq::lab {

inline constexpr float kKldBaseRange =
    16.0f;  // natural units below the likeliest token that the codes reach

// 16-bit words of one position's row: scale and minimum (4 words) and the codes, padded to an even
// number.
constexpr int64_t KldRowWords(int64_t vocabulary) { return 2 * ((vocabulary + 1) / 2) + 4; }

class KldBaseWriter {
 public:
  // Writes beside `path`; Finish gives the file its name. Throws kIo.
  KldBaseWriter(const std::filesystem::path& path, const TextWindows& windows, int vocabulary);
  void WriteRows(MatrixView<const float> logits, const ThreadPool& pool);
  void Finish();  // throws kInvalidArgument if positions are missing

 private:
  void Write(const void* data, size_t bytes);

  std::filesystem::path path_;
  AtomicFile file_;  // what is not finished disappears
  uint64_t written_ = 0;
  int vocabulary_;
  int64_t rows_left_;
  std::vector<uint16_t> encoded_;  // [rows, KldRowWords]
};

class KldBaseReader {
 public:
  // Throws kNotFound, kIo, kCorruptFile (foreign or truncated: what and where).
  explicit KldBaseReader(const std::filesystem::path& path);

  // The windows as in the file; `bos` is not part of it and left unset.
  const TextWindows& windows() const { return windows_; }
  int vocabulary() const { return vocabulary_; }

  // The next `rows` positions; valid until the next call. [rows, KldRowWords]
  std::span<const uint16_t> ReadRows(int64_t rows);
  // One row of those as log-probabilities. out [vocabulary]
  void DecodeRow(const uint16_t* row, float* out) const;

 private:
  void Read(void* data, size_t bytes, const char* what);

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  TextWindows windows_;
  int vocabulary_ = 0;
  std::vector<uint16_t> rows_;
};

}  // namespace tq::lab
