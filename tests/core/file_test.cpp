#include "diffmask/core/file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <thread>

#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

// While it lives no file of this process can grow beyond `bytes`: what a full disk does, without
// one.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &kept_);
    const rlimit limit{bytes, kept_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &kept_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit kept_{};
};

TEST(FileTest, ReadsWhatItWrote) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt", bytes("line\r\n\0\xff tail", 13);
  for (const std::string& text : {bytes, std::string(), std::string(1 << 20, 'x')}) {
    write_file(path, text);
    EXPECT_EQ(read_file(path), text);
  }
  EXPECT_EQ(folder.count(), 1);
}

TEST(FileTest, ReadsLines) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt";
  using Lines = std::vector<std::string>;
  const std::vector<std::pair<std::string, Lines>> table = {
      {"", {}},
      {"\n", {""}},
      {"x", {"x"}},
      {"x\n", {"x"}},
      {"x\n\ny", {"x", "", "y"}},
      {"\xEF\xBB\xBFx\r\ny\r\n", {"x", "y"}},
      {"x\ry\n", {"x\ry"}},
  };
  for (const auto& [text, lines] : table) {
    write_file(path, text);
    EXPECT_EQ(read_lines(path), lines) << text;
  }
  EXPECT_THROW(read_lines(folder / "no"), FileError);
}

TEST(FileTest, Splits) {
  using Parts = std::vector<std::string>;
  EXPECT_EQ(split("a,,b", ','), (Parts{"a", "", "b"}));
  EXPECT_EQ(split(",", ','), (Parts{"", ""}));
  EXPECT_EQ(split("", ','), (Parts{""}));
}

TEST(FileTest, AFullDiskLeavesTheOldFileAndNoTemporary) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt";
  write_file(path, "old");
  {
    const FileSizeLimit limit(64 << 10);
    // Less than a stream's buffer beyond the limit fails at close only, more fails while writing.
    for (const size_t size : {(64u << 10) + 1, 1u << 20}) {
      expect_refused<FileError>(
          {{fmt::format("{} bytes", size), [&] { write_file(path, std::string(size, 'x')); },
            "cannot be written: File too large"}});
    }
    EXPECT_NO_THROW(write_file(folder / "b.txt", std::string(64 << 10, 'x')));
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(folder.count(), 2);
}

TEST(FileTest, AWriterThatThrowsLeavesTheOldFileAndNoTemporary) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt";
  write_file(path, "old");
  const auto fail = [](std::ostream& out) {
    out << "half of the new";
    throw std::out_of_range("mine");
  };
  EXPECT_THROW(write_file(path, fail), std::out_of_range);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(folder.count(), 1);
}

TEST(FileTest, AReaderSeesTheOldFileOrTheNewOne) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt", first(200'000, 'a'), second(300'000, 'b');
  write_file(path, first);
  std::thread writer([&] {
    for (int i = 0; i < 20; ++i) write_file(path, i % 2 ? first : second);
  });
  int others = 0;
  for (int i = 0; i < 50; ++i) {
    const std::string seen = read_file(path);
    others += seen != first && seen != second;
  }
  writer.join();
  EXPECT_EQ(others, 0);
}

TEST(FileTest, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  const std::string missing = folder / "no", within = folder / "no/a.txt";
  std::filesystem::create_directory(folder / "full");
  write_file(folder / "full/a.txt", "text");
  expect_refused<FileError>({
      {"read missing", [&] { read_file(missing); }, missing + ": cannot be opened: No such file"},
      {"read a folder", [&] { read_file(folder.path()); }, "it is a folder"},
      {"read a name too long", [&] { read_file(std::string(5000, 'x')); }, "too long"},
      {"write into nothing", [&] { write_file(within, "x"); }, "cannot be opened: No such file"},
      {"write over a folder", [&] { write_file(folder / "full", "x"); }, "cannot be replaced"},
  });
  EXPECT_EQ(folder.count(), 1);
}

}  // namespace
}  // namespace diffmask
