// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "turboquant/base/error.h"

namespace tq {

AtomicFile::AtomicFile(const std::filesystem::path& target) : target_(target) {
  // A link stays one: what it names is replaced.
  std::error_code ignored;
  if (std::filesystem::is_symlink(target, ignored))
    target_ = std::filesystem::weakly_canonical(target);
  temporary_ = target_;
  temporary_ += ".tmp";
  for (;;) {
    fd_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd_ < 0) Fail("cannot create the file");
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      ::close(fd_);
      fd_ = -1;
      if (error == EWOULDBLOCK) {
        Throw(ErrorCode::kIo, "cannot write {}: another process is writing it", target_.string());
      }
      errno = error;
      Fail("cannot lock the file");
    }
    // The one who held the lock may have renamed the file meanwhile: then ours is the target by
    // now.
    struct stat ours, named;
    if (::fstat(fd_, &ours) == 0 && ::stat(temporary_.c_str(), &named) == 0 &&
        ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
      break;
    }
    ::close(fd_);
  }
  struct stat before;
  const bool replaces = ::stat(target_.c_str(), &before) == 0;
  if ((replaces && ::fchmod(fd_, before.st_mode & 0777) != 0) || ::ftruncate(fd_, 0) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    ::close(fd_);
    errno = error;
    Fail("cannot prepare the file");
  }
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
  ::close(fd_);
}

void AtomicFile::Fail(const char* what) const {
  Throw(ErrorCode::kIo, "cannot write {}: {} ({})", target_.string(), what, std::strerror(errno));
}

void AtomicFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Fail("the system refuses the bytes; what was there before is kept");
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

void AtomicFile::Commit() {
  if (::fsync(fd_) != 0) Fail("the disk refuses the bytes; what was there before is kept");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) Fail("cannot rename the new file");
  committed_ = true;
  // The rename itself must reach the disk too.
  std::filesystem::path folder = target_.parent_path();
  if (folder.empty()) folder = ".";
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (result == 0 || error == EINVAL || error == EROFS)
    return;  // not every file system flushes folders
  errno = error;
  Fail("cannot flush its folder");
}

}  // namespace tq
