#include "diffmask/format/safetensors.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "diffmask/core/file.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

// A whole file from its header's text and its data, as the format lays it out.
std::string file_of(const std::string& header, const std::string& data = "") {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return fmt::format(R"("dtype":"{}","shape":{},"data_offsets":{})", dtype, shape, offsets);
}

class SafetensorsTest : public testing::Test {
 protected:
  Safetensors load(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary) << bytes;
    return load_safetensors(path_);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "a.safetensors";
};

TEST_F(SafetensorsTest, ReadsAFileWrittenByHand) {
  const float values[] = {1.5f, -2.0f, 0.25f};
  const Safetensors file = load(
      file_of("{\"__metadata__\":{\"format\":\"pt\"},\"b\":{" + entry("U8", "[2,1]", "[12,14]") +
                  "},\"a\":{" + entry("F32", "[3]", "[0,12]") + "}}  ",
              std::string(reinterpret_cast<const char*>(values), 12) + "\x07\xff"));
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(file.tensors.size(), 2u);
  EXPECT_TRUE(file.at("a").equal(at::tensor({1.5f, -2.0f, 0.25f})));
  EXPECT_TRUE(file.at("b").equal(at::tensor({7, 255}, at::kByte).view({2, 1})));
}

TEST_F(SafetensorsTest, WritesWhatItReads) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                           at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors[c10::toString(dtype)] = at::arange(6).view({2, 3}).to(dtype);
  }
  tensors["scalar"] = at::full({}, 2.5);
  tensors["empty"] = at::empty({0, 3});
  tensors["transposed"] = at::arange(6).view({2, 3}).t();
  tensors["strided"] = at::arange(10).slice(0, 1, 10, 3);
  tensors["a name with \"quotes\" and \u00fc"] = at::ones({1}).requires_grad_(true);
  const std::map<std::string, std::string> metadata = {{"key", "text with \n and \u00e9"}};
  save_safetensors(path_, tensors, metadata);

  const Safetensors file = load_safetensors(path_);
  EXPECT_EQ(file.metadata, metadata);
  ASSERT_EQ(file.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    EXPECT_EQ(file.at(name).scalar_type(), tensor.scalar_type());
    EXPECT_TRUE(file.at(name).equal(tensor.detach()));
    EXPECT_TRUE(file.at(name).is_contiguous());
  }
  EXPECT_EQ(folder_.count(), 1);

  // The data begin at a multiple of 8 bytes, and the same tensors give the same bytes.
  const std::string bytes = read_file(path_);
  uint64_t header_size = 0;
  std::copy_n(bytes.data(), sizeof header_size, reinterpret_cast<char*>(&header_size));
  EXPECT_EQ(header_size % 8, 0u);
  save_safetensors(path_, file.tensors, file.metadata);
  EXPECT_EQ(read_file(path_), bytes);
}

TEST_F(SafetensorsTest, WritesToATensorDoNotReachTheFile) {
  save_safetensors(path_, {{"a", at::arange(4.0)}, {"b", at::ones({2})}});
  const std::string bytes = read_file(path_);
  const Safetensors file = load_safetensors(path_);
  file.at("a").fill_(7);
  EXPECT_TRUE(file.at("a").equal(at::full({4}, 7.0)));
  EXPECT_TRUE(file.at("b").equal(at::ones({2})));
  EXPECT_EQ(read_file(path_), bytes);
  EXPECT_TRUE(load_safetensors(path_).at("a").equal(at::arange(4.0)));
}

TEST_F(SafetensorsTest, ATensorOutlivesItsFile) {
  save_safetensors(path_, {{"a", at::arange(4.0)}, {"b", at::ones({2})}});
  const at::Tensor kept = load_safetensors(path_).at("a");
  save_safetensors(path_, {{"a", at::zeros({1})}});
  EXPECT_TRUE(kept.equal(at::arange(4.0)));
  std::filesystem::remove(path_);
  EXPECT_TRUE(kept.equal(at::arange(4.0)));
}

TEST_F(SafetensorsTest, ReadsDataAtAnyOffset) {
  const double value = -2.5;
  const std::string data = "x" + std::string(reinterpret_cast<const char*>(&value), 8);
  for (int pad = 0; pad < 8; ++pad) {
    const Safetensors file =
        load(file_of("{\"a\":{" + entry("U8", "[1]", "[0,1]") + "},\"b\":{" +
                         entry("F64", "[]", "[1,9]") + "}}" + std::string(pad, ' '),
                     data));
    EXPECT_EQ(file.at("b").item<double>(), value) << pad;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file.at("b").data_ptr()) % 8, 0u);
  }
}

TEST_F(SafetensorsTest, HoldsNothing) {
  save_safetensors(path_, {});
  EXPECT_TRUE(load_safetensors(path_).tensors.empty());
}

TEST_F(SafetensorsTest, NamesTheNearestTensors) {
  save_safetensors(path_, {{"gru.weight", at::zeros({1})}, {"head.bias", at::zeros({1})}});
  const Safetensors file = load_safetensors(path_);
  expect_refused<FileError>({{"unknown", [&] { file.at("gru.weigth"); },
                              path_ + ": has no tensor 'gru.weigth' (nearest: gru.weight,"}});
}

TEST_F(SafetensorsTest, EveryTruncationIsRefused) {
  save_safetensors(path_, {{"a", at::arange(3)}, {"b", at::ones({2, 2})}}, {{"key", "text"}});
  const std::string whole = read_file(path_);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(load(whole.substr(0, length)), FileError) << length << " of " << whole.size();
  }
  EXPECT_THROW(load(whole + "x"), FileError);
  EXPECT_NO_THROW(load(whole));
}

// Whatever bytes are edited, the file is read or a FileError is thrown: no crash, no other
// exception.
TEST_F(SafetensorsTest, EditedBytesNeverCrash) {
  save_safetensors(path_, {{"a", at::arange(3)}, {"b", at::ones({2, 2})}}, {{"key", "text"}});
  const std::string whole = read_file(path_);
  const size_t edited_part = whole.size() - 40;  // 40 bytes of data: editing those breaks nothing
  std::mt19937 random(1);
  int refused = 0, read = 0;
  const auto attempt = [&](const std::string& bytes) {
    try {
      load(bytes);
      ++read;
    } catch (const FileError&) {
      ++refused;
    }
  };
  for (size_t at = 0; at < edited_part; ++at) {
    for (const char byte : {'\0', '"', '9'}) {
      std::string bytes = whole;
      bytes[at] = byte;
      attempt(bytes);
    }
  }
  for (int i = 0; i < 400; ++i) {
    std::string bytes = whole;
    for (int edits = 0; edits < 3; ++edits) {
      bytes[random() % edited_part] = static_cast<char>(random());
    }
    attempt(bytes);
  }
  EXPECT_GT(refused, read) << "nearly every byte of a header matters";
  EXPECT_GT(read, 0) << "a name may be any text";
}

// Only who asks for such a tensor is refused, and the others are where they are.
TEST_F(SafetensorsTest, DtypesThatNobodyAsksForSpoilNothing) {
  for (const std::string dtype : {"F8_E4M3", "F8_E5M2", "U16", "U32", "U64", "C64", "F4", "NEW"}) {
    SCOPED_TRACE(dtype);
    const Safetensors file = load(file_of("{\"a\":{" + entry(dtype, "[4]", "[0,8]") + "},\"b\":{" +
                                              entry("U8", "[2]", "[8,10]") + "}}",
                                          std::string(8, '\0') + "\x01\x02"));
    EXPECT_EQ(file.tensors.size(), 1);
    EXPECT_TRUE(file.at("b").equal(at::tensor({1, 2}, at::kByte)));
    EXPECT_TRUE(file.has("a"));
    EXPECT_FALSE(file.has("c"));
    try {
      file.at("a");
      ADD_FAILURE() << "read";
    } catch (const FileError& error) {
      EXPECT_NE(
          std::string(error.what()).find("tensor 'a': dtype \"" + dtype + "\" is not supported"),
          std::string::npos)
          << error.what();
    }
  }
}

TEST_F(SafetensorsTest, RefusesHeadersThatLie) {
  const std::string four(4, '\0'), eight(8, '\0');
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  struct Lie {
    std::string name, bytes, message;
  };
  const std::string f32 = entry("F32", "[1]", "[0,4]");
  const auto one = [&](const std::string& dtype, const std::string& shape,
                       const std::string& offsets, const std::string& data) {
    return file_of("{\"a\":{" + entry(dtype, shape, offsets) + "}}", data);
  };
  const std::vector<Lie> lies = {
      {"nothing", "", "it has 0 bytes"},
      {"seven bytes", "1234567", "it has 7 bytes"},
      {"a header of 2^64 - 1 bytes", std::string(8, '\xff'), "does not fit"},
      {"a header of 2^63 bytes", std::string(7, '\0') + '\x80' + "{}", "does not fit"},
      {"a header past the end", file_of("{}").replace(0, 1, "\x03"), "does not fit"},
      {"no JSON", file_of("{\"a\":"), "not a JSON object"},
      {"a list", file_of("[]"), "not a JSON object"},
      {"bytes that are no UTF-8", file_of("{\"\xff\":{}}"), "not a JSON object"},
      {"a number for a tensor", file_of("{\"a\":1}"), "tensor 'a': has to have dtype, shape"},
      {"no offsets", file_of(R"({"a":{"dtype":"F32","shape":[1]}})", four), "data_offsets"},
      {"a number for a dtype",
       file_of(R"({"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}})", four),
       "dtype has to be a string"},
      {"a negative size", one("F32", "[-1]", "[0,4]", four), "list of sizes, but got [-1]"},
      {"half a size", one("F32", "[1.5]", "[0,4]", four), "list of sizes"},
      {"a text for a size", one("F32", "[\"1\"]", "[0,4]", four), "list of sizes"},
      {"a number for a shape", one("F32", "1", "[0,4]", four), "list of sizes"},
      {"nested lists for a shape", one("F32", deep, "[0,4]", four), "list of sizes"},
      {"nested lists for offsets", one("F32", "[1]", deep, four), "[begin, end]"},
      {"nested lists for a dtype",
       file_of("{\"a\":{\"dtype\":" + deep + ",\"shape\":[],\"data_offsets\":[0,4]}}", four),
       "dtype has to be a string"},
      {"a size of 2^64", one("F32", "[18446744073709551616]", "[0,4]", four), "list of sizes"},
      {"a size of 2^64 - 1", one("U8", "[18446744073709551615]", "[0,4]", four), "overflows"},
      {"a product of 2^64", one("F32", "[4294967296,1073741824]", "[0,0]", ""), "overflows"},
      {"a product of 2^63", one("U8", "[4294967296,2147483648]", "[0,4]", four), "overflows"},
      {"a product that overflows beside 0",
       one("U8", "[0,4611686018427387904,4611686018427387904]", "[0,0]", ""), "overflows"},
      {"2^62 bytes", one("U8", "[4611686018427387904]", "[0,4611686018427387904]", four),
       "truncated or has surplus bytes"},
      {"one offset", one("F32", "[1]", "[0]", four), "[begin, end]"},
      {"three offsets", one("F32", "[1]", "[0,4,4]", four), "[begin, end]"},
      {"negative offsets", one("F32", "[1]", "[-4,0]", four), "[begin, end]"},
      {"offsets in reverse", one("F32", "[1]", "[4,0]", four), "do not hold"},
      {"too few bytes", one("F32", "[2]", "[0,4]", four), "do not hold the 8 bytes"},
      {"past the end", one("F32", "[2]", "[0,8]", four), "truncated or has surplus bytes"},
      {"surplus data", one("F32", "[1]", "[0,4]", eight), "truncated or has surplus bytes"},
      {"a hole at the start", one("F32", "[1]", "[4,8]", eight), "overlap or leave a hole"},
      {"a shared range", file_of("{\"a\":{" + f32 + "},\"b\":{" + f32 + "}}", four),
       "overlap or leave a hole"},
      {"an overlap",
       file_of("{\"a\":{" + entry("U8", "[3]", "[0,3]") + "},\"b\":{" +
                   entry("U8", "[2]", "[2,4]") + "}}",
               four),
       "overlap or leave a hole"},
      {"a hole",
       file_of("{\"a\":{" + entry("U8", "[1]", "[0,1]") + "},\"b\":{" +
                   entry("U8", "[2]", "[2,4]") + "}}",
               four),
       "tensor 'b' begins at byte 2 of the data, not at 1"},
      {"a tensor twice", file_of("{\"a\":{" + f32 + "},\"a\":{" + f32 + "}}", four),
       "two entries \"a\""},
      {"a shape twice", file_of("{\"a\":{" + f32 + ",\"shape\":[1]}}", four),
       "two entries \"shape\""},
      {"a key of the metadata twice", file_of(R"({"__metadata__":{"k":"1","k":"2"}})"),
       "two entries \"k\""},
      {"metadata that is a text", file_of(R"({"__metadata__":"x"})"), "has to be an object"},
      {"metadata with a number", file_of(R"({"__metadata__":{"k":1}})"), "'k' has to be text"},
  };
  std::vector<BadInput> table;
  for (const Lie& lie : lies) {
    table.push_back({lie.name, [&] { load(lie.bytes); }, lie.message});
  }
  table.push_back({"no file", [&] { load_safetensors(folder_ / "no"); }, "cannot be opened"});
  table.push_back({"a folder", [&] { load_safetensors(folder_.path()); }, "cannot be opened"});
  expect_refused<FileError>(table);
}

TEST_F(SafetensorsTest, RefusesWhatItCannotWriteAndLeavesTheOldFile) {
  write_file(path_, "old");
  expect_refused({
      {"undefined",
       [&] {
         save_safetensors(path_, {{"a", at::Tensor()}});
       },
       "tensors['a']"},
      {"dtype",
       [&] {
         save_safetensors(path_, {{"a", at::zeros({1}, at::kComplexFloat)}});
       },
       "of a dtype that safetensors knows, but got ComplexFloat"},
      {"name",
       [&] {
         save_safetensors(path_, {{"\xff", at::zeros({1})}});
       },
       "UTF-8"},
      {"metadata",
       [&] {
         save_safetensors(path_, {}, {{"k", "\xff"}});
       },
       "UTF-8"},
  });
  expect_refused<FileError>(
      {{"no folder", [&] { save_safetensors(folder_ / "no/a", {}); }, "cannot be opened"}});
  EXPECT_EQ(read_file(path_), "old");
  EXPECT_EQ(folder_.count(), 1);
}

}  // namespace
}  // namespace diffmask
