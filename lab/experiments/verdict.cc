// SPDX-License-Identifier: Apache-2.0
#include "lab/experiments/verdict.h"

#include <cmath>

namespace tq::lab {
namespace {

constexpr double kErrors = 2;  // standard errors that a difference has to exceed

// Whether `value` lies above `limit` for sure, below for sure, or neither.
Verdict IsAbove(double value, double error, double limit) {
  if (value - kErrors * error > limit) return Verdict::kConfirmed;
  if (value + kErrors * error < limit) return Verdict::kContradicted;
  return Verdict::kUndecided;
}

Verdict Not(Verdict verdict) {
  switch (verdict) {
    case Verdict::kConfirmed:
      return Verdict::kContradicted;
    case Verdict::kContradicted:
      return Verdict::kConfirmed;
    case Verdict::kUndecided:
      break;
  }
  return Verdict::kUndecided;
}

}  // namespace

std::string_view NameOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kConfirmed:
      return "confirmed";
    case Verdict::kContradicted:
      return "contradicted";
    case Verdict::kUndecided:
      break;
  }
  return "undecided";
}

std::string_view NameOf(Relation relation) {
  switch (relation) {
    case Relation::kBetter:
      return "better than";
    case Relation::kNoBetter:
      return "no better than";
    case Relation::kSame:
      break;
  }
  return "the same as";
}

double MarginOf(Relation relation, double margin) {
  return margin > 0 || relation == Relation::kBetter ? margin : 0.1;
}

Verdict Judge(Relation relation, Estimate gain, double margin) {
  switch (relation) {
    case Relation::kBetter:
      return IsAbove(gain.value, gain.error, margin);
    case Relation::kNoBetter:
      return Not(IsAbove(gain.value, gain.error, margin));
    case Relation::kSame:
      break;
  }
  return Not(IsAbove(std::abs(gain.value), gain.error, margin));
}

Verdict Worse(Verdict a, Verdict b) {
  if (a == Verdict::kContradicted || b == Verdict::kContradicted) return Verdict::kContradicted;
  if (a == Verdict::kUndecided || b == Verdict::kUndecided) return Verdict::kUndecided;
  return Verdict::kConfirmed;
}

}  // namespace tq::lab
