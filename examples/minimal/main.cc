// SPDX-License-Identifier: Apache-2.0
// Continues a prompt from a compressed cache: minimal MODEL.gguf "PROMPT"
#include <cstdio>

#include "turboquant/engine/generate.h"

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: minimal MODEL.gguf PROMPT\n"), 2;
  try {
    const auto engine = tq::Engine::Load({.model = argv[1], .backend = {}, .progress = {}});
    tq::SessionOptions options;
    options.cache = tq::MakePolicy(*engine, "turbo4", "turbo3");
    options.context = 512;
    tq::Session session(engine, options);
    tq::Sampler sampler({.temperature = 0});
    const auto logits = session.Append(engine->tokenizer().Encode(argv[2], true, true));
    std::puts(tq::Generate(session, sampler, logits, {.max_tokens = 32}).text.c_str());
  } catch (const tq::Error& error) {
    return std::fprintf(stderr, "error: %s\n", error.what()), 1;
  }
}
