// SPDX-License-Identifier: Apache-2.0
// Whether figures bear a claim out, by rule: nobody looks at them first.
#pragma once

#include <string_view>

#include "lab/statistics.h"

namespace tq::lab {

enum class Relation {
  kBetter,    // a is better than b
  kNoBetter,  // a is not better than b by more than the margin
  kSame       // a and b differ by no more than the margin
};

enum class Verdict { kConfirmed, kContradicted, kUndecided };

std::string_view NameOf(Verdict verdict);
std::string_view NameOf(Relation relation);  // "better than", ...

// Where a claim names no margin: 0 for kBetter, else the 10 % that the listing's own repetitions
// scatter by.
double MarginOf(Relation relation, double margin);

// gain: how much better a's figure is than b's, with its standard error; margin in the same unit.
// Confirmed or contradicted where the gain lies two standard errors on one side of the margin.
Verdict Judge(Relation relation, Estimate gain, double margin);

// Of several claims: one contradicted contradicts, one undecided leaves undecided.
Verdict Worse(Verdict a, Verdict b);

}  // namespace tq::lab
