// SPDX-License-Identifier: Apache-2.0
// Every operation of the CUDA backend against the CPU's.
#include <cuda_runtime_api.h>

#include "tests/cuda/device_pair.h"
#include "tests/ops/random_blocks.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/ops/cuda/elementwise_kernels.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq::test {
namespace {

class OpsDeviceTest : public DeviceTest {};

TEST_F(OpsDeviceTest, RmsNormAddAndActivations) {
  for (const int64_t cols : {33, 64, 576, 4096}) {
    for (const int64_t rows : {1, 5, 37}) {
      const std::vector<float> x = Gaussian(rows * cols, 1), y = Gaussian(rows * cols, 2, 3);
      const std::vector<float> weight = Gaussian(cols, 3);
      std::vector<std::vector<float>> results[2];
      for (int i = 0; i < 2; ++i) {
        Backend& backend = i == 0 ? Cpu() : *Gpu();
        OnDevice a(backend, x, rows, cols), b(backend, y, rows, cols), w(backend, weight, 1, cols);
        OnDevice out(backend, rows, cols);
        backend.RmsNorm(a.view(), w.data(), 1e-5f, out.view());
        results[i].push_back(out.Host());
        backend.GatedActivation(Activation::kSilu, a.view(), b.view(), out.view());
        results[i].push_back(out.Host());
        backend.GatedActivation(Activation::kGeluTanh, a.view(), b.view(), out.view());
        results[i].push_back(out.Host());
        backend.Add(a.view(), b.view());
        results[i].push_back(a.Host());
        backend.RmsNorm(a.view(), w.data(), 1e-5f, a.view());  // in place
        results[i].push_back(a.Host());
      }
      const char* names[] = {"RmsNorm", "SiLU", "GELU", "Add", "RmsNorm in place"};
      for (size_t i = 0; i < std::size(names); ++i) {
        ExpectClose(results[1][i], results[0][i], 1e-6, cols,
                    fmt::format("{} of {} x {}", names[i], rows, cols));
      }
    }
  }
}

// Whether a search goes on beside it must not show.
TEST_F(OpsDeviceTest, NormsInSmallBlocksHaveTheSameBits) {
  constexpr int64_t kRows = 37;
  for (const int64_t cols : {2048, 2052, 3000, 4096, 4100}) {
    const std::vector<float> x = Gaussian(kRows * cols, 1), y = Gaussian(kRows * cols, 2, 3);
    const std::vector<float> weight = Gaussian(cols, 3);
    for (const bool added : {false, true}) {
      std::vector<float> sums[2], norms[2];
      std::vector<uint16_t> bf16[2];
      for (int shares = 0; shares < 2; ++shares) {
        OnDevice a(*Gpu(), x, kRows, cols), b(*Gpu(), y, kRows, cols);
        OnDevice w(*Gpu(), weight, 1, cols), out(*Gpu(), kRows, cols);
        bf16[shares].resize(x.size());
        const size_t bytes = x.size() * sizeof(uint16_t);
        const cuda::DeviceBytes tokens(bytes, "tokens");
        cuda::LaunchRmsNorm(a.view(), added ? b.data() : nullptr, cols, w.data(), 1e-5f, out.view(),
                            {.bf16 = tokens.as<uint16_t>()}, shares != 0, nullptr);
        ASSERT_EQ(cudaMemcpy(bf16[shares].data(), tokens.as<void>(), bytes, cudaMemcpyDefault),
                  cudaSuccess);
        sums[shares] = a.Host();
        norms[shares] = out.Host();
      }
      OnDevice a(Cpu(), x, kRows, cols), b(Cpu(), y, kRows, cols), w(Cpu(), weight, 1, cols);
      OnDevice out(Cpu(), kRows, cols);
      if (added) Cpu().Add(a.view(), b.view());
      Cpu().RmsNorm(a.view(), w.data(), 1e-5f, out.view());
      ExpectClose(norms[0], out.Host(), 1e-6, cols, "norm");
      EXPECT_EQ(norms[0], norms[1]) << cols << " " << added;
      EXPECT_EQ(sums[0], sums[1]) << cols << " " << added;
      EXPECT_EQ(bf16[0], bf16[1]) << cols << " " << added;
    }
  }
}

TEST_F(OpsDeviceTest, Rope) {
  for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
    RopeTable table;
    table.style = style;
    table.rotary_dim = 48;
    table.magnitude = 1.2f;
    for (int i = 0; i < 24; ++i) table.frequencies.push_back(std::pow(10000.0, -i / 24.0));
    std::vector<int32_t> positions = {0, 1, 17, 131071};
    for (const int64_t tokens : {4, 21}) {  // few and many have kernels of their own
      for (auto i = static_cast<int64_t>(positions.size()); i < tokens; ++i)
        positions.push_back(static_cast<int32_t>(i * 97));
      const std::vector<float> x = Gaussian(tokens * 3 * 64, 5);
      std::vector<float> results[2];
      for (int i = 0; i < 2; ++i) {
        Backend& backend = i == 0 ? Cpu() : *Gpu();
        OnDevice a(backend, x, tokens, 3 * 64);
        backend.Rope(a.view(), 3, 64, positions, table);
        results[i] = a.Host();
      }
      ExpectClose(results[1], results[0], 1e-6, 3 * 64,
                  fmt::format("Rope of {} tokens, {}", tokens,
                              style == RopeStyle::kHalves ? "halves" : "interleaved"));
    }
  }
}

struct Weight {
  RandomTensor tensor;
  std::unique_ptr<const PackedWeight> on[2];  // CPU, GPU
  Weight(BlockFormat format, int64_t rows, int64_t cols)
      : tensor(MakeRandomTensor(format, rows, cols, 7)) {
    const GgufTensor* one = &tensor.tensor;
    on[0] = Cpu().LoadWeight({&one, 1});
    on[1] = Gpu()->LoadWeight({&one, 1});
  }
};

TEST_F(OpsDeviceTest, EmbedAndDecodeRowOfEveryLayout) {
  for (const PackedLayout& layout : kPackedLayouts) {
    const Weight weight(layout.format, 43, 512);
    const std::vector<int32_t> tokens = {0, 42, 15, 16, 7, 8};
    std::vector<float> results[2];
    for (int i = 0; i < 2; ++i) {
      Backend& backend = i == 0 ? Cpu() : *Gpu();
      OnDevice out(backend, 6, 512);
      backend.Embed(*weight.on[i], tokens, 1.5f, out.view());
      results[i] = out.Host();
    }
    ExpectClose(results[1], results[0], 1e-6, 512, fmt::format("Embed, {}", layout.name));
    std::vector<float> row(512), want(512);
    weight.on[0]->DecodeRow(42, want.data());
    weight.on[1]->DecodeRow(42, row.data());
    EXPECT_EQ(row, want) << layout.name;
  }
}

// cols: whole and partial units of a warp, more and fewer columns than a block's warps take at
// once.
TEST_F(OpsDeviceTest, LinearOfEveryLayout) {
  for (const PackedLayout& layout : kPackedLayouts) {
    for (const int64_t cols : {256, 288, 1280, 1312, 4096}) {
      if (cols % layout.record_columns() != 0) continue;
      const int64_t rows = 75;
      const Weight weight(layout.format, rows, cols);
      const std::vector<float> bias = Gaussian(rows, 11);
      for (const int64_t tokens : {1, 2, 3, 7, 8, 9, 40}) {
        const std::vector<float> x = Gaussian(tokens * cols, 13 + static_cast<uint64_t>(tokens));
        std::vector<float> results[2][2];  // [backend][precision]
        for (int i = 0; i < 2; ++i) {
          Backend& backend = i == 0 ? Cpu() : *Gpu();
          OnDevice a(backend, x, tokens, cols), b(backend, bias, 1, rows);
          for (const Precision precision : {Precision::kFast, Precision::kPrecise}) {
            OnDevice out(backend, tokens, rows);
            const LinearOut one{weight.on[i].get(), tokens % 2 == 0 ? nullptr : b.data(),
                                out.view()};
            backend.Linear(a.view(), {&one, 1}, precision);
            results[i][static_cast<int>(precision)] = out.Host();
            if (tokens > 8) continue;
            // Two products share records, where one of one token may quantise it on its way.
            OnDevice first(backend, tokens, rows), second(backend, tokens, rows);
            const LinearOut two[] = {{one.weight, one.bias, first.view()},
                                     {one.weight, one.bias, second.view()}};
            backend.Linear(a.view(), two, precision);
            EXPECT_EQ(first.Host(), out.Host()) << layout.name << ", " << cols << ", " << tokens;
            EXPECT_EQ(second.Host(), out.Host()) << layout.name << ", " << cols << ", " << tokens;
          }
        }
        const std::string what =
            fmt::format("Linear, {}, {} columns, {} tokens", layout.name, cols, tokens);
        ExpectClose(results[1][1], results[0][1], 3e-6, rows, what + ", precise");
        // Few tokens: the same 8-bit codes as on the CPU. Many: bf16 against 8-bit tokens.
        const double most = tokens <= 8 ? 3e-6 : 2e-2;
        ExpectClose(results[1][0], results[0][0], most, rows, what + ", fast");
        if (tokens > 8)
          ExpectClose(results[1][0], results[0][1], 6e-3, rows, what + ", fast against precise");
      }
    }
  }
}

// More panels than have their blocks at once: few tokens take other kernels then.
TEST_F(OpsDeviceTest, LinearOfManyRows) {
  for (const PackedLayout& layout : kPackedLayouts) {
    for (const int64_t cols : {288, 512, 1312}) {
      if (cols % layout.record_columns() != 0) continue;
      const int64_t rows = 16 * 2 * 160 + 7;
      const Weight weight(layout.format, rows, cols);
      for (const int64_t tokens : {1, 2, 3, 4, 5, 8}) {
        const std::vector<float> x = Gaussian(tokens * cols, 17 + static_cast<uint64_t>(tokens));
        std::vector<float> results[2];
        for (int i = 0; i < 2; ++i) {
          Backend& backend = i == 0 ? Cpu() : *Gpu();
          OnDevice a(backend, x, tokens, cols), out(backend, tokens, rows);
          const LinearOut one{weight.on[i].get(), nullptr, out.view()};
          backend.Linear(a.view(), {&one, 1}, Precision::kFast);
          results[i] = out.Host();
        }
        ExpectClose(results[1], results[0], 3e-6, rows,
                    fmt::format("Linear, {}, {} columns, {} tokens", layout.name, cols, tokens));
      }
    }
  }
}

// What makes a product's tokens hands them over in the form that the product reads: the same bits
// as if they had been converted, and never those of what was there before.
class HandedOverTest : public DeviceTest {
 protected:
  static constexpr int64_t kCols = 512, kRows = 75;

  static std::vector<float> Product(const Weight& weight, MatrixView<const float> x,
                                    Precision precision, OnDevice& out) {
    const LinearOut one{weight.on[1].get(), nullptr, {out.data(), x.rows, kRows}};
    Gpu()->Linear(x, {&one, 1}, precision);
    std::vector<float> got = out.Host();
    got.resize(static_cast<size_t>(x.rows * kRows));
    return got;
  }
  // The same tokens, as far apart, as data that come from the host.
  static std::vector<float> Wanted(const Weight& weight, MatrixView<const float> x,
                                   Precision precision) {
    std::vector<float> rows(static_cast<size_t>(x.rows * x.stride), NAN);
    for (int64_t r = 0; r < x.rows; ++r)
      Gpu()->Read(x.row(r), rows.data() + r * x.stride, static_cast<size_t>(x.cols));
    OnDevice out(*Gpu(), x.rows, kRows), copy(*Gpu(), rows, x.rows, x.stride);
    return Product(weight, {copy.data(), x.rows, x.cols, x.stride}, precision, out);
  }
};

class TokensOfProductsTest : public HandedOverTest,
                             public ::testing::WithParamInterface<BlockFormat> {};
// Codes of 4 bits, and halves of a group that have scales of their own.
INSTANTIATE_TEST_SUITE_P(Formats, TokensOfProductsTest,
                         ::testing::Values(BlockFormat::kQ4_K, BlockFormat::kQ6_K));

TEST_P(TokensOfProductsTest, AsIfConverted) {
  const Weight weight(GetParam(), kRows, kCols);
  Backend& gpu = *Gpu();
  for (const Precision precision : {Precision::kFast, Precision::kPrecise, Precision::kFast}) {
    for (const int64_t tokens : {1, 2, 3, 8, 9, 40}) {
      OnDevice x(gpu, Gaussian(tokens * kCols, 1), tokens, kCols);
      OnDevice y(gpu, Gaussian(tokens * kCols, 2), tokens, kCols);
      OnDevice norm(gpu, Gaussian(kCols, 3), 1, kCols);
      OnDevice both(gpu, Gaussian(tokens * 2 * kCols, 4), tokens, 2 * kCols);
      const MatrixView<float> gate(both.data(), tokens, kCols, 2 * kCols);
      const MatrixView<float> up(both.data() + kCols, tokens, kCols, 2 * kCols);
      // Memory is there before: whatever writes floats makes the backend forget what was handed
      // over.
      OnDevice out(gpu, tokens, kCols), product(gpu, tokens, kRows);
      const auto check = [&](MatrixView<const float> made, const char* what) {
        const std::vector<float> got = Product(weight, made, precision, product);
        EXPECT_EQ(got, Wanted(weight, made, precision))
            << what << " of " << tokens << " tokens, precision " << static_cast<int>(precision);
      };
      gpu.RmsNorm(x.view(), norm.data(), 1e-5f, out.view());
      check(out.view(), "RmsNorm");
      gpu.AddRmsNorm(x.view(), y.view(), norm.data(), 1e-5f, y.view());
      check(y.view(), "AddRmsNorm");
      gpu.GatedActivation(Activation::kSilu, gate, up, gate);
      check(gate, "GatedActivation");
      gpu.GatedActivation(Activation::kGeluTanh, gate, up, out.view());
      check(out.view(), "GatedActivation elsewhere");

      // With the product in one call.
      const LinearOut one{weight.on[1].get(), nullptr, product.view()};
      OnDevice sum(gpu, x.Host(), tokens, kCols), made(gpu, tokens, kCols);
      gpu.AddRmsNormLinear(sum.view(), y.view(), norm.data(), 1e-5f, made.view(), {&one, 1},
                           precision);
      std::vector<float> got = product.Host();
      gpu.AddRmsNorm(x.view(), y.view(), norm.data(), 1e-5f, out.view());
      EXPECT_EQ(got, Wanted(weight, out.view(), precision)) << tokens << " tokens";
      EXPECT_EQ(sum.Host(), x.Host()) << tokens << " tokens";
      gpu.GatedLinear(Activation::kSilu, gate, up, made.view(), {&one, 1}, precision);
      got = product.Host();
      gpu.GatedActivation(Activation::kSilu, gate, up, out.view());
      EXPECT_EQ(got, Wanted(weight, out.view(), precision)) << tokens << " tokens";

      gpu.RmsNorm(x.view(), norm.data(), 1e-5f, out.view());
      gpu.Add(out.view(), y.view());
      check(out.view(), "RmsNorm, then Add");
      gpu.RmsNorm(x.view(), norm.data(), 1e-5f, out.view());
      gpu.RmsNorm(out.view(), norm.data(), 1e-5f, out.view());
      check(out.view(), "RmsNorm, then one in place");
      gpu.RmsNorm(x.view(), norm.data(), 1e-5f, out.view());
      check(y.view(), "RmsNorm of other tokens");
      gpu.RmsNorm(x.view(), norm.data(), 1e-5f, out.view());
      if (tokens > 1) check({out.data(), tokens - 1, kCols}, "RmsNorm, fewer tokens");
      gpu.RmsNorm(x.view(), norm.data(), 1e-5f, out.view());
      const std::vector<float> host = Gaussian(tokens * kCols, 6);
      gpu.Write(host.data(), out.data(), host.size());
      check(out.view(), "RmsNorm, then Write");
    }
  }
}

// More panels than multiprocessors, which share warps in parts and whole; fewer units than warps;
// tokens that have no room in shared memory. The first product leaves shared memory full of sums,
// which the others must not take for theirs.
TEST_F(OpsDeviceTest, LinearOfManyPanelsAndLongRows) {
  struct Shape {
    int64_t rows, cols;
  };
  for (const PackedLayout& layout : kPackedLayouts) {
    if (!layout.quantised()) continue;
    for (const Shape shape : {Shape{4096, 4096}, Shape{64, 1280}, Shape{1024, 3072},
                              Shape{5003, 512}, Shape{40, 32768}}) {
      const Weight weight(layout.format, shape.rows, shape.cols);
      for (const int64_t tokens : {1, 2, 5, 8}) {
        const std::vector<float> x =
            Gaussian(tokens * shape.cols, 31 + static_cast<uint64_t>(tokens));
        std::vector<float> results[2];
        for (int i = 0; i < 2; ++i) {
          Backend& backend = i == 0 ? Cpu() : *Gpu();
          OnDevice a(backend, x, tokens, shape.cols), out(backend, tokens, shape.rows);
          const LinearOut one{weight.on[i].get(), nullptr, out.view()};
          backend.Linear(a.view(), {&one, 1}, Precision::kFast);
          results[i] = out.Host();
        }
        ExpectClose(results[1], results[0], 3e-6, shape.rows,
                    fmt::format("Linear, {}, {} x {}, {} tokens", layout.name, shape.rows,
                                shape.cols, tokens));
      }
    }
  }
}

TEST_F(OpsDeviceTest, LargestOfRows) {
  std::vector<float> x = Gaussian(5 * 3001, 21);
  x[7] = x[3000] = 9;  // the first of equals
  x[3001 + 5] = NAN;   // never
  x[2 * 3001 + 2999] = 1e9f;
  std::fill_n(x.begin() + 3 * 3001, 3001, -INFINITY);
  std::fill_n(x.begin() + 4 * 3001, 3001, NAN);
  std::vector<int32_t> results[2] = {std::vector<int32_t>(5), std::vector<int32_t>(5)};
  for (int i = 0; i < 2; ++i) {
    Backend& backend = i == 0 ? Cpu() : *Gpu();
    OnDevice a(backend, x, 5, 3001);
    backend.Largest(a.view(), results[i].data());
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[0][0], 7);
  EXPECT_EQ(results[0][3], -1);
}

TEST_F(OpsDeviceTest, ArenaMemoryKeepsZeroesCopiesAndGivesBack) {
  constexpr uint64_t kSlab = PageArena::kSlabBytes;
  const auto memory = Gpu()->MakeArenaMemory(64 * kSlab);
  ASSERT_GE(memory->reserved_bytes(), 64 * kSlab);
  EXPECT_FALSE(memory->Commit(3 * kSlab, 2 * kSlab));
  memory->ZeroBlock(3 * kSlab, 2 * kSlab);
  std::vector<std::byte> bytes(4096), read(4096);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  memory->ReadBlock(4 * kSlab - 2048, read.data(), read.size());  // across the slabs
  EXPECT_EQ(read, std::vector<std::byte>(4096));
  memory->WriteBlock(4 * kSlab - 2048, bytes.data(), bytes.size());
  memory->CopyBlock(4 * kSlab - 2048, 3 * kSlab, 4096);
  memory->ReadBlock(3 * kSlab, read.data(), read.size());
  EXPECT_EQ(read, bytes);
  memory->ZeroBlock(3 * kSlab, 4096);
  memory->ReadBlock(3 * kSlab, read.data(), read.size());
  EXPECT_EQ(read, std::vector<std::byte>(4096));
  memory->Decommit(4 * kSlab, kSlab);
  memory->Commit(4 * kSlab, 3 * kSlab);  // one that was there, and new ones
  memory->WriteBlock(5 * kSlab - 2048, bytes.data(), bytes.size());
  memory->ReadBlock(5 * kSlab - 2048, read.data(), read.size());
  EXPECT_EQ(read, bytes);
  memory->Decommit(3 * kSlab, 4 * kSlab);
}

}  // namespace
}  // namespace tq::test
