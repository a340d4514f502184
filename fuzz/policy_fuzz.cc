// SPDX-License-Identifier: Apache-2.0
// Policy texts: parsed or refused with tq::Error; what was parsed survives its own text form.
#include "turboquant/base/error.h"
#include "turboquant/kv/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const int layers = data[0] % 64 + 1;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const auto codecs = tq::ParseCodecList(text, layers, tq::Codec::kTurbo4);
    TQ_CHECK(codecs.size() == static_cast<size_t>(layers));
    TQ_CHECK(tq::ParseCodecList(tq::CodecListText(codecs), layers, tq::Codec::kF16) == codecs);
  } catch (const tq::Error&) {
  }
  try {
    const auto steps = tq::ParseAgeSteps(text);
    TQ_CHECK(!steps.empty() && tq::ParseAgeSteps(tq::AgeStepsText(steps)) == steps);
  } catch (const tq::Error&) {
  }
  return 0;
}
