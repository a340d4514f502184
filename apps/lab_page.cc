// SPDX-License-Identifier: Apache-2.0
#include "apps/lab_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <ranges>

#include "apps/lab_text.h"
#include "lab/markup.h"
#include "lab/svg_plot.h"
#include "turboquant/base/version.h"

namespace tq::app {
namespace {

using Json = nlohmann::ordered_json;
using lab::EscapeMarkup;
using lab::Experiment;
using lab::Measure;

constexpr size_t kMostName = 26;    // characters that fit below a plot
constexpr double kLinearRatio = 5;  // figures that differ by more have a logarithmic axis

constexpr const char* kStyle = R"(
body { font: 15px/1.45 sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; color: #222; }
h2 { margin-top: 2em; border-top: 1px solid #ccc; padding-top: .7em; }
table { border-collapse: collapse; margin: .6em 0; }
th, td { border: 1px solid #ccc; padding: .2em .6em; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { background: #f3f3f3; padding: 0 .2em; }
svg { max-width: 100%; height: auto; }
.confirmed { color: #17652b; } .contradicted { color: #a3161b; font-weight: bold; }
.undecided { color: #8a5a00; } .note { color: #555; }
)";

std::string Cell(std::string_view text) { return "<td>" + EscapeMarkup(text) + "</td>"; }
std::string NumberCell(std::string_view text) {
  return "<td class=\"n\">" + EscapeMarkup(text) + "</td>";
}
std::string HeaderRow(const std::vector<std::string_view>& names) {
  std::string row = "<tr>";
  for (const std::string_view name : names) row += fmt::format("<th>{}</th>", EscapeMarkup(name));
  return row + "</tr>\n";
}
// "<span class=...>confirmed</span>"; the classes are the verdicts themselves.
std::string VerdictSpan(std::string_view verdict) {
  return fmt::format("<span class=\"{0}\">{0}</span>", EscapeMarkup(verdict));
}
std::string Link(std::string_view id) {
  return fmt::format("<a href=\"#{0}\"><code>{0}</code></a>", EscapeMarkup(id));
}
std::string Fact(std::string_view name, std::string_view text) {
  return fmt::format("<tr><th>{}</th>{}</tr>\n", EscapeMarkup(name), Cell(text));
}

std::string Where(const LabConditions& c) {
  return fmt::format("{}{}{}{}", c.model, c.model.empty() ? "" : ", ", c.device,
                     c.quick ? ", quick" : "");
}

using RecordsOfId = std::multimap<std::string, const LabRecord*>;

std::string Environment(const std::vector<LabRecord>& records) {
  struct Runs {
    std::string first, last;
    int count = 0;
  };
  std::map<std::tuple<std::string, std::string, std::string, bool>, Runs> all;
  for (const LabRecord& r : records) {
    const LabConditions& c = r.conditions;
    Runs& runs = all[{c.model, c.device, c.build, c.quick}];
    runs.first = runs.count == 0 ? r.date : std::min(runs.first, r.date);
    runs.last = std::max(runs.last, r.date);
    ++runs.count;
  }
  std::string html =
      "<table>\n" + HeaderRow({"model", "device", "commit", "extent", "experiments", "from", "to"});
  for (const auto& [where, runs] : all) {
    const auto& [model, device, build, quick] = where;
    html += "<tr>" + Cell(model.empty() ? "none needed" : model) + Cell(device) + Cell(build) +
            Cell(quick ? "quick" : "full") + NumberCell(fmt::format("{}", runs.count)) +
            Cell(runs.first) + Cell(runs.last) + "</tr>\n";
  }
  return html + "</table>\n";
}

std::string Summary(const RecordsOfId& records) {
  std::string html = "<table>\n" + HeaderRow({"id", "experiment", "published verdict", "ours"});
  for (const Experiment& e : lab::Experiments()) {
    std::string ours;
    const auto [begin, end] = records.equal_range(std::string(e.id));
    for (auto it = begin; it != end; ++it) {
      ours += fmt::format("{}{} <span class=\"note\">({})</span>", ours.empty() ? "" : "<br>",
                          VerdictSpan(it->second->Verdict()),
                          EscapeMarkup(Where(it->second->conditions)));
    }
    if (e.measure == Measure::kNone) {
      ours = fmt::format("<span class=\"note\">not runnable here, see {}</span>", Link(e.nearest));
    } else if (ours.empty()) {
      ours = "<span class=\"note\">not measured yet</span>";
    }
    html += fmt::format("<tr><td>{}</td>{}{}<td>{}</td></tr>\n", Link(e.id), Cell(e.title),
                        Cell(e.verdict), ours);
  }
  return html + "</table>\n";
}

// Empty where there is nothing to draw.
std::string RowsSvg(const Experiment& e, const LabRecord& record) {
  lab::Plot plot;
  plot.title = fmt::format("{}: {}", e.id, Where(record.conditions));
  plot.y_label = fmt::format("{} (mean, ± SE)", record.unit);
  plot.series.push_back({std::string(e.title), {}, false});
  for (const MeasuredRow& row : record.rows) {
    if (!(row.figure.value > 0)) continue;
    plot.series[0].points.push_back({static_cast<double>(plot.x_names.size()), row.figure.value,
                                     row.figure.error, FigureText(record.unit, row.figure.value)});
    plot.x_names.push_back(row.name.size() <= kMostName ? row.name
                                                        : row.name.substr(0, kMostName - 2) + "..");
  }
  if (plot.x_names.size() < 2) return "";
  const auto [least, most] = std::ranges::minmax(plot.series[0].points, {}, &lab::PlotPoint::y);
  plot.log_y = most.y > kLinearRatio * least.y;
  return lab::RenderSvg(plot);
}

std::string RecordHtml(const Experiment& e, const LabRecord& r) {
  std::string html =
      fmt::format("<h3>{}: {}</h3>\n", EscapeMarkup(Where(r.conditions)), VerdictSpan(r.Verdict()));
  html += "<table>\n" + HeaderRow({"row", "measured", "bits/value", r.unit + " ± SE"});
  for (const MeasuredRow& row : r.rows) {
    html += "<tr>" + Cell(row.name) + Cell(row.simulated ? "simulated" : row.detail) +
            NumberCell(row.bits_per_value > 0 ? fmt::format("{:.3f}", row.bits_per_value) : "-") +
            NumberCell(EstimateText(r.unit, row.figure)) + "</tr>\n";
  }
  html += "</table>\n<table>\n" + HeaderRow({"claim", "figures", "verdict"});
  for (const MeasuredClaim& claim : r.claims) {
    html +=
        fmt::format("<tr>{}{}<td>{}</td></tr>\n", Cell(claim.text), Cell(ClaimText(r.unit, claim)),
                    VerdictSpan(claim.verdict ? lab::NameOf(*claim.verdict) : "not measured"));
  }
  html += "</table>\n" + RowsSvg(e, r);
  if (!r.note.empty()) html += fmt::format("<p class=\"note\">{}</p>\n", EscapeMarkup(r.note));
  return html + fmt::format("<p class=\"note\">{}; commit {}, {}<br><code>{}</code></p>\n",
                            EscapeMarkup(r.extent), EscapeMarkup(r.conditions.build),
                            EscapeMarkup(r.date), EscapeMarkup(r.command));
}

std::string Section(const Experiment& e, const RecordsOfId& records) {
  std::string html = fmt::format("<h2 id=\"{0}\"><code>{0}</code> {1}</h2>\n<table>\n",
                                 EscapeMarkup(e.id), EscapeMarkup(e.title));
  html += Fact("hypothesis", e.hypothesis) + Fact("published", e.published) +
          Fact("their verdict", e.verdict) + Fact("source", e.source) + "</table>\n";
  if (e.measure == Measure::kNone) {
    return html + fmt::format("<p>Not runnable here: {}. Nearest: {}.</p>\n",
                              EscapeMarkup(e.reason), Link(e.nearest));
  }
  const auto [begin, end] = records.equal_range(std::string(e.id));
  if (begin == end) {
    return html + fmt::format("<p>Not measured yet: <code>turboquant lab run {}</code></p>\n",
                              EscapeMarkup(e.id));
  }
  for (auto it = begin; it != end; ++it) html += RecordHtml(e, *it->second);
  return html;
}

RecordsOfId ById(const std::vector<LabRecord>& records) {
  RecordsOfId by_id;
  for (const LabRecord& record : records) by_id.emplace(record.id, &record);
  return by_id;
}

}  // namespace

std::vector<LabRecord> NewestRecords(const std::vector<LabRecord>& records) {
  std::vector<LabRecord> newest;
  for (const LabRecord& record : records) {
    const auto same = [&](const LabRecord& other) {
      const LabConditions &a = record.conditions, &b = other.conditions;
      return record.id == other.id && a.model_id == b.model_id && a.device == b.device &&
             a.quick == b.quick;
    };
    const auto known = std::ranges::find_if(newest, same);
    known == newest.end() ? newest.push_back(record) : void(*known = record);
  }
  return newest;
}

std::string LabPage(const std::vector<LabRecord>& newest) {
  const RecordsOfId records = ById(newest);
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<title>TurboQuant lab</title>\n<style>{}</style>\n</head>\n<body>\n<h1>TurboQuant lab</h1>\n"
      "<p>Experiments on the quantisation of KV caches: what was published of each, and what "
      "<code>turboquant lab run</code> measured. Published figures are their publishers', in their "
      "set-up; ours come with the command that makes them again. A verdict is by rule: a claim is "
      "confirmed or contradicted where the difference lies two standard errors beyond its margin, "
      "else undecided. Page made by {} ({}).</p>\n",
      kStyle, EscapeMarkup(kVersion), EscapeMarkup(kBuildCommit));
  html += "<h2>Environment</h2>\n" + Environment(newest) + "<h2>Summary</h2>\n" + Summary(records);
  for (const Experiment& e : lab::Experiments()) html += Section(e, records);
  html += "<h2>Sources</h2>\n<table>\n" + HeaderRow({"tag", "stands for"});
  for (const lab::Source& source : lab::Sources())
    html += "<tr>" + Cell(source.tag) + Cell(source.meaning) + "</tr>\n";
  return html + "</table>\n</body>\n</html>\n";
}

std::string LabJson(const std::vector<LabRecord>& newest) {
  const RecordsOfId records = ById(newest);
  Json json;
  json["build"] = kBuildCommit;
  json["experiments"] = Json::array();
  for (const Experiment& e : lab::Experiments()) {
    Json entry = {{"id", e.id},
                  {"title", e.title},
                  {"hypothesis", e.hypothesis},
                  {"published", e.published},
                  {"published_verdict", e.verdict},
                  {"source", e.source},
                  {"runnable", e.measure != Measure::kNone}};
    if (e.measure == Measure::kNone) {
      entry["reason"] = e.reason;
      entry["nearest"] = e.nearest;
    }
    entry["results"] = Json::array();
    const auto [begin, end] = records.equal_range(std::string(e.id));
    for (auto it = begin; it != end; ++it)
      entry["results"].push_back(Json::parse(ToJson(*it->second)));
    json["experiments"].push_back(std::move(entry));
  }
  return json.dump(2) + "\n";
}

}  // namespace tq::app
