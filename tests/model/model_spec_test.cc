// SPDX-License-Identifier: Apache-2.0
// Metadata and tensors -> ModelSpec and weights; what cannot be run is refused by name.
#include "turboquant/model/model_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/support/tiny_model.h"
#include "turboquant/base/error.h"
#include "turboquant/model/weights.h"

namespace tq {
namespace {

using test::TinyModel;
using test::TinyModelFile;
using test::TinyModelOf;
using test::TinyRope;
using ::testing::HasSubstr;

ModelSpec SpecOf(const TinyModel& model) { return ReadModelSpec(*TinyModelFile(model)); }

TEST(ModelSpec, ArchitecturesDifferByFlags) {
  const ModelSpec llama = SpecOf(TinyModelOf("llama"));
  EXPECT_EQ(llama.ropes[0].style, RopeStyle::kInterleaved);
  EXPECT_EQ(llama.activation, Activation::kSilu);
  EXPECT_FALSE(llama.qkv_bias || llama.qk_norm || llama.post_norms);
  EXPECT_TRUE(llama.tied_output);
  EXPECT_EQ(llama.embedding_scale, 1.0f);
  EXPECT_FLOAT_EQ(llama.attention_scale, 0.125f);
  EXPECT_EQ(llama.kv_geometry(), (KvGeometry{2, 2, 64, {0, 0}}));

  const ModelSpec qwen2 = SpecOf(TinyModelOf("qwen2"));
  EXPECT_EQ(qwen2.ropes[0].style, RopeStyle::kHalves);
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_TRUE(SpecOf(TinyModelOf("qwen3")).qk_norm);

  const ModelSpec gemma = SpecOf(TinyModelOf("gemma3"));
  EXPECT_TRUE(gemma.qk_norm && gemma.post_norms);
  EXPECT_EQ(gemma.activation, Activation::kGeluTanh);
  EXPECT_EQ(gemma.embedding_scale, 8.0f);
  EXPECT_EQ(gemma.ropes.size(), 2u);
  EXPECT_EQ(gemma.kv_geometry().sliding_window, (std::vector<int>{32, 32, 32, 32, 32, 0, 32}));
  EXPECT_EQ(gemma.layers[5].rope, 0);
  EXPECT_EQ(gemma.layers[6].rope, 1);
}

TEST(ModelSpec, SizesOfEveryLayerMayBeAListIfTheyAreEqual) {
  TinyModel model;
  model.metadata["llama.feed_forward_length"] = std::vector<int32_t>{96, 96};
  EXPECT_EQ(SpecOf(model).feed_forward, 96);
}

TEST(ModelSpec, ZeroMeansThatAFeatureIsAbsent) {
  TinyModel model;
  model.metadata["llama.final_logit_softcapping"] = 0.0f;
  model.metadata["llama.expert_count"] = 0u;
  EXPECT_EQ(SpecOf(model).num_layers, 2);
}

// Reads spec and weights; the message that they are refused with.
std::string Refusal(const TinyModel& model, ErrorCode code) {
  const TinyModelFile file(model);
  try {
    const auto backend = MakeBackend({.device = "cpu", .threads = 1});
    LoadWeights(*file, ReadModelSpec(*file), *backend);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(ModelSpec, WhatIsNotRunIsRefusedByName) {
  const auto refusal = [](const std::function<void(TinyModel&)>& change,
                          const char* architecture = "llama") {
    TinyModel model = TinyModelOf(architecture);
    change(model);
    return Refusal(model, ErrorCode::kUnsupported);
  };
  EXPECT_EQ(refusal([](TinyModel& m) { m.architecture = "mamba"; }),
            "models of architecture 'mamba' are not run; these are: llama, qwen2, qwen3, gemma3");
  EXPECT_THAT(refusal([](TinyModel& m) { m.architecture = "gemma2"; }), HasSubstr("'gemma2'"));
  EXPECT_THAT(
      refusal([](TinyModel& m) { m.metadata["gemma3.attn_logit_softcapping"] = 50.0f; }, "gemma3"),
      HasSubstr("a soft cap on attention scores ('gemma3.attn_logit_softcapping')"));
  EXPECT_THAT(
      refusal([](TinyModel& m) { m.metadata["gemma3.final_logit_softcapping"] = 30.0f; }, "gemma3"),
      HasSubstr("a soft cap on logits ('gemma3.final_logit_softcapping')"));
  EXPECT_THAT(refusal([](TinyModel& m) { m.metadata["llama.expert_count"] = 8u; }),
              HasSubstr("experts ('llama.expert_count')"));
  EXPECT_THAT(
      refusal(
          [](TinyModel& m) { m.metadata["llama.rope.scaling.type"] = std::string("longrope"); }),
      HasSubstr("RoPE scaling 'longrope' is not run; these are: none, linear, yarn, and llama3"));
  EXPECT_THAT(refusal([](TinyModel& m) { m.metadata["llama.attention.value_length"] = 32u; }),
              HasSubstr("different head dims (64 and 32)"));
  EXPECT_THAT(refusal([](TinyModel& m) {
                m.metadata["llama.attention.head_count_kv"] = std::vector<int32_t>{2, 4};
              }),
              HasSubstr("'llama.attention.head_count_kv' differs from layer to layer (2 and 4)"));
}

TEST(ModelSpec, ValuesThatCannotBeAreRefusedByKey) {
  const auto with = [](const std::string& key, GgufOutValue value,
                       const char* architecture = "llama") {
    TinyModel model = TinyModelOf(architecture);
    model.metadata[key] = std::move(value);
    return Refusal(model, ErrorCode::kCorruptFile);
  };
  EXPECT_THAT(with("llama.block_count", 0u), HasSubstr("'llama.block_count' is 0: it must be 1"));
  EXPECT_THAT(with("llama.block_count", 3u),
              HasSubstr("tensor 'blk.2.attn_norm.weight' is missing"));
  EXPECT_THAT(with("llama.embedding_length", 4000000000u), HasSubstr("it must be 1 to 1048576"));
  EXPECT_THAT(with("llama.embedding_length", -1), HasSubstr("must not be negative"));
  EXPECT_THAT(with("llama.attention.head_count_kv", 3u),
              HasSubstr("4 query heads cannot share 3 key heads"));
  EXPECT_THAT(with("llama.attention.layer_norm_rms_epsilon", 0.0f),
              HasSubstr("it must be a positive number"));
  EXPECT_THAT(with("llama.rope.freq_base", std::nanf("")),
              HasSubstr("it must be a positive number"));
  EXPECT_THAT(with("llama.rope.dimension_count", 33u), HasSubstr("it must be even"));
  EXPECT_THAT(with("llama.rope.dimension_count", 128u), HasSubstr("it must be 1 to 64"));
  EXPECT_THAT(with("llama.rope.scaling.type", std::string("yarn")),
              HasSubstr("'llama.rope.scaling.factor' is missing"));
  EXPECT_THAT(with("general.architecture", 7u), HasSubstr("'general.architecture' is an integer"));
}

TEST(ModelSpec, MissingKeysAndTensorsAreNamed) {
  const auto without = [](const std::string& what, const char* architecture) {
    TinyModel model = TinyModelOf(architecture);
    model.omit = {what};
    return Refusal(model, ErrorCode::kCorruptFile);
  };
  for (const char* key :
       {"general.architecture", "qwen3.block_count", "qwen3.context_length",
        "qwen3.embedding_length", "qwen3.feed_forward_length", "qwen3.attention.head_count",
        "token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.1.attn_q.weight",
        "blk.1.attn_k_norm.weight", "blk.0.ffn_gate.weight", "blk.1.ffn_down.weight"}) {
    EXPECT_THAT(without(key, "qwen3"), HasSubstr(std::string("'") + key + "' is missing"));
  }
  EXPECT_THAT(without("gemma3.attention.sliding_window", "gemma3"),
              HasSubstr("'gemma3.attention.sliding_window' is missing"));
  EXPECT_THAT(without("blk.3.post_ffw_norm.weight", "gemma3"),
              HasSubstr("'blk.3.post_ffw_norm.weight' is missing"));
  EXPECT_THAT(without("blk.1.attn_k.bias", "qwen2"), HasSubstr("only 2 of 3 have a bias"));
}

TEST(ModelSpec, TensorsOfOtherShapesAreNamed) {
  const auto shaped = [](const std::string& tensor, std::vector<uint64_t> shape,
                         TinyRope rope = TinyRope::kPlain) {
    TinyModel model = TinyModelOf("qwen2");
    model.rope = rope;
    model.shapes[tensor] = std::move(shape);
    return Refusal(model, ErrorCode::kCorruptFile);
  };
  EXPECT_THAT(shaped("blk.0.attn_q.weight", {64, 128}),
              HasSubstr("tensor 'blk.0.attn_q.weight' has shape [128, 64], but the model's "
                        "metadata asks for [256, 64]"));
  EXPECT_THAT(shaped("blk.0.attn_v.bias", {64}), HasSubstr("'blk.0.attn_v.bias' has shape"));
  EXPECT_THAT(shaped("blk.1.ffn_norm.weight", {32, 2}), HasSubstr("'blk.1.ffn_norm.weight'"));
  EXPECT_THAT(shaped("token_embd.weight", {32, 276}), HasSubstr("'token_embd.weight'"));
  EXPECT_THAT(shaped("rope_freqs.weight", {16}, TinyRope::kLlama3),
              HasSubstr("'rope_freqs.weight' must hold 32 F32 values"));
}

}  // namespace
}  // namespace tq
