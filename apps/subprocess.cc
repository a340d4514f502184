// SPDX-License-Identifier: Apache-2.0
#include "apps/subprocess.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "turboquant/base/error.h"

extern "C" char** environ;

namespace tq::app {
namespace {

int Status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

// Ends and reaps the child if it is still there when an exception leaves.
struct Child {
  pid_t pid = -1;
  ~Child() {
    if (pid < 0) return;
    kill(pid, SIGTERM);
    waitpid(pid, nullptr, 0);
  }
  int Wait() {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    pid = -1;
    return Status(status);
  }
};

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

int RunSubprocess(const SubprocessOptions& options,
                  const std::function<void(std::span<const std::byte>)>& on_output,
                  const std::function<void()>& on_idle) {
  std::vector<std::string> arguments = options.arguments;
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    bool replaced = false;
    for (const std::string& added : options.environment) {
      const size_t name = added.find('=') + 1;
      replaced = replaced || std::strncmp(*entry, added.c_str(), name) == 0;
    }
    if (!replaced) environment.emplace_back(*entry);
  }
  environment.insert(environment.end(), options.environment.begin(), options.environment.end());

  Descriptor read_end, write_end;
  if (options.stdout_to_pipe) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
      Throw(ErrorCode::kIo, "cannot make a pipe: {}", std::strerror(errno));
    read_end.fd = ends[0];
    write_end.fd = ends[1];
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, options.stderr_file.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, options.stdout_to_pipe ? write_end.fd : STDERR_FILENO,
                                   STDOUT_FILENO);
  Child child;
  const int refused = posix_spawnp(&child.pid, arguments[0].c_str(), &actions, nullptr,
                                   Pointers(arguments).data(), Pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (refused != 0) {
    child.pid = -1;
    if (refused == ENOENT) return 127;
    Throw(ErrorCode::kIo, "cannot start {}: {}", arguments[0], std::strerror(refused));
  }

  if (options.stdout_to_pipe) {
    close(write_end.fd);
    write_end.fd = -1;
    std::vector<std::byte> block(1 << 18);
    while (true) {
      const ssize_t n = read(read_end.fd, block.data(), block.size());
      if (n < 0 && errno == EINTR) {
        on_output({});  // lets the caller notice an interrupt
        continue;
      }
      if (n < 0)
        Throw(ErrorCode::kIo, "cannot read from {}: {}", arguments[0], std::strerror(errno));
      if (n == 0) break;
      on_output({block.data(), static_cast<size_t>(n)});
    }
    return child.Wait();
  }
  while (true) {
    int status = 0;
    const pid_t done = waitpid(child.pid, &status, WNOHANG);
    if (done == child.pid) {
      child.pid = -1;
      return Status(status);
    }
    if (on_idle) on_idle();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

}  // namespace tq::app
