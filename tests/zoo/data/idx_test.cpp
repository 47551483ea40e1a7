#include "diffmask/zoo/data/idx.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/file.hpp"
#include "tests/bad_input.hpp"
#include "tests/idx_files.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

class IdxTest : public testing::Test {
 protected:
  at::Tensor load(const std::string& bytes) const {
    write_file(path_, bytes);
    return load_idx(path_);
  }

  // Plain and compressed, the same file.
  void expect(const std::string& bytes, const at::Tensor& expected) const {
    for (const std::string& file : {bytes, gzipped(bytes)}) {
      const at::Tensor read = load(file);
      EXPECT_EQ(read.scalar_type(), expected.scalar_type());
      EXPECT_TRUE(read.equal(expected)) << read;
    }
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "a-idx3-ubyte";
};

TEST_F(IdxTest, ReadsEveryDtype) {
  const auto bytes = [](std::initializer_list<int> values) {
    std::string text;
    for (const int value : values) text += static_cast<char>(value);
    return text;
  };
  expect(idx_of(0x08, {2, 3}, bytes({0, 1, 2, 253, 254, 255})),
         at::tensor({0, 1, 2, 253, 254, 255}, at::kByte).view({2, 3}));
  expect(idx_of(0x09, {2}, bytes({1, 255})), at::tensor({1, -1}, at::kChar));
  expect(idx_of(0x0B, {2, 1}, bytes({1, 2, 255, 254})),
         at::tensor({258, -2}, at::kShort).view({2, 1}));
  expect(idx_of(0x0C, {1, 1, 1}, bytes({1, 2, 3, 4})),
         at::tensor({0x01020304}, at::kInt).view({1, 1, 1}));
  expect(idx_of(0x0D, {2}, bytes({0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0})), at::tensor({1.5f, -2.0f}));
  expect(idx_of(0x0E, {1}, bytes({0xc0, 0x04, 0, 0, 0, 0, 0, 0})), at::tensor({-2.5}, at::kDouble));
}

TEST_F(IdxTest, ReadsWhatIsLargerThanAnyBuffer) {
  std::string values(70'000 * 7, '\0');
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<char>(i * i % 251);
  const at::Tensor read = load(gzipped(idx_of(0x08, {70'000, 7}, values)));
  ASSERT_EQ(read.sizes(), at::IntArrayRef({70'000, 7}));
  EXPECT_EQ(std::string(static_cast<const char*>(read.data_ptr()), values.size()), values);
  // As well as deflate can compress.
  EXPECT_EQ(load(gzipped(idx_of(0x08, {5'000'000}, std::string(5'000'000, '\0')))).numel(),
            5'000'000);
}

TEST_F(IdxTest, NamesWhatIsDamaged) {
  const auto read = [this](const std::string& bytes) { return [=, this] { load(bytes); }; };
  const std::string good = idx_of(0x08, {2, 3}, "abcdef"), packed = gzipped(good);
  const auto changed = [](std::string bytes, size_t at, char value) {
    bytes[at] = value;
    return bytes;
  };
  const std::vector<uint32_t> vast(4, 0xffffffff);
  expect_refused<FileError>({
      {"no file", [&] { load_idx(folder_ / "no"); }, folder_ / "no" + ": cannot be opened"},
      {"a folder", [&] { load_idx(folder_.path()); }, "cannot be read: it is a folder"},
      {"empty", read(""), path_ + ": is too short to be an IDX file"},
      {"three bytes", read(good.substr(0, 3)), "too short"},
      {"another format", read("PK\3\4 and more"), "has to begin with two bytes 0, but got 80 75"},
      {"dtype", read(idx_of(0x0A, {1}, "a")), "dtype has to be one of 0x08"},
      {"dtype's value", read(idx_of(0x0A, {1}, "a")), "but got 0x0a"},
      {"no dimensions", read(idx_of(0x08, {}, "a")), "one dimension or more, but got 0"},
      {"sizes cut", read(good.substr(0, 10)), "ends before the size of dimension 1"},
      {"size 0", read(idx_of(0x08, {2, 0}, "")), "dimension 1 has to be of size >= 1, but got 0"},
      {"overflow", read(idx_of(0x0E, vast, "a")), "product overflows: 4294967295 x 4294967295"},
      {"more than memory", read(idx_of(0x08, {0xffffffff, 0xffff}, "a")),
       "sizes 4294967295 x 65535 need 281470681677825 bytes of values, but there are no more than"},
      {"more than it can unpack to", read(gzipped(idx_of(0x08, {0xffffffff}, "a"))),
       "need 4294967295 bytes of values, but there are no more than"},
      {"values missing", read(good.substr(0, good.size() - 1)),
       "sizes 2 x 3 need 6 bytes of values, but there are 5"},
      {"packed values missing", read(gzipped(good.substr(0, good.size() - 2))),
       "sizes 2 x 3 need 6 bytes of values, but there are 4"},
      {"a byte more", read(good + "x"), path_ + ": has bytes after its values"},
      {"a packed byte more", read(gzipped(good + "x")), "has bytes after its values"},
      {"a byte after the packing", read(packed + "x"), "has bytes after its values"},
      {"two packed files", read(packed + packed), "has bytes after its values"},
      {"packing cut", read(packed.substr(0, packed.size() / 2)), "ends within its compressed data"},
      {"checksum cut", read(packed.substr(0, packed.size() - 3)),
       "ends within its compressed data"},
      {"checksum", read(changed(packed, packed.size() - 8, 'x')),
       "cannot be unpacked: incorrect data check"},
      {"packed bytes", read(changed(packed, 10, '\xff')), "cannot be unpacked: invalid block type"},
      {"packing's head", read(changed(packed, 2, 'x')),
       "cannot be unpacked: unknown compression method"},
  });
}

}  // namespace
}  // namespace diffmask
