// SPDX-License-Identifier: Apache-2.0
// Flags that several commands share, spelled as llama.cpp's users know them, and what they turn
// into.
#pragma once

#include <memory>
#include <string>

#include "apps/calibration_flags.h"
#include "apps/command_line.h"
#include "turboquant/engine/engine.h"
#include "turboquant/engine/sampler.h"
#include "turboquant/engine/session.h"
#include "turboquant/kv/policy.h"

namespace tq::app {

inline const std::string kDefaultTypeK(InfoOf(kDefaultKeyCodec).name);
inline const std::string kDefaultTypeV(InfoOf(kDefaultValueCodec).name);

struct ModelFlags {
  std::string model;
  int threads = 0;
  std::string device = "cpu";
  std::string gpu_layers;  // empty: not given
};
void AddModelFlags(Command command, ModelFlags& flags);

struct CacheFlags {
  std::string type_k = kDefaultTypeK;
  std::string type_v = kDefaultTypeV;
  int window = 128;  // tokens
  int sinks = 128;   // tokens
  bool no_centring = false;
  CalibrationFlags calibration;
  std::string automatic;  // "auto": the stored recommendation decides
  bool watch = false;
  std::string ages;     // --cache-age; empty: none
  uint64_t budget = 0;  // bytes that choose types and ages; 0: none
};
void AddCacheTypeFlags(Command command, CacheFlags& flags);  // -ctk, -ctv, --cache
// --cache auto, which excludes the flags of types that `command` has.
void AddAutomaticCacheFlag(Command command, CacheFlags& flags);
void AddCacheShapeFlags(Command command,
                        CacheFlags& flags);  // --cache-window, --cache-sinks, --no-centring,
                                             // --calibration, --no-calibration

void AddCacheAgeFlag(Command command, CacheFlags& flags);  // --cache-age
// --cache-budget, which excludes all flags of types and ages that `command` has.
void AddCacheBudgetFlag(Command command, CacheFlags& flags);

struct StepFlags {
  int64_t context = 0;  // 0 = the model's
  int batch = 2048;
  int ubatch = 512;
  std::string prefill;   // exact, fast; empty: the command's default
  bool precise = false;  // commands that generate
  bool fast = false;     // commands that measure
};
enum class StepUse { kGenerate, kMeasure };
// Generating is fast unless told otherwise; measuring is precise and exact unless told otherwise.
void AddStepFlags(Command command, StepFlags& flags, StepUse use);

void AddSamplingFlags(Command command, SamplerSpec& spec,
                      int64_t& seed);  // seed < 0: from the clock
SamplerSpec ResolveSeed(SamplerSpec spec, int64_t seed);

// Loads with a progress bar and says on stderr what was loaded.
std::shared_ptr<const Engine> LoadEngine(const ModelFlags& flags);

// Without the calibration: that takes time (CalibrationFor).
SessionOptions MakeSessionOptions(const Engine& engine, const CacheFlags& cache,
                                  const StepFlags& step, StepUse use);
void AddCacheWatchFlag(Command command, CacheFlags& flags);  // --cache-watch

// For a context of that many tokens (0: the model's), which a stored recommendation has to reach
// and a budget to hold, read in passes of at most `chunk`.
CachePolicy MakeCachePolicy(const Engine& engine, const CacheFlags& flags, int64_t context,
                            int chunk = KvCache::kReserveChunk);

// Says on stderr which layers are compressed with what and what it costs (docs/cli.md).
void PrintCacheSummary(const Session& session);

// Every value of a token stored under `policy`, scales included, on average at a context; 0: in the
// long run.
double PolicyBitsPerValue(const KvGeometry& geometry, const CachePolicy& policy,
                          int64_t context = 0);

}  // namespace tq::app
