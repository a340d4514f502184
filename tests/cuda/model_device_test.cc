// SPDX-License-Identifier: Apache-2.0
// Whole models on the GPU against the CPU: prompts, decode steps (the first ones as they are, then
// captured), batches of forked sequences, files saved on one device and continued on the other.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "tests/cuda/device_pair.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"
#include "turboquant/base/mapped_file.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/engine/session.h"

namespace tq::test {
namespace {

using Path = std::filesystem::path;

std::shared_ptr<const Engine> LoadOn(const Path& path, const std::string& device) {
  EngineOptions options;
  options.model = path;
  options.backend.device = device;
  return Engine::Load(options);
}

SessionOptions Options(const Engine& engine, std::string_view k, std::string_view v,
                       int64_t context, Precision precision = Precision::kPrecise) {
  SessionOptions options;
  options.cache = MakePolicy(engine, k, v);
  options.context = context;
  options.prefill = PrefillMode::kExact;
  options.precision = precision;
  options.chunk = 200;
  return options;
}

std::vector<TokenId> Tokens(const Engine& engine, int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (TokenId& token : tokens)
    token = static_cast<TokenId>(random.Next() % static_cast<uint64_t>(engine.spec().vocabulary));
  return tokens;
}

std::vector<float> Append(Session& session, std::span<const TokenId> tokens) {
  const std::span<const float> logits = session.Append(tokens);
  return {logits.begin(), logits.end()};
}

// Steps whose logits differ by more than `most`; a code of the cache that rounds the other way
// moves a step, so that a few may.
struct Course {
  double worst = 0;
  double median = 0;
  size_t worst_step = 0;
  std::string Text() const {
    return fmt::format("median difference {:.2e}, worst {:.2e} at step {}", median, worst,
                       worst_step);
  }
  void Of(std::vector<double> differences) {
    for (size_t i = 0; i < differences.size(); ++i) {
      if (!(differences[i] <= worst)) worst = differences[i], worst_step = i;
    }
    std::ranges::nth_element(differences,
                             differences.begin() + static_cast<ptrdiff_t>(differences.size() / 2));
    median = differences[differences.size() / 2];
  }
};

class ModelDeviceTest : public DeviceTest {
 protected:
  testing_support::TempFolder folder_;
};

// Pages that go through four forms, both sides changing, one side, and a trellis made of levels.
constexpr const char* kTestAges = "256:turbo3/turbo3_tcq,512:turbo2_tcq/turbo3_tcq";
SessionOptions AgedOptions(const Engine& engine, int64_t context) {
  SessionOptions options = Options(engine, "turbo4_tcq", "turbo4", context);
  options.cache.ages = ParseAgeSteps(kTestAges);
  return options;
}

Course Compare(const Path& path, std::string_view k, std::string_view v, int prompt, int steps,
               Precision precision, const char* ages = nullptr) {
  const auto cpu = LoadOn(path, "cpu"), gpu = LoadOn(path, "cuda");
  SessionOptions options = Options(*cpu, k, v, prompt + steps + 1, precision);
  if (ages != nullptr) options.cache.ages = ParseAgeSteps(ages);
  Session a(cpu, options), b(gpu, options);
  const std::vector<TokenId> tokens = Tokens(*cpu, prompt + steps, 3);
  std::vector<double> differences;
  const std::span<const TokenId> all(tokens);
  differences.push_back(Difference(Append(b, all.first(static_cast<size_t>(prompt))),
                                   Append(a, all.first(static_cast<size_t>(prompt)))));
  for (int i = 0; i < steps; ++i) {
    const auto one = all.subspan(static_cast<size_t>(prompt + i), 1);
    differences.push_back(Difference(Append(b, one), Append(a, one)));
  }
  Course course;
  course.Of(differences);
  return course;
}

TEST_F(ModelDeviceTest, TinyModelsOfEveryArchitecture) {
  for (const std::string architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    TinyModel model = TinyModelOf(architecture);
    model.matrices = architecture == "qwen2" ? BlockFormat::kQ4_0 : BlockFormat::kF32;
    const Path path = WriteTinyModel(model, folder_.path() / (architecture + ".gguf"));
    for (const char* type : {"f16", "q8_0", "turbo8", "turbo4", "turbo3", "turbo2"}) {
      const Course course = Compare(path, type, type, 300, 150, Precision::kPrecise);
      const std::string what = fmt::format("{}, cache {}: {}", architecture, type, course.Text());
      fmt::print("{}\n", what);
      // An f16 cache shows the difference of the arithmetic (f16 operands of the prefill kernel:
      // measured 3e-4 to 6e-4). In 8 bits it moves about a code in a hundred by one level, which
      // these small random models, gemma3's seven layers above all, pass on (1e-3 to 9e-3).
      const bool f16 = std::string_view(type) == "f16";
      const double depth = architecture == "gemma3" ? 3 : 1;
      EXPECT_LE(course.median, (f16 ? 1e-3 : 4e-3) * depth) << what;
      EXPECT_LE(course.worst, f16 ? 1e-2 : 1e-1) << what;
    }
  }
}

// A head block of a page on a device.
std::vector<std::byte> HeadBytes(Backend& backend, const KvLayerView& view, int form, int page,
                                 int head) {
  std::vector<std::byte> bytes(view.Layout(form).head_bytes);
  backend.Read(reinterpret_cast<const float*>(view.Head(form, page, head)),
               reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float));
  return bytes;
}

// Of all forms that a sequence holds beside the form before, and that its next query may read: are
// they what the CPU makes of the form before, to the byte? Returns how many head blocks there were.
int CheckForms(Session& session, SequenceId sequence) {
  Backend& backend = session.engine().backend();
  backend.Finish();
  const PageCodec& codec = GetPageCodec();
  int checked = 0;
  for (int layer = 0; layer < session.cache().geometry().num_layers; ++layer) {
    const KvLayerView view = session.cache().View(sequence, layer);
    for (int page = view.visibility.sink_pages; page < view.num_pages; ++page) {
      for (int form = kSealedForm; form <= view.FormAt(page, view.length); ++form) {
        if (view.PageId(form - 1, page) == kNoPage || view.PageId(form, page) == kNoPage) continue;
        for (int head = 0; head < view.open.kv_heads; ++head) {
          const std::vector<std::byte> before = HeadBytes(backend, view, form - 1, page, head);
          const std::vector<std::byte> got = HeadBytes(backend, view, form, page, head);
          std::vector<std::byte> want(got.size());
          codec.SealKeys(view.Layout(form - 1), before.data(), view.Layout(form), want.data(), {});
          codec.SealValues(view.Layout(form - 1), before.data(), view.Layout(form), want.data(),
                           {});
          EXPECT_TRUE(got == want) << "length " << view.length << ", layer " << layer << ", page "
                                   << page << ", head " << head << ", form " << form;
          ++checked;
        }
      }
    }
  }
  return checked;
}

TEST_F(ModelDeviceTest, PagesAgeToTheCpusBytes) {
  for (const std::string architecture : {"llama", "gemma3"}) {  // the second with sliding windows
    const Path path =
        WriteTinyModel(TinyModelOf(architecture), folder_.path() / (architecture + "_aged.gguf"));
    const auto engine = LoadOn(path, "cuda");
    Session session(engine, AgedOptions(*engine, 2000));
    const std::vector<TokenId> tokens = Tokens(*engine, 1300, 8);
    const std::span<const TokenId> all(tokens);
    int checked = 0;
    // A prompt in passes, within which pages go through several forms at once; then token by token.
    session.Append(all.first(901));
    checked += CheckForms(session, session.main_sequence());
    const SequenceId fork = session.cache().Fork(session.main_sequence());
    for (size_t at = 901; at < all.size(); ++at) {
      session.Append(all.subspan(at, 1));
      if (at % kPageTokens == 3) checked += CheckForms(session, session.main_sequence());
    }
    checked += CheckForms(session, fork);  // its pages have gone on in the other sequence
    session.cache().FreeSequence(fork);
    session.Truncate(1250);  // exact
    session.Append(all.subspan(1250));
    checked += CheckForms(session, session.main_sequence());
    session.Truncate(700);  // recomputes the window; what has aged further stays so
    session.Append(all.subspan(700, 400));
    checked += CheckForms(session, session.main_sequence());
    fmt::print("{}: {} blocks of aged pages\n", architecture, checked);
    EXPECT_GT(checked, 30);
  }
}

TEST_F(ModelDeviceTest, AgedCaches) {
  for (const std::string architecture : {"llama", "gemma3"}) {
    const Path path =
        WriteTinyModel(TinyModelOf(architecture), folder_.path() / (architecture + "_ages.gguf"));
    for (const auto& [k, v] : {std::pair("turbo4_tcq", "turbo4"), std::pair("turbo8", "turbo8")}) {
      const Course course = Compare(path, k, v, 900, 300, Precision::kPrecise, kTestAges);
      const std::string what = fmt::format("{}, {}/{}: {}", architecture, k, v, course.Text());
      fmt::print("{}\n", what);
      // Small differences become other trellis codes of 2 and 3 bits (measured: .06 and .34); that
      // codes are right for their input is the test above.
      EXPECT_LE(course.median, 1e-1) << what;
      EXPECT_LE(course.worst, 5e-1) << what;
    }
  }
}

// Forks, a rollback and a deep truncation, on both devices alike.
TEST_F(ModelDeviceTest, AgedCachesGoBack) {
  const Path path = WriteTinyModel(TinyModelOf("llama"), folder_.path() / "back.gguf");
  std::vector<std::vector<float>> rows[2];
  for (int device = 0; device < 2; ++device) {
    const auto engine = LoadOn(path, device == 0 ? "cpu" : "cuda");
    Session session(engine, AgedOptions(*engine, 2000));
    const std::vector<TokenId> tokens = Tokens(*engine, 1400, 9);
    const std::span<const TokenId> all(tokens);
    const auto append = [&](size_t begin, size_t end, size_t step) {
      for (size_t at = begin; at < end; at += step)
        rows[device].push_back(Append(session, all.subspan(at, std::min(step, end - at))));
    };
    append(0, 1020, 255);
    append(1020, 1060, 1);
    session.Truncate(1010);
    append(1010, 1100, 9);  // several queries across a boundary, in two forms of some pages
    session.Truncate(650);
    append(650, 1200, 110);
    append(1200, 1300, 1);
  }
  ASSERT_EQ(rows[0].size(), rows[1].size());
  std::vector<double> differences;
  for (size_t i = 0; i < rows[0].size(); ++i)
    differences.push_back(Difference(rows[1][i], rows[0][i]));
  Course course;
  course.Of(differences);
  fmt::print("back: {}\n", course.Text());
  // One rounding that goes the other way becomes other codes of 2 and 3 bits, and these other
  // gains. Measured: two appends of 159 beyond .4 on a GPU; between instruction sets of a CPU
  // medians to .07, worst to .38; against an f16 cache, whose errors are others altogether, a
  // median of .35 and a third beyond .4.
  const auto far = std::ranges::count_if(differences, [](double d) { return !(d <= 4e-1); });
  EXPECT_LE(far * 20, std::ssize(differences)) << course.Text();
  EXPECT_LE(course.median, 2e-1) << course.Text();
}

TEST_F(ModelDeviceTest, FastProducts) {
  TinyModel model = TinyModelOf("llama");
  model.matrices = BlockFormat::kQ8_0;
  const Path path = WriteTinyModel(model, folder_.path() / "fast.gguf");
  const Course course = Compare(path, "turbo4", "turbo3", 50, 100, Precision::kFast);
  fmt::print("fast products: {}\n", course.Text());
  // The prompt's products round differently by design: 8-bit tokens there, bf16 here (3.4e-2).
  EXPECT_LE(course.median, 6e-2) << course.Text();
}

// Forked sequences whose spans of a step are counts(step): logits of the GPU against the CPU's.
Course CompareBatches(const Path& path, const std::array<const char*, 2>& types,
                      PrefillMode prefill, int steps,
                      const std::function<std::array<int64_t, 3>(int)>& counts) {
  std::vector<std::vector<std::vector<float>>> rows[2];  // [device][step][sequence]
  for (int device = 0; device < 2; ++device) {
    const auto engine = LoadOn(path, device == 0 ? "cpu" : "cuda");
    Session session(engine, Options(*engine, types[0], types[1], 1000));
    session.Append(Tokens(*engine, 260, 1));
    std::vector<SequenceId> sequences = {session.main_sequence()};
    for (int i = 0; i < 2; ++i) sequences.push_back(session.cache().Fork(sequences[0]));
    struct Sink final : LogitsSink {
      std::vector<std::vector<float>> last;
      void Rows(int span, int, MatrixView<const float> logits) override {
        const float* row = logits.row(logits.rows - 1);
        last[static_cast<size_t>(span)].assign(row, row + logits.cols);
      }
    } sink;
    for (int step = 0; step < steps; ++step) {
      StepPlan plan;
      plan.prefill = prefill;
      plan.precision = Precision::kPrecise;
      plan.sink = &sink;
      const std::array<int64_t, 3> lengths = counts(step);
      std::vector<std::vector<TokenId>> tokens;
      for (size_t s = 0; s < sequences.size(); ++s)
        tokens.push_back(Tokens(*engine, lengths[s], 100 * static_cast<uint64_t>(step) + s));
      for (size_t s = 0; s < sequences.size(); ++s)
        plan.spans.push_back({.sequence = sequences[s], .tokens = tokens[s]});
      sink.last.assign(sequences.size(), {});
      session.Forward(plan);
      rows[device].push_back(sink.last);
    }
  }
  std::vector<double> differences;
  for (size_t step = 0; step < rows[0].size(); ++step) {
    for (size_t s = 0; s < rows[0][step].size(); ++s)
      differences.push_back(Difference(rows[1][step][s], rows[0][step][s]));
  }
  Course course;
  course.Of(differences);
  return course;
}

// Long, middling and single spans in one step, then single ones: the same shape again and again.
TEST_F(ModelDeviceTest, BatchesOfForkedSequences) {
  const Path path = WriteTinyModel(TinyModelOf("llama"), folder_.path() / "batch.gguf");
  const Course course =
      CompareBatches(path, {"turbo4", "turbo3"}, PrefillMode::kExact, 30, [](int step) {
        return step == 0 ? std::array<int64_t, 3>{40, 5, 1} : std::array<int64_t, 3>{1, 1, 1};
      });
  EXPECT_LE(course.worst, 2e-2) << course.Text();
}

// A page that a query reads before it is sealed would be zeros, or what was there before. Trellis
// codes take long to seal; they also turn a small difference of the arithmetic into other codes of
// a whole ring: two instruction sets of the CPU differ by up to 0.13 in these models.
constexpr double kMostOfTrellis = 0.2;

// Sequences cross page boundaries in spans that read sealed pages (up to 16 tokens) beside spans
// that read their own step's keys as they are: which seals a step waits for depends on both.
TEST_F(ModelDeviceTest, SpansAcrossPageBoundaries) {
  const Path path = WriteTinyModel(TinyModelOf("llama"), folder_.path() / "spans.gguf");
  const std::array<std::array<int64_t, 3>, 4> counts = {
      {{1, 10, 5}, {5, 1, 16}, {1, 17, 2}, {10, 1, 1}}};
  for (const PrefillMode prefill : {PrefillMode::kFast, PrefillMode::kExact}) {
    const Course course =
        CompareBatches(path, {"turbo4_tcq", "turbo3_tcq"}, prefill, 64,
                       [&](int step) { return counts[static_cast<size_t>(step % 4)]; });
    fmt::print("spans of forked sequences: {}\n", course.Text());
    EXPECT_LE(course.median, 3e-2) << course.Text();
    EXPECT_LE(course.worst, kMostOfTrellis) << course.Text();
  }
}

// Prompts with more pages to seal than multiprocessors: their searches wait for their time in each
// layer, and the last ones for the end of the step. This model is sensitive: its median is .016
// with turbo8 keys and turbo3 values, .045 with turbo3 (H200), where nothing is searched; tokens
// that read pages which are not sealed differ by one and more.
TEST_F(ModelDeviceTest, SearchesThatArePutOff) {
  TinyModel model = TinyModelOf("llama");
  model.q_heads = model.kv_heads = 8;
  model.head_dim = 128;
  const Path path = WriteTinyModel(model, folder_.path() / "put_off.gguf");
  const auto cpu = LoadOn(path, "cpu"), gpu = LoadOn(path, "cuda");
  for (const char* k : {"turbo4_tcq", "turbo3_tcq"}) {
    SessionOptions options = Options(*cpu, k, "turbo3_tcq", 3000);
    options.prefill = PrefillMode::kFast;
    options.chunk = 1300;
    Session a(cpu, options), b(gpu, options);
    const std::vector<TokenId> tokens = Tokens(*cpu, 2640, 12);
    const std::span<const TokenId> all(tokens);
    std::vector<double> differences;
    int checked = 0;
    for (size_t at = 0; at < all.size();) {
      const size_t count = at < 2600 ? 1300 : 1;
      const auto next = all.subspan(at, count);
      differences.push_back(Difference(Append(b, next), Append(a, next)));
      if (count > 1) checked += CheckForms(b, b.main_sequence());
      at += count;
    }
    Course course;
    course.Of(differences);
    fmt::print("searches put off, keys {}: {}, {} blocks\n", k, course.Text(), checked);
    EXPECT_GT(checked, 0);
    EXPECT_LE(course.median, 1e-1) << course.Text();
    EXPECT_LE(course.worst, kMostOfTrellis) << course.Text();
  }
}

// One sequence in spans of five tokens, through the first pages that are sealed and on.
TEST_F(ModelDeviceTest, ShortSpansOfFastPrefill) {
  const Path path = WriteTinyModel(TinyModelOf("llama"), folder_.path() / "short.gguf");
  const auto cpu = LoadOn(path, "cpu"), gpu = LoadOn(path, "cuda");
  SessionOptions options = Options(*cpu, "turbo4_tcq", "turbo3_tcq", 800);
  options.prefill = PrefillMode::kFast;
  Session a(cpu, options), b(gpu, options);
  const std::vector<TokenId> tokens = Tokens(*cpu, 700, 9);
  std::vector<double> differences;
  for (size_t i = 0; i < tokens.size(); i += 5) {
    const auto five = std::span(tokens).subspan(i, 5);
    differences.push_back(Difference(Append(b, five), Append(a, five)));
  }
  Course course;
  course.Of(differences);
  fmt::print("spans of five: {}\n", course.Text());
  EXPECT_LE(course.median, 3e-2) << course.Text();
  EXPECT_LE(course.worst, kMostOfTrellis) << course.Text();
}

TEST_F(ModelDeviceTest, SessionsMoveBetweenDevices) {
  const Path path = WriteTinyModel(TinyModelOf("llama"), folder_.path() / "move.gguf");
  for (const bool to_gpu : {false, true}) {
    const auto from = LoadOn(path, to_gpu ? "cpu" : "cuda");
    const auto to = LoadOn(path, to_gpu ? "cuda" : "cpu");
    Session first(from, AgedOptions(*from, 2000));
    first.Append(Tokens(*from, 1000, 5));
    const Path file = folder_.path() / (to_gpu ? "to_gpu.session" : "to_cpu.session");
    first.Save(file);
    Session second(to, AgedOptions(*to, 2000));
    second.Restore(file);
    // The very same pages: saved again, the file has the same bytes.
    const Path again = folder_.path() / "again.session";
    second.Save(again);
    EXPECT_EQ(std::filesystem::file_size(file), std::filesystem::file_size(again));
    const auto bytes = [](const Path& p) {
      const MappedFile mapped(p);
      return std::string(reinterpret_cast<const char*>(mapped.bytes().data()),
                         mapped.bytes().size());
    };
    EXPECT_EQ(bytes(file), bytes(again));
    const std::vector<TokenId> more = Tokens(*from, 150, 6);
    for (const TokenId token : more) {
      const double difference = Difference(Append(second, {&token, 1}), Append(first, {&token, 1}));
      ASSERT_LE(difference, 5e-2) << (to_gpu ? "CPU to GPU" : "GPU to CPU");
    }
  }
}

TEST_F(ModelDeviceTest, WhatDoesNotFitIsRefused) {
  const Path path = WriteTinyModel(TinyModelOf("llama"), folder_.path() / "big.gguf");
  const auto engine = LoadOn(path, "cuda");
  SessionOptions options = Options(*engine, "turbo8", "turbo8", int64_t{1} << 31);
  try {
    Session session(engine, options);
    ADD_FAILURE() << "a context of 2^31 tokens was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory) << error.what();
    fmt::print("refused: {}\n", error.what());
  }
}

Path SmolLm2() {
  const char* models = std::getenv("TQ_MODELS");
  if (models == nullptr) return {};
  const Path path = Path(models) / "smollm2.gguf";
  return std::filesystem::exists(path) ? path : Path();
}

// Greedy text of the same prompt, in a cache whose pages age; where they part, the two best logits
// must be as good as equal.
TEST_F(ModelDeviceTest, SmolLm2WritesTheSameText) {
  const Path path = SmolLm2();
  if (path.empty()) GTEST_SKIP() << "TQ_MODELS names no folder with smollm2.gguf";
  const auto cpu = LoadOn(path, "cpu"), gpu = LoadOn(path, "cuda");
  for (const Precision precision : {Precision::kPrecise, Precision::kFast}) {
    SessionOptions options = Options(*cpu, "turbo4", "turbo3", 1000, precision);
    options.cache.ages = ParseAgeSteps("256:turbo3_tcq/turbo2_tcq");
    Session a(cpu, options), b(gpu, options);
    std::string prompt;
    for (int i = 0; i < 32; ++i)
      prompt += "The river rises in the mountains and runs through three towns before the sea. ";
    const std::vector<TokenId> tokens = cpu->tokenizer().Encode(prompt, true, false);
    std::vector<float> x = Append(a, tokens), y = Append(b, tokens);
    std::vector<TokenId> written;
    for (int i = 0; i < 200; ++i) {
      const auto best = [](const std::vector<float>& logits) {
        return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
      };
      const TokenId p = best(x), g = best(y);
      if (p != g) {
        const float gap = x[static_cast<size_t>(p)] - x[static_cast<size_t>(g)];
        fmt::print("token {}: CPU {}, GPU {}, logits apart by {}\n", i, p, g, gap);
        EXPECT_LE(gap, precision == Precision::kPrecise ? 0.05f : 0.5f) << "at token " << i;
      }
      written.push_back(p);  // both go on with the CPU's token
      x = Append(a, {&p, 1});
      y = Append(b, {&p, 1});
    }
    fmt::print("SmolLM2, {}: logits differ by {:.2e} after {} tokens; text: {}\n",
               precision == Precision::kPrecise ? "precise" : "fast", Difference(y, x),
               tokens.size() + written.size(), cpu->tokenizer().Decode(written).substr(0, 160));
  }
}

}  // namespace
}  // namespace tq::test
