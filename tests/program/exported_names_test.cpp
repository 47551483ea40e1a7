// Names of modules in exported programs.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "diffmask/program/exported.hpp"
#include "tests/program/exported_archive.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask::exported_names_test {
namespace {

using A = ExportedArchive;

std::shared_ptr<Program> load(const ExportedArchive& archive) {
  const TemporaryFolder folder;
  archive.write(folder / "net.pt2");
  return load_exported(folder / "net.pt2");
}

// As PyTorch names them; a pattern's '?' is one character of any script.
TEST(ExportedNamesTest, NamesMayHoldSeparatorsAndOtherScripts) {
  for (const std::string name : {"parts.k,v", "parts.p;q", "größe", "a b", "x[0]", "模.3*"}) {
    SCOPED_TRACE(name);
    ExportedArchive archive;
    archive.nodes()[0] =
        A::node("torch.ops.aten.linear.default",
                {A::input("input", A::tensor("x")), A::input("weight", A::tensor("p_w"))},
                {A::tensor("linear")}, name);
    archive.nodes()[0]["metadata"]["nn_module_stack"] =
        "L__self__,,Net;L__self__" + name + "," + name + ",torch.nn.modules.linear.Linear";
    const auto model = load(archive);
    EXPECT_EQ(model->site_names(), (std::vector<std::string>{name, "act"}));
    EXPECT_EQ(model->select(name), std::vector<std::string>{name});
  }
  ExportedArchive archive;
  archive.nodes()[0] =
      A::node("torch.ops.aten.linear.default",
              {A::input("input", A::tensor("x")), A::input("weight", A::tensor("p_w"))},
              {A::tensor("linear")}, "größe");
  const auto model = load(archive);
  EXPECT_EQ(model->select("gr??e"), std::vector<std::string>{"größe"});
  EXPECT_EQ(model->select("gr*"), std::vector<std::string>{"größe"});
}

}  // namespace
}  // namespace diffmask::exported_names_test
