// SPDX-License-Identifier: Apache-2.0
// What the tests of the command run on: a model of a megabyte with random weights, and a text.
#pragma once

#include <string>

namespace tq::test {

// Two layers, head dim 64, byte-level vocabulary; greedy, it generates lower-case letters and
// blanks. Written on first use.
const std::string& TinyModelFile();

// Some thousand tokens for that model.
const std::string& LongTextFile();

}  // namespace tq::test
