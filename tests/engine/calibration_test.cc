// SPDX-License-Identifier: Apache-2.0
// The calibrated key transform: its algebra, its judgement, its file, and sessions that use it.
#include "turboquant/engine/calibration.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "tests/engine/tiny_engine.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/engine/attention_error.h"
#include "turboquant/engine/calibration_file.h"
#include "turboquant/engine/calibration_store.h"
#include "turboquant/engine/linear_algebra.h"

namespace tq::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// [rows, dim], every dim of another size: entry i has deviation `spread`^(i / dim).
std::vector<float> Anisotropic(int rows, int dim, double spread, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(static_cast<size_t>(rows * dim));
  for (int t = 0; t < rows; ++t) {
    for (int i = 0; i < dim; ++i) {
      x[static_cast<size_t>(t * dim + i)] =
          static_cast<float>(random.Gaussian() * std::pow(spread, static_cast<double>(i) / dim));
    }
  }
  return x;
}

std::vector<double> MomentOf(const std::vector<float>& x, int dim) {
  std::vector<double> moment(static_cast<size_t>(dim) * dim);
  AddMoment({x.data(), static_cast<int64_t>(x.size()) / dim, dim}, nullptr, moment);
  return moment;
}

// A M A^T, entry (i, j).
double Transformed(const std::vector<float>& a, const std::vector<double>& m, int dim, int i,
                   int j) {
  double sum = 0;
  for (int p = 0; p < dim; ++p) {
    for (int q = 0; q < dim; ++q)
      sum += double{a[static_cast<size_t>(i * dim + p)]} * m[static_cast<size_t>(p * dim + q)] *
             a[static_cast<size_t>(j * dim + q)];
  }
  return sum;
}

TEST(BalancedMapTest, MakesBothMomentsEqualAndDiagonal) {
  constexpr int kDim = 16;
  const std::vector<double> keys = MomentOf(Anisotropic(200, kDim, 30, 1), kDim);
  const std::vector<double> queries = MomentOf(Anisotropic(300, kDim, 0.2, 2), kDim);
  const auto map = SolveBalancedMap(keys, queries, kDim, 0);
  ASSERT_TRUE(map);
  const double size = Transformed(map->forward, keys, kDim, kDim - 1, kDim - 1);
  EXPECT_GT(size, 0);
  for (int i = 0; i < kDim; ++i) {
    for (int j = 0; j <= i; ++j) {
      const double k = Transformed(map->forward, keys, kDim, i, j);
      const double q = Transformed(map->inverse_transpose, queries, kDim, i, j);
      EXPECT_NEAR(k / size, q / size, 1e-4) << i << " " << j;
      if (i != j) {
        EXPECT_NEAR(k / size, 0, 1e-4) << i << " " << j;
      }
      double product = 0;  // A (A^-T)^T
      for (int p = 0; p < kDim; ++p)
        product += double{map->forward[static_cast<size_t>(i * kDim + p)]} *
                   map->inverse_transpose[static_cast<size_t>(j * kDim + p)];
      EXPECT_NEAR(product, i == j, 1e-4);
    }
  }
}

TEST(BalancedMapTest, NothingComesOfNothing) {
  const std::vector<double> zero(16 * 16), some = MomentOf(Anisotropic(50, 16, 2, 1), 16);
  EXPECT_FALSE(SolveBalancedMap(zero, some, 16, 0.01));
  EXPECT_FALSE(SolveBalancedMap(some, zero, 16, 0.01));
  std::vector<double> bad = some;
  bad[3] = std::nan("");
  EXPECT_FALSE(SolveBalancedMap(bad, some, 16, 0.01));
}

// Output errors of a head with these keys and queries: [without, with] at 3 bits the map that its
// first two pages give; the others are judged.
std::vector<double> ErrorsOf(const std::vector<float>& k, const std::vector<float>& q,
                             int sliding_window = 0) {
  constexpr int kDim = 64;
  const auto rows = static_cast<int64_t>(k.size()) / kDim;
  const std::vector<float> v = Anisotropic(static_cast<int>(rows), kDim, 1, 9);
  const auto first = [](const std::vector<float>& x) {
    return MomentOf({x.begin(), x.begin() + 2 * kPageTokens * kDim}, kDim);
  };
  const auto solved = SolveBalancedMap(first(k), first(q), kDim, 0.01);
  HeadCalibration head;
  head.mean.resize(kDim);
  head.forward = solved->forward;
  head.inverse_transpose = solved->inverse_transpose;
  std::vector<float> matrices(2 * kDim * kDim);
  head.WriteMatrices(matrices.data());
  const KeyMap map = {matrices.data(), matrices.data() + kDim * kDim, nullptr};
  std::vector<StoredKeys> stored;
  for (const KeyMap& used : {KeyMap{}, map})
    stored.push_back({SealedKeys({k.data(), rows, kDim}, 2, Codec::kTurbo3, used), used});
  std::vector<double> errors(stored.size(), 0.0);
  for (int page = 3; page < rows / kPageTokens; ++page) {
    const std::vector<double> of_page = OutputErrors({.q = {q.data(), rows, kDim},
                                                      .k = {k.data(), rows, kDim},
                                                      .v = {v.data(), rows, kDim},
                                                      .scale = 0.125f,
                                                      .sliding_window = sliding_window,
                                                      .first_page = 2,
                                                      .query_page = page,
                                                      .query_step = 3},
                                                     stored);
    for (size_t s = 0; s < errors.size(); ++s) errors[s] += of_page[s];
  }
  return errors;
}

TEST(AttentionErrorTest, TheMapHelpsWhereDirectionsDifferAndNotWhereTheyDoNot) {
  for (const int window : {0, 200}) {
    const auto uneven =
        ErrorsOf(Anisotropic(768, 64, 30, 3), Anisotropic(768, 64, 1.0 / 30, 4), window);
    EXPECT_GT(uneven[0], 0);
    EXPECT_LT(uneven[1], 0.5 * uneven[0]) << window;
    const auto even = ErrorsOf(Anisotropic(768, 64, 1, 5), Anisotropic(768, 64, 1, 6), window);
    EXPECT_GT(even[1], 0.9 * even[0]) << window;
  }
}

TEST(AttentionErrorTest, KeysThatAreNotQuantisedCostNothing) {
  constexpr int kDim = 64, kTokens = 512;
  const std::vector<float> k = Anisotropic(kTokens, kDim, 4, 1),
                           q = Anisotropic(kTokens, kDim, 1, 2);
  std::vector<float> rotated(k.begin() + 2 * kPageTokens * kDim, k.end());
  RotateRows(rotated.data(), kTokens - 2 * kPageTokens, kDim, kDim, Side::kKey);
  const StoredKeys exact[] = {{rotated, {}}};
  const MatrixView<const float> keys(k.data(), kTokens, kDim);
  EXPECT_LT(
      OutputErrors(
          {.q = {q.data(), kTokens, kDim}, .k = keys, .v = keys, .first_page = 2, .query_page = 3},
          exact)[0],
      1e-6);
}

TEST(HeadCalibrationTest, UsesItsMapOnlyWhereItGainsEnough) {
  HeadCalibration head;
  head.error_ratio = {0.91f, 0.90f, 0.2f};
  head.score_gain_db = kLeastScoreGain;
  EXPECT_FALSE(head.Uses(Codec::kTurbo4));  // there is none
  head.forward = head.inverse_transpose = {1};
  EXPECT_FALSE(head.Uses(Codec::kTurbo2));
  EXPECT_TRUE(head.Uses(Codec::kTurbo3));
  EXPECT_TRUE(head.Uses(Codec::kTurbo4));
  EXPECT_TRUE(head.Uses(Codec::kTurbo4Tcq));
  EXPECT_FALSE(head.Uses(Codec::kTurbo8));
  EXPECT_FALSE(head.Uses(Codec::kQ4_0));
  head.score_gain_db = kLeastScoreGain - 0.1f;
  EXPECT_FALSE(head.Uses(Codec::kTurbo4));
}

// A calibration with maps of every head far from identity, used at every width.
std::shared_ptr<Calibration> RandomCalibration(const Engine& engine, uint64_t seed) {
  const ModelSpec& spec = engine.spec();
  auto c = std::make_shared<Calibration>();
  c->model_id = engine.model_id();
  c->tokens = 1024;
  c->num_layers = spec.num_layers;
  c->kv_heads = spec.kv_heads;
  c->head_dim = spec.head_dim;
  for (int i = 0; i < c->num_layers * c->kv_heads; ++i, seed += 2) {
    const auto map =
        SolveBalancedMap(MomentOf(Anisotropic(300, spec.head_dim, 5, seed), spec.head_dim),
                         MomentOf(Anisotropic(300, spec.head_dim, 0.3, seed + 1), spec.head_dim),
                         spec.head_dim, 0.01);
    HeadCalibration head;
    head.mean = Anisotropic(1, spec.head_dim, 1, seed);
    head.forward = map->forward;
    head.inverse_transpose = map->inverse_transpose;
    head.error_ratio.fill(0.5f);
    c->heads.push_back(std::move(head));
  }
  WriteCalibration(*c);  // gives it its id
  return c;
}

class CalibratedSessionTest : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Engine> engine_ = LoadTinyEngine({.architecture = GetParam()}, 2);
  std::shared_ptr<const Calibration> calibration_ = RandomCalibration(*engine_, 100);

  Session Make(std::string_view k, int window, std::shared_ptr<const Calibration> calibration,
               int chunk = 512, PrefillMode prefill = PrefillMode::kExact) const {
    SessionOptions options = ExactOptions(*engine_, k, "f32");
    options.cache.window = window;
    options.calibration = std::move(calibration);
    options.chunk = chunk;
    options.prefill = prefill;
    return Session(engine_, options);
  }
};

// With a window longer than the text all keys stay at 8 bits: any invertible map must vanish.
TEST_P(CalibratedSessionTest, MapsLeaveAttentionUnchanged) {
  const std::vector<TokenId> tokens = RandomTokens(*engine_, 400, 1);
  Session exact = Make("f32", 128, nullptr);
  const Logits expected = Append(exact, tokens);
  for (const PrefillMode prefill : {PrefillMode::kExact, PrefillMode::kFast}) {
    Session session = Make("turbo4", 2048, calibration_, 512, prefill);
    EXPECT_LT(RelativeError(Append(session, tokens), expected), 0.03);
    const TokenId next = 5;
    Session reference = Make("f32", 128, nullptr);
    Append(reference, tokens);
    EXPECT_LT(RelativeError(Append(session, {&next, 1}), Append(reference, {&next, 1})), 0.03);
  }
}

TEST_P(CalibratedSessionTest, AnyChunkingGivesTheSameLogits) {
  const std::vector<TokenId> tokens = RandomTokens(*engine_, 600, 2);
  Logits expected;
  for (const int chunk : {1, 7, 200, 512}) {
    Session session = Make("turbo4", 128, calibration_, chunk);
    const Logits logits = Append(session, tokens);
    if (expected.empty()) expected = logits;
    EXPECT_LT(RelativeError(logits, expected), 0.01) << "in chunks of " << chunk;
  }
}

TEST_P(CalibratedSessionTest, SessionFilesGoOnWithTheirCalibrationAndRefuseAnother) {
  const TemporaryFolder folder;
  Session saved = Make("turbo4", 128, calibration_);
  const Logits logits = Append(saved, RandomTokens(*engine_, 420, 3));
  saved.Save(folder / "a.session");
  Session same = Make("turbo4", 128, calibration_);
  same.Restore(folder / "a.session");
  EXPECT_TRUE(Decode(same, logits, 10) == Decode(saved, logits, 10));

  for (const auto& other : {RandomCalibration(*engine_, 7), std::shared_ptr<Calibration>()}) {
    Session session = Make("turbo4", 128, other);
    try {
      session.Restore(folder / "a.session");
      FAIL() << "it was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr("keys were saved with calibration"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, CalibratedSessionTest, testing::Values("llama", "gemma3"));

TEST(CalibratedSession, RowsHaveNoUseForItAndOtherModelsAreRefused) {
  const auto engine = LoadTinyEngine(), other = LoadTinyEngine({.name = "other"});
  SessionOptions options = ExactOptions(*engine, "f16", "turbo4");
  options.calibration = RandomCalibration(*engine, 1);
  EXPECT_EQ(Session(engine, options).options().calibration, nullptr);
  options.cache = MakePolicy(*engine, "turbo4", "turbo4");
  EXPECT_NE(Session(engine, options).options().calibration, nullptr);
  EXPECT_THROW(Session(other, options), Error);
}

class CalibrationFileTest : public testing::Test {
 protected:
  std::shared_ptr<const Engine> engine_ = LoadTinyEngine();
  std::shared_ptr<Calibration> calibration_ = RandomCalibration(*engine_, 3);
  std::vector<std::byte> bytes_ = WriteCalibration(*calibration_);

  ErrorCode Refusal(std::span<const std::byte> bytes) const {
    try {
      ReadCalibration(bytes);
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "it was accepted";
    return ErrorCode::kCancelled;
  }
};

TEST_F(CalibrationFileTest, ComesBackAsItWas) {
  calibration_->heads[1].forward.clear();
  calibration_->heads[1].inverse_transpose.clear();
  bytes_ = WriteCalibration(*calibration_);
  Calibration read = ReadCalibration(bytes_);
  EXPECT_EQ(read.id, calibration_->id);
  EXPECT_EQ(WriteCalibration(read), bytes_);
  EXPECT_EQ(read.heads[0].forward, calibration_->heads[0].forward);
  EXPECT_TRUE(read.heads[1].forward.empty());
  calibration_->heads[0].mean[5] += 1;
  WriteCalibration(*calibration_);
  EXPECT_NE(read.id, calibration_->id);
}

TEST_F(CalibrationFileTest, DamageIsNoticed) {
  for (size_t at = 0; at < bytes_.size(); at += at < 200 ? 1 : 997) {
    std::vector<std::byte> damaged = bytes_;
    damaged[at] ^= std::byte{0x10};
    EXPECT_EQ(Refusal(damaged),
              at >= 8 && at < 12 ? ErrorCode::kUnsupported : ErrorCode::kCorruptFile)
        << at;
  }
  for (const size_t size : {size_t{0}, size_t{20}, size_t{64}, bytes_.size() - 1}) {
    EXPECT_EQ(Refusal(std::span(bytes_).first(size)), ErrorCode::kCorruptFile);
  }
}

// The store on a text of its own: what is made, reused, made anew.
class CalibrationStoreTest : public testing::Test {
 protected:
  std::shared_ptr<const Engine> engine_ = LoadTinyEngine({}, 2);
  TemporaryFolder folder_;
  int layers_done_ = 0;
  std::vector<std::string> notices_;

  std::shared_ptr<const Calibration> Find(const std::filesystem::path& folder,
                                          std::string_view text = {}) {
    layers_done_ = 0;
    notices_.clear();
    return FindOrMakeCalibration(*engine_, folder,
                                 {.text = text, .progress = [&](int, int) { ++layers_done_; }},
                                 [&](const std::string& notice) { notices_.push_back(notice); });
  }
};

TEST_F(CalibrationStoreTest, MadeOnceReusedAndMadeAnewWhereItCannotBeUsed) {
  const std::filesystem::path folder = folder_ / "cache";
  const auto made = Find(folder);
  ASSERT_NE(made, nullptr);
  EXPECT_EQ(layers_done_, 2);
  EXPECT_EQ(made->heads.size(), 4u);
  EXPECT_GE(made->tokens, kLeastCalibrationTokens);
  const auto path = CalibrationPath(folder, engine_->model_id());
  ASSERT_TRUE(std::filesystem::exists(path));

  const auto reused = Find(folder);
  EXPECT_EQ(layers_done_, 0);
  EXPECT_EQ(reused->id, made->id);
  EXPECT_TRUE(notices_.empty());

  std::ofstream(path, std::ios::trunc)
      << "not a calibration at all, but long enough to be looked at";
  EXPECT_EQ(Find(folder)->id, made->id);
  EXPECT_EQ(layers_done_, 2);
  EXPECT_THAT(notices_, testing::ElementsAre(AllOf(HasSubstr(path.string()), HasSubstr("anew"))));

  const auto other = LoadTinyEngine({.name = "other"});
  Calibration foreign = *RandomCalibration(*other, 1);
  SaveCalibration(path, WriteCalibration(foreign));
  EXPECT_EQ(Find(folder)->id, made->id);
  EXPECT_THAT(notices_, testing::ElementsAre(HasSubstr("another model")));
}

TEST_F(CalibrationStoreTest, GoesOnWhereItCannotBeKeptOrMade) {
  std::ofstream(folder_ / "file") << "in the way";
  EXPECT_NE(Find(folder_ / "file"), nullptr);
  EXPECT_THAT(notices_, testing::Contains(HasSubstr("not kept")));
  EXPECT_EQ(Find(folder_ / "cache", "too short"), nullptr);
  EXPECT_THAT(notices_, testing::ElementsAre(
                            AllOf(HasSubstr("too few tokens"), HasSubstr("without calibration"))));
}

}  // namespace
}  // namespace tq::test
