// SPDX-License-Identifier: Apache-2.0
// The closed list of ideas for a compressed cache that others published and the product does not
// have: simulated only, to be measured beside it. What each one does is in apply_ideas.cc.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tq::lab {

enum class Idea : uint8_t {
  kNoRotation,
  kQjl,
  kVectorMean,
  kChannelScale,
  kMseScale,
  kSubspace,
  kAlpha,
  kEncodeAlpha,
  kContextAlpha,
  kSparseV,
};

struct IdeaInfo {
  Idea idea;
  std::string_view name;     // of the option: "+name" or "+name=F"
  double most;               // of its number, at least 0; 0: it takes none
  bool zero;                 // the number may be 0
  std::string_view summary;  // for help and docs/cli.md

  constexpr bool TakesNumber() const { return most > 0; }
  bool Allows(double number) const;
  std::string Option() const;  // "alpha=F"
  std::string Range() const;   // "in (0, 4]"
};

// In the order of the enumeration.
inline constexpr std::array kIdeas = {
    IdeaInfo{Idea::kNoRotation, "no-rotation", 0, false,
             "the same codes without the Hadamard transform"},
    IdeaInfo{Idea::kQjl, "qjl", 0, false,
             "keys: one bit of turbo4 or turbo3 goes to the signs of the projected residual, whose "
             "norm is stored too"},
    IdeaInfo{Idea::kVectorMean, "vector-mean", 0, false,
             "the mean of each vector is subtracted before the transform and lost"},
    IdeaInfo{Idea::kChannelScale, "channel-scale", 0, false,
             "keys: channels are equalised by rms^-0.2 of the first page, in the place of the "
             "calibrated transform"},
    IdeaInfo{Idea::kMseScale, "mse-scale", 0, false,
             "scales of least squared error instead of those that keep the norm"},
    IdeaInfo{
        Idea::kSubspace, "query-subspace", 1, false,
        "keys: each code of turbo4, turbo3 or turbo2 takes up errors of those before it within "
        "the F of the dimensions that hold most of the first page's queries"},
    IdeaInfo{Idea::kAlpha, "alpha", 4, false, "coded values times F when they are read"},
    IdeaInfo{Idea::kEncodeAlpha, "encode-alpha", 4, false,
             "scales of coded values times F when they are stored"},
    IdeaInfo{Idea::kContextAlpha, "context-alpha", 0, false,
             "alpha by the tokens in the cache, as fitted elsewhere to values of 3 and 2 bits"},
    IdeaInfo{Idea::kSparseV, "sparse-v", 1, true,
             "values are left away whose softmax weight is below F by what was read so far"},
};

// Null: there is none of that name.
const IdeaInfo* FindIdea(std::string_view name);

// Those that a cache has, each with its number.
class Ideas {
 public:
  bool empty() const { return *this == Ideas(); }
  bool Has(Idea idea) const { return At(idea).has_value(); }
  double Number(Idea idea) const { return At(idea).value(); }
  void Add(Idea idea, double number = 0) { numbers_[static_cast<size_t>(idea)] = number; }
  std::string Name() const;  // " +qjl +alpha=1.04"
  bool operator==(const Ideas&) const = default;

 private:
  const std::optional<double>& At(Idea idea) const { return numbers_[static_cast<size_t>(idea)]; }

  std::array<std::optional<double>, kIdeas.size()> numbers_;
};

}  // namespace tq::lab
