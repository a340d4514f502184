// SPDX-License-Identifier: Apache-2.0
// Times of single decode steps through many page boundaries: sealing must never be in a token's
// way. Prints median, 99 % and their ratio, of single steps and of the best of several rounds over
// the same positions (what other programs on the machine do is gone from these), where in a page
// the slow ones lie, and the median of each page. Nothing is sealed while the page after the first
// one fills: from --depth 128 on, later medians over the first are what sealing costs. With --watch
// every round comes a second time with the watchdog on (a head each N steps; the product's N is
// 64), and what it costs is printed: in the mean, as few steps carry all of it.
//   bench_steps MODEL.gguf | --synthetic NAME [--device DEVICE] [-ctk TYPE] [-ctv TYPE]
//     [--cache-age STEPS] [--depth N] [--steps N] [--rounds N] [--threads N] [--watch N]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/engine/session.h"

namespace tq {
namespace {

constexpr double kBar = 1.25;  // of the 99 % step over the median

struct Options {
  std::string model, synthetic, device = "cpu", type_k = "turbo3", type_v = "turbo3", ages;
  int depth = 1024, steps = 512, rounds = 3, threads = 0, watch = 0;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag[0] != '-') {
      options.model = flag;
      continue;
    }
    if (i + 1 == argc) Throw(ErrorCode::kInvalidArgument, "{} needs a value", flag);
    const std::string value = argv[++i];
    if (std::string* text = flag == "-ctk"          ? &options.type_k
                            : flag == "-ctv"        ? &options.type_v
                            : flag == "--cache-age" ? &options.ages
                            : flag == "--device"    ? &options.device
                            : flag == "--synthetic" ? &options.synthetic
                                                    : nullptr) {
      *text = value;
    } else if (int* number = flag == "--depth"     ? &options.depth
                             : flag == "--steps"   ? &options.steps
                             : flag == "--rounds"  ? &options.rounds
                             : flag == "--threads" ? &options.threads
                             : flag == "--watch"   ? &options.watch
                                                   : nullptr) {
      *number = std::atoi(value.c_str());
    } else {
      Throw(ErrorCode::kInvalidArgument, "unknown flag {}", flag);
    }
  }
  if (options.model.empty() == options.synthetic.empty() || options.depth < 1 ||
      options.steps < 1 || options.rounds < 1)
    Throw(ErrorCode::kInvalidArgument, "a model, and a depth, steps and rounds of at least 1");
  return options;
}

struct Summary {
  double median, p99, largest;
};
Summary Summarize(std::vector<double> times) {
  std::ranges::sort(times);
  const auto at = [&](double fraction) {
    return times[static_cast<size_t>(fraction * static_cast<double>(times.size() - 1))];
  };
  return {at(0.5), at(0.99), times.back()};
}
void Print(const char* what, const Summary& s) {
  fmt::print("{:<15} median {:.3f} ms, 99 % {:.3f} ms, largest {:.3f} ms, 99 % / median {:.3f}\n",
             what, s.median, s.p99, s.largest, s.p99 / s.median);
}

// Steps of one page after the other.
void PrintPages(const std::vector<double>& times, int depth) {
  fmt::print("medians page by page, ms:");
  for (size_t begin = 0, end; begin < times.size(); begin = end) {
    const size_t position = static_cast<size_t>(depth) + begin;
    end = std::min(times.size(), begin + kPageTokens - position % kPageTokens);
    const auto at = [&](size_t i) { return times.begin() + static_cast<ptrdiff_t>(i); };
    fmt::print(" {:.3f}", Summarize({at(begin), at(end)}).median);
  }
  fmt::print("\n");
}

// Times of the same steps in several rounds.
struct Times {
  explicit Times(const Options& options) : best(static_cast<size_t>(options.steps), 1e30) {}
  std::vector<double> all, best;  // ms
  double best_prompt = 1e30;
  uint64_t copy_bytes = 0;  // the watchdog's
};

template <typename Fn>
double Milliseconds(Fn&& fn) {
  const auto start = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// In a session of its own, so that each round meets the same states of the cache.
void TimeRound(const std::shared_ptr<const Engine>& engine, const SessionOptions& session_options,
               const Options& options, Times& times) {
  Session session(engine, session_options);
  Random random(1);
  const int vocabulary = engine->spec().vocabulary;
  const auto token = [&] {
    return static_cast<TokenId>(random.Next() % static_cast<uint64_t>(vocabulary));
  };
  std::vector<TokenId> prompt(static_cast<size_t>(options.depth));
  std::ranges::generate(prompt, token);
  times.best_prompt = std::min(times.best_prompt, Milliseconds([&] { session.Append(prompt); }));
  for (double& least : times.best) {
    const TokenId next = token();
    const double taken = Milliseconds([&] {
      session.AppendGreedy({&next, 1}, vocabulary);
    });  // as `run --temp 0` does
    times.all.push_back(taken);
    least = std::min(least, taken);
  }
  if (session.cache_watch() != nullptr)
    times.copy_bytes = session.cache_watch()->drift().copy_bytes;
}

void PrintWatch(const Times& without, const Times& with) {
  const auto mean = [](const std::vector<double>& times) {
    return std::reduce(times.begin(), times.end()) / static_cast<double>(times.size());
  };
  const double plain = mean(without.best), watched = mean(with.best);
  fmt::print(
      "watchdog: mean of the best {:.3f} ms without, {:.3f} with ({:+.2f} %); largest {:.3f}, "
      "{:.3f}; prompt {:.0f}, {:.0f} ms; copies {:.1f} MiB\n",
      plain, watched, 100 * (watched / plain - 1), std::ranges::max(without.best),
      std::ranges::max(with.best), without.best_prompt, with.best_prompt,
      static_cast<double>(with.copy_bytes) / (1 << 20));
}

int Run(const Options& options) {
  EngineOptions engine_options;
  engine_options.model = options.model;
  engine_options.backend = {.device = options.device, .threads = options.threads};
  const auto engine = options.synthetic.empty()
                          ? Engine::Load(engine_options)
                          : Engine::Synthetic(options.synthetic, engine_options.backend);
  SessionOptions session_options;
  session_options.cache = MakePolicy(*engine, options.type_k, options.type_v);
  if (!options.ages.empty()) session_options.cache.ages = ParseAgeSteps(options.ages);
  session_options.context = options.depth + options.steps;

  SessionOptions watched_options = session_options;
  watched_options.cache_watch.on = true;
  watched_options.cache_watch.every = options.watch;

  Times times(options), watched(options);
  for (int round = 0; round < options.rounds; ++round) {
    TimeRound(engine, session_options, options, times);
    if (options.watch > 0) TimeRound(engine, watched_options, options, watched);
  }
  const std::vector<double>& best = times.best;
  fmt::print("{}, {}, {}/{} {}, {} steps from depth {}, {} rounds\n", engine->spec().name,
             engine->backend().name(), options.type_k, options.type_v, options.ages, options.steps,
             options.depth, options.rounds);
  Print("single steps", Summarize(times.all));
  const Summary rounds = Summarize(best);
  Print("best of rounds", rounds);

  std::vector<size_t> slowest(best.size());
  for (size_t i = 0; i < slowest.size(); ++i) slowest[i] = i;
  std::ranges::sort(slowest, [&](size_t a, size_t b) { return best[a] > best[b]; });
  fmt::print("slowest of the best, as time / median @ place in the page:");
  for (size_t i = 0; i < std::min<size_t>(12, slowest.size()); ++i) {
    fmt::print(" {:.2f}@{}", best[slowest[i]] / rounds.median,
               (static_cast<size_t>(options.depth) + slowest[i]) % kPageTokens);
  }
  fmt::print("\n");
  PrintPages(best, options.depth);
  if (options.watch > 0) PrintWatch(times, watched);
  const bool met = rounds.p99 <= kBar * rounds.median;
  fmt::print("bar 99 % <= {} x median: {}\n", kBar, met ? "met" : "NOT MET");
  return met ? 0 : 1;
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) {
  try {
    return tq::Run(tq::Parse(argc, argv));
  } catch (const tq::Error& error) {
    fmt::print(stderr, "bench_steps: {}\n", error.what());
    return 2;
  }
}
