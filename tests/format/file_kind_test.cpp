// What files are that are no models: errors say so, and what to do.
#include <gtest/gtest.h>
#include <torch/script.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/exported.hpp"
#include "tests/program/exported_archive.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

class FileKindTest : public ::testing::Test {
 protected:
  std::string error_of(const std::string& path) const {
    try {
      load_program(path);
    } catch (const FileError& error) {
      return error.what();
    }
    return "no error";
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "file";
};

TEST_F(FileKindTest, SaysWhatAFileIs) {
  struct Case {
    std::string bytes, kind;
  };
  using namespace std::string_literals;
  for (const Case& each :
       {Case{"", "is empty"}, Case{"\x80\x02\x8a\x0al\xfc"s, "is a Python pickle, as torch.save"},
        Case{"\x80\x04\x95"s, "is a Python pickle"},
        Case{"version https://git-lfs.github.com/spec/v1\noid sha256:1", "pointer of Git LFS"},
        Case{"GGUF\x03"s, "is a GGUF file"}, Case{"\x89HDF\r\n"s, "is an HDF5 file"},
        Case{"\x08\x08\x12\x07pytorch\x1a\x05"s, "is an ONNX file"},
        Case{"\x1f\x8b\x08"s, "is compressed by gzip"}}) {
    SCOPED_TRACE(each.kind);
    write_file(path_, each.bytes);
    const std::string error = error_of(path_);
    EXPECT_NE(error.find(each.kind), std::string::npos) << error;
    EXPECT_NE(error.find("torch.export.save"), std::string::npos) << "what to do: " << error;
  }
  write_file(path_, "some text");
  EXPECT_NE(error_of(path_).find("is no zip archive"), std::string::npos) << error_of(path_);
}

TEST_F(FileKindTest, SaysWhatAnArchiveIs) {
  struct Case {
    std::map<std::string, std::string> entries;
    std::string kind;
  };
  const std::string state = "ccollections\nOrderedDict\n",
                    module = "ctorch.nn.modules.linear\nLinear\n";
  for (const Case& each :
       {Case{{{"net/data.pkl", state}, {"net/version", "3"}}, "weights (a state_dict)"},
        Case{{{"net/data.pkl", module}, {"net/version", "3"}}, "of a whole module"},
        Case{{{"net/data/aotinductor/model/a.so", "x"}, {"net/version", "3"}},
             "is a package of AOTInductor"},
        Case{{{"arr_0.npy", "x"}}, "arrays of numpy"}}) {
    SCOPED_TRACE(each.kind);
    write_zip(path_, each.entries);
    EXPECT_NE(error_of(path_).find(each.kind), std::string::npos) << error_of(path_);
  }
}

TEST_F(FileKindTest, WeightsAndFoldersAreNoModels) {
  save_safetensors(path_, {{"weight", at::ones({2})}});
  EXPECT_NE(error_of(path_).find("is a safetensors file"), std::string::npos) << error_of(path_);
  EXPECT_NE(error_of(folder_.path()).find("is a folder"), std::string::npos);
  write_file(folder_ / "config.json", "{}");
  EXPECT_NE(error_of(folder_.path()).find("Hugging Face"), std::string::npos);
}

TEST_F(FileKindTest, ModelsAreNoInputs) {
  torch::jit::Module net("Net");
  net.define("def forward(self, x):\n  return x\n");
  net.save(path_);
  EXPECT_THROW(load_safetensors(path_), FileError);
  write_zip(path_, {{"net/data.pkl", "ccollections\nOrderedDict\n"}});
  try {
    load_safetensors(path_);
    ADD_FAILURE() << "read";
  } catch (const FileError& error) {
    EXPECT_NE(std::string(error.what()).find("is no safetensors file: it is a pickle"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace diffmask
