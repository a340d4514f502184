// SPDX-License-Identifier: Apache-2.0
// What the queries of one sequence read, as one list of units of work: steps of tokens of a page in
// one form, in the order sinks, sealed pages, open pages. Host and device compute it from
// positions. Where pages age, those in the last form come first among the sealed ones, and a page
// that some queries read in one sealed form and some in the next is listed in both.
#pragma once

#include <bit>
#include <cstdint>

#include "turboquant/kv/cuda/page_forms.h"

namespace tq::cuda {

// Positions of the queries of one sequence and what follows from them.
struct QueryRange {
  int first;         // position of the first query
  int last;          // of the last one
  int sealed_below;  // Visibility::sealed_below
};

struct Unit {
  int form;
  int page;
  int token;  // first token of the step, within the page
};

struct UnitList {
  int first_page;    // sinks or, if nothing seals, everything: open
  int first_sealed;  // sealed pages, aged ones included
  int first_open;    // the open pages behind them
  int sink_units;
  int sealed_units;
  int open_units;

  constexpr int size() const { return sink_units + sealed_units + open_units; }
  // `log`: log2 of the steps per page.
  constexpr Unit At(int u, int open_log, int sealed_log) const {
    if (u < sink_units) return Step(kOpenForm, first_page, u, open_log);
    u -= sink_units;
    if (u < sealed_units) return Step(kSealedForm, first_sealed, u, sealed_log);
    return Step(kOpenForm, first_open, u - sealed_units, open_log);
  }
  // The same where pages age.
  constexpr Unit At(int u, int open_log, int sealed_log, const FormEnds& ends,
                    const QueryRange& queries) const {
    if (u < sink_units || u >= sink_units + sealed_units) return At(u, open_log, sealed_log);
    u -= sink_units;
    int first = first_sealed, form = kSealedForm + ends.ages.count;
    for (; form > kSealedForm; --form) {
      const int pages = Behind(ends.End(form, queries.last)) - first;
      if (u >> sealed_log < pages) break;
      u -= pages << sealed_log;
      first = Behind(ends.End(form, queries.first));
    }
    return Step(form, first, u, sealed_log);
  }
  // How often a page is listed in two sealed forms.
  constexpr int PagesTwice(const FormEnds& ends, const QueryRange& queries) const {
    int pages = 0;
    for (int form = kSealedForm + 1; form <= kSealedForm + ends.ages.count; ++form)
      pages += Behind(ends.End(form, queries.last)) - Behind(ends.End(form, queries.first));
    return pages;
  }

 private:
  constexpr int Behind(int page) const { return page > first_sealed ? page : first_sealed; }
  static constexpr Unit Step(int form, int first, int u, int log) {
    return {form, first + (u >> log), (u & ((1 << log) - 1)) * (kPageTokens >> log)};
  }
};

// Pages below it, sinks apart, are sealed for the query at `position`.
constexpr int SealedEnd(const Visibility& visibility, int sealed_below, int position) {
  const int end = position / kPageTokens - visibility.window_pages;
  return end > sealed_below ? end : sealed_below;
}

constexpr UnitList MakeUnitList(const Visibility& visibility, const QueryRange& queries,
                                int open_log, int sealed_log) {
  const int end = queries.last / kPageTokens + 1;
  UnitList list = {};
  list.first_page = static_cast<int>(visibility.FirstVisible(queries.first)) / kPageTokens;
  // Steps of open pages [from, to); the last page may be partly filled.
  const auto open_steps = [&](int from, int to) {
    if (from >= to) return 0;
    if (to < end) return (to - from) << open_log;
    constexpr int kPageLog = std::countr_zero(static_cast<unsigned>(kPageTokens));
    const int step_log = kPageLog - open_log;
    return (queries.last - from * kPageTokens + (1 << step_log)) >> step_log;
  };
  if (!visibility.seals) {
    list.sink_units = open_steps(list.first_page, end);
    return list;
  }
  const auto clamp = [](int x, int low, int high) { return x < low ? low : x > high ? high : x; };
  const int sinks = clamp(visibility.sink_pages, list.first_page, end);
  list.sink_units = open_steps(list.first_page, sinks);
  list.first_sealed = sinks;
  const int sealed_end =
      clamp(SealedEnd(visibility, queries.sealed_below, queries.last), sinks, end);
  list.sealed_units = (sealed_end - sinks) << sealed_log;
  list.first_open = clamp(SealedEnd(visibility, queries.sealed_below, queries.first), sinks, end);
  list.open_units = open_steps(list.first_open, end);
  return list;
}

// Whether every query sees every token of a step.
constexpr bool AllVisible(const Visibility& visibility, const QueryRange& queries, const Unit& unit,
                          int tokens) {
  const int begin = unit.page * kPageTokens + unit.token;
  if (begin + tokens > queries.first + 1) return false;
  if (begin < visibility.FirstVisible(queries.last)) return false;
  if (!visibility.seals || unit.page < visibility.sink_pages) return true;
  return unit.form != kOpenForm
             ? unit.page < SealedEnd(visibility, queries.sealed_below, queries.first)
             : unit.page >= SealedEnd(visibility, queries.sealed_below, queries.last);
}
// The same where pages age: queries of one page of positions read every page in the same form.
constexpr bool AllVisible(const FormEnds& ends, const QueryRange& queries, const Unit& unit,
                          int tokens) {
  const int begin = unit.page * kPageTokens + unit.token;
  if (begin + tokens > queries.first + 1) return false;
  if (begin < ends.visibility.FirstVisible(queries.last)) return false;
  if (queries.first / kPageTokens == queries.last / kPageTokens) return true;
  return ends.FormAt(unit.page, queries.first) == unit.form &&
         ends.FormAt(unit.page, queries.last) == unit.form;
}

// The tokens [begin, end) of a page form that the query at `position` sees, as positions.
struct PositionRange {
  int begin;
  int end;
};
constexpr PositionRange VisibleRange(const Visibility& visibility, int sealed_below, int position,
                                     const Unit& unit) {
  if (position < 0) return {0, 0};
  const bool sealed = visibility.seals && unit.page >= visibility.sink_pages &&
                      unit.page < SealedEnd(visibility, sealed_below, position);
  if (sealed != (unit.form != kOpenForm)) return {0, 0};
  return {static_cast<int>(visibility.FirstVisible(position)), position + 1};
}
// The same where pages age.
constexpr PositionRange VisibleRange(const FormEnds& ends, int position, const Unit& unit) {
  if (position < 0 || ends.FormAt(unit.page, position) != unit.form) return {0, 0};
  return {static_cast<int>(ends.visibility.FirstVisible(position)), position + 1};
}

}  // namespace tq::cuda
