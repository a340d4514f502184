// SPDX-License-Identifier: Apache-2.0
// Makes the committed tables of turboquant/codec/tables: tools/make_tables writes them, a test
// regenerates and compares.
#pragma once

#include <string>

namespace tq {

std::string MakeCodebookTable();  // codebooks.inc
std::string MakeSignTable();      // signs.inc

}  // namespace tq
