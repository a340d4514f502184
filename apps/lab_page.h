// SPDX-License-Identifier: Apache-2.0
// The lab's results as one HTML page that needs nothing else, and as JSON.
#pragma once

#include <string>
#include <vector>

#include "apps/lab_record.h"

namespace tq::app {

// Of each experiment the newest record per model, device and --quick, in the file's order.
std::vector<LabRecord> NewestRecords(const std::vector<LabRecord>& records);

// Every experiment of the listing, measured or not.
std::string LabPage(const std::vector<LabRecord>& newest);
std::string LabJson(const std::vector<LabRecord>& newest);

}  // namespace tq::app
