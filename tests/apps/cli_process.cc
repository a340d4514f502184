// SPDX-License-Identifier: Apache-2.0
#include "tests/apps/cli_process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

extern "C" char** environ;

namespace tq::test {
namespace {

namespace fs = std::filesystem;

std::string ReadAll(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::string>& added) {
  std::vector<std::string> all = added;  // the first of a name counts
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "LLAMA_ARG_", 10) != 0 &&
        std::strncmp(*entry, "XDG_CACHE_HOME=", 15) != 0) {
      all.emplace_back(*entry);
    }
  }
  all.push_back("XDG_CACHE_HOME=" + (CliFolder() / "cache").string());
  return all;
}

void Redirect(int fd, const fs::path& path, int flags) {
  const int opened = open(path.c_str(), flags, 0644);
  if (opened < 0 || dup2(opened, fd) < 0) _exit(126);
}

}  // namespace

const fs::path& CliFolder() {
  struct Folder {
    fs::path path = fs::temp_directory_path() / ("tq_cli_test_" + std::to_string(getpid()));
    Folder() {
      fs::remove_all(path);
      fs::create_directories(path / "cache");
    }
    ~Folder() { fs::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

CliResult RunCli(const std::vector<std::string>& arguments, const CliOptions& options) {
  const fs::path in = CliFolder() / "stdin", out = CliFolder() / "stdout",
                 err = CliFolder() / "stderr";
  std::ofstream(in, std::ios::binary) << options.input;
  std::vector<std::string> words = {TQ_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = Environment(options.environment);
  const std::vector<char*> argv = Pointers(words), envp = Pointers(environment);

  const pid_t pid = fork();
  if (pid == 0) {
    Redirect(STDIN_FILENO, in, O_RDONLY);
    Redirect(STDOUT_FILENO, options.output_is_full ? "/dev/full" : out,
             O_WRONLY | O_CREAT | O_TRUNC);
    Redirect(STDERR_FILENO, err, O_WRONLY | O_CREAT | O_TRUNC);
    if (options.file_size_limit) {
      const rlimit limit = {*options.file_size_limit, *options.file_size_limit};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    execve(TQ_BINARY, argv.data(), envp.data());
    _exit(127);
  }

  int status = 0;
  rusage usage = {};
  bool interrupted = false;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
  while (pid > 0 && wait4(pid, &status, WNOHANG, &usage) == 0) {
    if (std::chrono::steady_clock::now() > deadline) kill(pid, SIGKILL);
    if (options.interrupt_after && !interrupted &&
        (ReadAll(out) + ReadAll(err)).find(*options.interrupt_after) != std::string::npos) {
      kill(pid, SIGINT);
      interrupted = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CliResult result;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = ReadAll(out);
  result.err = ReadAll(err);
  result.peak_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  return result;
}

}  // namespace tq::test
