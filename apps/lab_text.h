// SPDX-License-Identifier: Apache-2.0
// What `lab list` and `lab run` print of an experiment.
#pragma once

#include <string>

#include "apps/lab_record.h"

namespace tq::app {

// What was published, or why it cannot be run and what can.
std::string ExperimentText(const lab::Experiment& experiment);
// Our figures, the claims, the verdict, the command.
std::string RecordText(const lab::Experiment& experiment, const LabRecord& record);

// "0.00668", "51.3": as many digits as the unit bears.
std::string FigureText(const std::string& unit, double value);
std::string EstimateText(const std::string& unit, const lab::Estimate& estimate);  // "1.2 ± 0.3"
// "turbo3_tcq is better than turbo3, by 0.00123 ± 0.00042"
std::string ClaimText(const std::string& unit, const MeasuredClaim& claim);

}  // namespace tq::app
