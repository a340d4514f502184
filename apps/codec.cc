// SPDX-License-Identifier: Apache-2.0
// turboquant codec: vectors from a file through the cache's codecs, and what comes back.
#include "turboquant/codec/codec.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "lab/codec_round_trip.h"
#include "lab/npy_file.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

struct CodecFlags {
  std::vector<std::string> types;
  std::string input, output, side = "v";
  bool json = false;
};

// Heads of [N, D] or [T, G, D] are passed one by one: their tokens follow each other in pages.
class VectorsFile {
 public:
  explicit VectorsFile(const std::string& path) : array_(lab::ReadNpy(path)) {
    const std::vector<int64_t>& shape = array_.shape;
    if ((shape.size() != 2 && shape.size() != 3) || array_.values.empty()) {
      Throw(ErrorCode::kInvalidArgument,
            "{} has the shape {}: vectors are wanted, [N, D] or, of several heads, [T, G, D]", path,
            lab::ShapeText(shape));
    }
    constexpr int64_t kMostDims = 1 << 16;
    if (dims() > kMostDims)
      Throw(ErrorCode::kInvalidArgument, "{}: vectors of {} dims; {} are the most", path, dims(),
            kMostDims);
    for (size_t i = 0; i < array_.values.size(); ++i) {
      if (!std::isfinite(array_.values[i]))
        Throw(ErrorCode::kInvalidArgument, "{}: value {} is {}; only finite ones can be measured",
              path, i, array_.values[i]);
    }
  }
  const lab::NpyArray& array() const { return array_; }
  int64_t dims() const { return array_.shape.back(); }
  int64_t heads() const { return array_.shape.size() == 3 ? array_.shape[1] : 1; }
  int64_t vectors() const { return std::ssize(array_.values) / dims(); }
  // The head's vectors in `floats`, which is laid out as the file.
  template <typename T>
  MatrixView<T> Head(T* floats, int64_t head) const {
    return {floats + head * dims(), array_.shape[0], dims(), heads() * dims()};
  }

 private:
  lab::NpyArray array_;
};

std::vector<Codec> Types(const CodecFlags& flags) {
  std::vector<Codec> types;
  for (const std::string& name : flags.types) types.push_back(ParseCodec(name));
  if (types.empty()) {
    for (const CodecInfo& info : kCodecs) types.push_back(info.codec);
  }
  if (!flags.output.empty() && types.size() != 1) {
    Throw(ErrorCode::kInvalidArgument, "-o takes the vectors of one type: name it with -t");
  }
  return types;
}

void RunCodec(const CodecFlags& flags) {
  const std::vector<Codec> types = Types(flags);
  const VectorsFile file(flags.input);
  const Side side = flags.side == "k" ? Side::kKey : Side::kValue;
  const auto dim = static_cast<int>(file.dims());

  Table table({"type", "bits/value", "dB", "cosine", "encode us/vector", "decode us/vector"});
  auto json = nlohmann::ordered_json::array();
  std::string refused;
  std::vector<float> decoded(file.array().values.size());
  Progress bar("encoding", Progress::Unit::kSteps);
  uint64_t done = 0;
  const uint64_t total = types.size() * static_cast<uint64_t>(file.heads());
  for (const Codec codec : types) {
    const std::string name(InfoOf(codec).name);
    lab::RoundTripSums sums;
    try {
      for (int64_t head = 0; head < file.heads(); ++head) {
        ThrowIfInterrupted();
        sums += lab::RoundTrip(codec, side, file.Head(file.array().values.data(), head),
                               file.Head(decoded.data(), head));
        bar.Update(++done, total);
      }
    } catch (const Error& error) {  // of a list the others are worth printing
      if (error.code() != ErrorCode::kUnsupported || types.size() == 1) throw;
      refused += fmt::format("left out: {}\n", error.what());
      done += static_cast<uint64_t>(file.heads());
      continue;
    }
    const double bits = lab::StoredBitsPerValue(codec, side, dim);
    const auto microseconds = [&](double seconds) {
      return 1e6 * seconds / static_cast<double>(sums.vectors);
    };
    const double encode = microseconds(sums.encode_seconds),
                 decode = microseconds(sums.decode_seconds);
    table.AddRow({name, fmt::format("{:.3f}", bits),
                  std::isinf(sums.Db()) ? "exact" : fmt::format("{:.2f}", sums.Db()),
                  fmt::format("{:.6f}", sums.Cosine()), fmt::format("{:.2f}", encode),
                  fmt::format("{:.2f}", decode)});
    nlohmann::ordered_json row = {{"type", name},
                                  {"side", flags.side},
                                  {"vectors", sums.vectors},
                                  {"head_dim", dim},
                                  {"bits_per_value", bits},
                                  {"db", nullptr},
                                  {"cosine", sums.Cosine()},
                                  {"encode_us", encode},
                                  {"decode_us", decode}};
    if (!std::isinf(sums.Db())) row["db"] = sums.Db();
    json.push_back(std::move(row));
  }
  bar.Done();
  if (json.empty())
    Throw(ErrorCode::kUnsupported, "none of these types knows vectors of {} dims:\n{}", dim,
          refused);
  if (!flags.output.empty()) {
    lab::NpyWriter writer(flags.output, file.array().type, file.array().shape);
    writer.Write(decoded);
    writer.Finish();
  }
  fmt::print(stderr, "{}", refused);
  if (flags.json) {
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("{}: {} vectors of {}, as {}, on one thread\n\n{}", flags.input, file.vectors(), dim,
             side == Side::kKey ? "keys (centred by pages, no calibrated map)" : "values",
             table.Text());
  if (!flags.output.empty()) fmt::print("\nwhat came back is in {}\n", flags.output);
}

}  // namespace

void AddCodecCommand(Command root) {
  auto flags = std::make_shared<CodecFlags>();
  const Command command =
      root.AddCommand("codec", "Encode and decode vectors of a .npy file: bits, dB, cosine, time");
  command
      .AddOption("-i,--input", flags->input,
                 "Vectors in NumPy's format, f16 or f32: [N, D], or [T, G, D] of G heads")
      .Required();
  command.AddOption("-t,--types", flags->types, "Cache types to pass them through (default: all)")
      .SplitAt(',');
  command.AddOption("-o,--output", flags->output,
                    "Where what comes back of them goes, in the same format (of one type)");
  command
      .AddOption("--side", flags->side,
                 "k: as keys, which are centred by pages of 128 vectors; v: as values")
      .OneOf({"k", "v"})
      .ShowDefault();
  command.AddFlag("--json", flags->json, "Print JSON");
  command.OnRun([flags] { RunCodec(*flags); });
}

}  // namespace tq::app
