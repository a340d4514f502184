// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/recommendation_file.h"

#include <charconv>
#include <fstream>
#include <map>
#include <sstream>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/kv/atomic_file.h"

namespace tq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTitle = "turboquant recommendation ";
constexpr int kVersion = 2;  // 1: windows of sliding-window layers as those of the others
constexpr std::string_view kChecksum = "checksum ";
constexpr std::string_view kSuffix = ".recommendation";

template <typename T>
T Number(std::string_view key, std::string_view text, int base = 10) {
  T value{};
  std::from_chars_result end;
  if constexpr (std::is_floating_point_v<T>) {
    end = std::from_chars(text.data(), text.data() + text.size(), value);
  } else {
    end = std::from_chars(text.data(), text.data() + text.size(), value, base);
  }
  if (end.ec != std::errc() || end.ptr != text.data() + text.size())
    Throw(ErrorCode::kCorruptFile, "{} \"{}\" is not a number", key, text);
  return value;
}

std::string_view Line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

std::vector<Codec> Codecs(std::string_view text, int layers) {
  try {
    return ParseCodecList(text, layers, Codec::kF16);
  } catch (const Error& error) {
    Throw(ErrorCode::kUnsupported, "{}", error.what());
  }
}

// "MODEL-CONTEXT.recommendation"
std::string Stem(uint64_t model_id) { return HexString(model_id) + "-"; }

}  // namespace

std::string RecommendationText(const Recommendation& r) {
  std::string text = fmt::format(
      "{}{}\nmodel {}\ncontext {}\nlayers {}\nk {}\nv {}\nwindow {}\nsinks {}\nrollback "
      "{}\ncentring {}\ndivergence {}\nupper {}\nbytes {}\ntext {}\n",
      kTitle, kVersion, HexString(r.model_id), r.context, r.policy.k.size(),
      CodecListText(r.policy.k), CodecListText(r.policy.v), r.policy.window, r.policy.sink_pages,
      r.policy.rollback, r.policy.centring ? 1 : 0, r.divergence, r.upper, r.bytes,
      HexString(r.text_id));
  return text + fmt::format("{}{}\n", kChecksum, HexString(Hash64(std::as_bytes(std::span(text)))));
}

Recommendation ParseRecommendation(std::string_view text) {
  std::string_view rest = text;
  const std::string_view title = Line(rest);
  if (!title.starts_with(kTitle)) Throw(ErrorCode::kCorruptFile, "it is not a recommendation");
  if (const auto version = Number<int>("version", title.substr(kTitle.size()));
      version != kVersion) {
    Throw(ErrorCode::kUnsupported,
          "it has version {}, this build reads {}; run `turboquant recommend` again", version,
          kVersion);
  }
  const size_t end = text.rfind(kChecksum);
  if (end == std::string_view::npos ||
      text.substr(end) !=
          fmt::format("{}{}\n", kChecksum,
                      HexString(Hash64(std::as_bytes(std::span(text.substr(0, end))))))) {
    Throw(ErrorCode::kCorruptFile, "its checksum does not match");
  }
  std::map<std::string_view, std::string_view> values;
  while (!rest.empty()) {
    const std::string_view line = Line(rest);
    const size_t blank = line.find(' ');
    if (blank != std::string_view::npos) values[line.substr(0, blank)] = line.substr(blank + 1);
  }
  const auto get = [&](std::string_view key) {
    const auto it = values.find(key);
    if (it == values.end()) Throw(ErrorCode::kCorruptFile, "it has no line \"{}\"", key);
    return it->second;
  };
  const auto integer = [&](std::string_view key) { return Number<int>(key, get(key)); };
  const int layers = integer("layers");
  if (layers < 1 || layers > 1 << 16) Throw(ErrorCode::kCorruptFile, "{} layers", layers);
  Recommendation r;
  r.model_id = Number<uint64_t>("model", get("model"), 16);
  r.context = Number<int64_t>("context", get("context"));
  r.policy.k = Codecs(get("k"), layers);
  r.policy.v = Codecs(get("v"), layers);
  r.policy.window = integer("window");
  r.policy.sink_pages = integer("sinks");
  r.policy.rollback = integer("rollback");
  r.policy.centring = integer("centring") != 0;
  r.divergence = Number<double>("divergence", get("divergence"));
  r.upper = Number<double>("upper", get("upper"));
  r.bytes = Number<uint64_t>("bytes", get("bytes"));
  r.text_id = Number<uint64_t>("text", get("text"), 16);
  return r;
}

fs::path SaveRecommendation(const fs::path& folder, const Recommendation& recommendation) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    Throw(ErrorCode::kIo,
          "cannot make the folder {}: {}; set XDG_CACHE_HOME to one that can be "
          "written",
          folder.string(), error.message());
  }
  const fs::path path = folder / fmt::format("{}{}{}", Stem(recommendation.model_id),
                                             recommendation.context, kSuffix);
  const std::string text = RecommendationText(recommendation);
  AtomicFile file(path);
  file.WriteAt(0, std::as_bytes(std::span(text)));
  file.Commit();
  return path;
}

std::optional<Recommendation> FindRecommendation(const fs::path& folder, uint64_t model_id,
                                                 int64_t context) {
  std::map<int64_t, fs::path> found;
  std::error_code error;  // no folder: nothing found
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const std::string stem = Stem(model_id);
    if (!name.starts_with(stem) || !name.ends_with(kSuffix)) continue;
    int64_t of = 0;
    const char* const end = name.data() + name.size() - kSuffix.size();
    const auto parsed = std::from_chars(name.data() + stem.size(), end, of);
    if (parsed.ec == std::errc() && parsed.ptr == end) found[of] = entry.path();
  }
  const auto it = found.lower_bound(context);
  if (it == found.end()) return std::nullopt;
  std::ostringstream text;
  text << std::ifstream(it->second, std::ios::binary).rdbuf();
  try {
    Recommendation recommendation = ParseRecommendation(text.str());
    if (recommendation.model_id != model_id || recommendation.context != it->first)
      Throw(ErrorCode::kCorruptFile, "it was made for another model or context");
    return recommendation;
  } catch (const Error& problem) {
    Throw(problem.code(), "{}: {}; run `turboquant recommend` again", it->second.string(),
          problem.what());
  }
}

}  // namespace tq
