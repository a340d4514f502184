// SPDX-License-Identifier: Apache-2.0
// make_tables FOLDER: writes codebooks.inc and signs.inc into FOLDER (turboquant/codec/tables).
#include <cstdio>
#include <fstream>
#include <string>

#include "tools/table_generator.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_tables FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  std::ofstream(folder + "/codebooks.inc") << tq::MakeCodebookTable();
  std::ofstream(folder + "/signs.inc") << tq::MakeSignTable();
  return 0;
}
