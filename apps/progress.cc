// SPDX-License-Identifier: Apache-2.0
#include "apps/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace tq::app {

using Clock = std::chrono::steady_clock;

std::string FormatBytes(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string FormatSeconds(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  return fmt::format("{} min {:02} s", whole / 60, whole % 60);
}

Progress::Progress(std::string label, Unit unit)
    : label_(std::move(label)),
      unit_(unit),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()) {}

Progress::~Progress() {
  if (open_) fmt::print(stderr, "\n");
}

void Progress::Update(uint64_t done, uint64_t total) {
  done_ = done;
  total_ = std::max<uint64_t>(total, 1);
  if (terminal_) {
    const auto now = Clock::now();
    if (open_ && now - drawn_ < std::chrono::milliseconds(100)) return;
    drawn_ = now;
    Draw(false);
    return;
  }
  // Lines only for work that lasts: none in the first two seconds, then one per quarter.
  if (Clock::now() - start_ < std::chrono::seconds(2)) return;
  const int quarter = static_cast<int>(std::min<uint64_t>(4 * done_ / total_, 3));
  if (quarter > last_quarter_) {
    last_quarter_ = quarter;
    Draw(false);
  }
}

void Progress::Done() {
  done_ = total_;
  if (total_ > 0 && (terminal_ || last_quarter_ >= 0)) Draw(true);
  open_ = false;
}

void Progress::Draw(bool last) {
  const double part = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  std::string amount;
  if (unit_ == Unit::kBytes) {
    amount = fmt::format("{} of {}", FormatBytes(static_cast<double>(done_)),
                         FormatBytes(static_cast<double>(total_)));
  } else {
    amount = fmt::format("{} of {}{}", done_, total_, unit_ == Unit::kTokens ? " tokens" : "");
  }
  std::string time;
  if (last) {
    time = fmt::format(", {}", FormatSeconds(seconds));
  } else if (part > 0.02 && seconds > 1) {
    time = fmt::format(", {} left", FormatSeconds(seconds / part - seconds));
  }
  if (!terminal_) {
    fmt::print(stderr, "{}: {:.0f} % ({}{})\n", label_, 100 * part, amount, time);
    return;
  }
  constexpr int kWidth = 30;
  const int filled = static_cast<int>(part * kWidth + 0.5);
  fmt::print(stderr, "\r{} [{:<{}}] {:3.0f} % ({}{})\x1b[K{}", label_, std::string(filled, '#'),
             kWidth, 100 * part, amount, time, last ? "\n" : "");
  std::fflush(stderr);
  open_ = !last;
}

}  // namespace tq::app
