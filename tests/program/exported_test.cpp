#include "diffmask/program/exported.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "tests/program/exported_archive.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask::exported_test {
namespace {

using json = nlohmann::json;
using A = ExportedArchive;

class ExportedTest : public ::testing::Test {
 protected:
  std::shared_ptr<Program> load(const ExportedArchive& archive) {
    archive.write(path_);
    return load_exported(path_);
  }

  // What load or a pass over `x` says, or "" where both succeed.
  std::string problem_of(const ExportedArchive& archive) {
    try {
      load(archive)->record({x_});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "net.pt2";
  ExportedArchive archive_;
  const at::Tensor x_ = at::randn({4, 3}, make_generator(1));
  const at::Tensor weight_ = at::from_blob(archive_.values.data(), {2, 3}).clone();
};

TEST_F(ExportedTest, RunsRecordsAndResumes) {
  const auto model = load(archive_);
  EXPECT_EQ(model->site_names(), (std::vector<std::string>{"linear", "act"}));
  EXPECT_EQ(model->site("act").type, "Module_act");
  EXPECT_EQ(model->tensors().size(), 1);
  EXPECT_TRUE(model->tensors().at("linear.weight").equal(weight_));
  const Recording recording = model->record({x_});
  const at::Tensor linear = at::linear(x_, weight_);
  EXPECT_TRUE(recording.output().equal(at::tanh(linear)));
  EXPECT_TRUE(recording.state("linear").equal(linear)) << "the in-place tanh wrote into it";
  EXPECT_TRUE(model->resume(recording, "linear", linear).equal(recording.output()));
  const at::Tensor leaf = at::zeros({4, 2}).requires_grad_(true);
  const at::Tensor output = model->resume(recording, "linear", leaf);
  EXPECT_TRUE(torch::autograd::grad({output.sum()}, {leaf})[0].equal(at::ones({4, 2})));
}

TEST_F(ExportedTest, NamesInputsOfModules) {
  archive_.write(path_);
  const auto model = load_exported(path_, {.module_inputs = true});
  EXPECT_EQ(model->site_names(),
            (std::vector<std::string>{"linear:input", "linear", "act:input", "act"}));
  const Recording recording = model->record({x_});
  EXPECT_TRUE(recording.state("linear:input").equal(x_));
  EXPECT_TRUE(
      model->resume(recording, "linear:input", at::zeros_like(x_)).equal(at::zeros({4, 2})));
}

// No bound of 2 is meant: torch assumes it when it traces.
TEST_F(ExportedTest, ChecksInputs) {
  const auto model = load(archive_);
  EXPECT_EQ(model->record({x_.slice(0, 0, 1)}).output().size(0), 1);
  const auto problem = [&](const Inputs& inputs) -> std::string {
    try {
      model->record(inputs);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(problem({x_, x_}), "inputs has to be 1 (x), but got 2");
  EXPECT_EQ(problem({at::zeros({6, 3})}),
            "input 'x' has to be of shape (s0 <= 5, 3), but got (6, 3)");
  EXPECT_EQ(problem({at::zeros({2, 4})}),
            "input 'x' has to be of shape (s0 <= 5, 3), but got (2, 4)");
  EXPECT_EQ(problem({at::zeros({3})}), "input 'x' has to be of shape (s0 <= 5, 3), but got (3)");
  EXPECT_NE(problem({at::zeros({2, 3}, at::kLong)}).find("input 'x'"), std::string::npos);
}

TEST_F(ExportedTest, ChecksSizesThatDependOnEachOther) {
  json& graph = archive_.graph();
  archive_.program["graph_module"]["signature"]["input_specs"].push_back(
      {{"user_input", {{"arg", A::tensor("y")}}}});
  graph["inputs"].push_back(A::tensor("y"));
  graph["tensor_values"]["y"] = A::meta({{{"as_expr",
                                           {{"expr_str",
                                             "Add(Mul(Symbol('s0', positive=True, integer=True), "
                                             "Integer(2)), Integer(-1))"}}}},
                                         A::symbol("s1")},
                                        {A::size(3), A::size(1)});
  archive_.program["guards_code"] = {"L['x'].size()[1] == L['y'].size()[1]"};
  const auto model = load(archive_);
  const at::Tensor x = at::zeros({3, 3});
  EXPECT_TRUE(model->record({x, at::zeros({5, 3})}).output().equal(at::zeros({3, 2})));
  EXPECT_THROW(model->record({x, at::zeros({6, 3})}), ArgumentError);
  EXPECT_THROW(model->record({x, at::zeros({5, 4})}), ArgumentError);
}

// y = tanh(x W^T) where the product is made without gradients.
TEST_F(ExportedTest, SwitchesGradientsOff) {
  const json inner = {
      {"inputs", {A::tensor("a"), A::tensor("b")}},
      {"outputs", {A::tensor("c")}},
      {"nodes",
       {A::node("torch.ops.aten.linear.default",
                {A::input("input", A::tensor("a")), A::input("weight", A::tensor("b"))},
                {A::tensor("c")}, "linear")}}};
  archive_.nodes()[0] = A::node("torch.ops.higher_order.wrap_with_set_grad_enabled",
                                {A::input("", {{"as_bool", false}}),
                                 A::input("", {{"as_graph", {{"name", "g"}, {"graph", inner}}}}),
                                 A::input("", A::tensor("x")), A::input("", A::tensor("p_w"))},
                                {{{"as_tensors", {{{"name", "linear"}}}}}});
  archive_.write(path_);
  const auto model = load_exported(path_, {.module_inputs = true});
  const Recording recording = model->record({x_});
  EXPECT_TRUE(recording.output().equal(at::tanh(at::linear(x_, weight_))));
  EXPECT_TRUE(recording.has("linear"));
  const auto resumed = [&](const std::string& site) {
    return model->resume(recording, site, recording.state(site).clone().requires_grad_(true));
  };
  EXPECT_FALSE(resumed("linear:input").requires_grad());
  EXPECT_TRUE(resumed("act:input").requires_grad());
  EXPECT_TRUE(resumed("linear:input").equal(recording.output()));
}

// y = tanh(x W^T) with the product in bfloat16, as torch.autocast makes it.
TEST_F(ExportedTest, DoesWhatAutocastDoes) {
  const json inner = {
      {"inputs", {A::tensor("a"), A::tensor("b")}},
      {"outputs", json::array({A::tensor("c")})},
      {"nodes",
       json::array({A::node("torch.ops.aten.linear.default",
                            {A::input("input", A::tensor("a")), A::input("weight", A::tensor("b"))},
                            A::tensor("c"), "linear")})}};
  const auto with = [&](bool is_on) {
    archive_.nodes()[0] =
        A::node("torch.ops.higher_order.wrap_with_autocast",
                {A::input("", {{"as_string", "cpu"}}), A::input("", {{"as_scalar_type", 13}}),
                 A::input("", {{"as_bool", is_on}}), A::input("", {{"as_bool", true}}),
                 A::input("", {{"as_graph", {{"name", "g"}, {"graph", inner}}}}),
                 A::input("", A::tensor("x")), A::input("", A::tensor("p_w"))},
                A::tensor("linear"));
    return load(archive_);
  };
  const auto model = with(true);
  const Recording recording = model->record({x_});
  const at::Tensor expected = at::linear(x_.to(at::kBFloat16), weight_.to(at::kBFloat16));
  EXPECT_TRUE(recording.state("linear").equal(expected));
  EXPECT_TRUE(recording.output().equal(at::tanh(expected)));
  archive_.write(path_);
  const auto tapped = load_exported(path_, {.inputs = true});
  const Recording again = tapped->record({x_});
  for (int pass = 0; pass < 2; ++pass) {  // no cast is kept from one pass to the next
    const at::Tensor x = (x_ * (pass + 1)).requires_grad_(true);
    const at::Tensor output = tapped->resume(again, "input0", x);
    EXPECT_TRUE(output.equal(tapped->record({x}).output()));
    EXPECT_EQ(torch::autograd::grad({output.sum()}, {x})[0].scalar_type(), at::kFloat);
  }
  EXPECT_TRUE(with(false)->record({x_}).output().equal(at::tanh(at::linear(x_, weight_))));
}

// y = tanh(2 h), h doubled in place without gradients: for autograd, as in PyTorch, the doubling is
// not there, so dy/dh = 1 - y^2.
TEST_F(ExportedTest, WritesWithoutGradientsKeepHistory) {
  const json inner = {{"inputs", json::array({A::tensor("a")})},
                      {"outputs", json::array({A::tensor("b")})},
                      {"nodes", json::array({A::node("torch.ops.aten.mul_.Tensor",
                                                     {A::input("self", A::tensor("a")),
                                                      A::input("other", {{"as_float", 2.0}})},
                                                     A::tensor("b"))})}};
  archive_.nodes().insert(archive_.nodes().begin() + 1,
                          A::node("torch.ops.higher_order.wrap_with_set_grad_enabled",
                                  {A::input("", {{"as_bool", false}}),
                                   A::input("", {{"as_graph", {{"name", "g"}, {"graph", inner}}}}),
                                   A::input("", A::tensor("linear"))},
                                  A::tensor("doubled")));
  const auto model = load(archive_);
  const Recording recording = model->record({x_});
  EXPECT_TRUE(recording.output().equal(at::tanh(2 * at::linear(x_, weight_))));
  const at::Tensor leaf = recording.state("linear").clone().requires_grad_(true);
  const at::Tensor output = model->resume(recording, "linear", leaf);
  EXPECT_TRUE(output.equal(recording.output()));
  const at::Tensor gradient = torch::autograd::grad({output.sum()}, {leaf})[0];
  EXPECT_TRUE(at::allclose(gradient, 1 - output * output));
}

// Operators on sizes: each gives a number from the 4 rows of x.
TEST_F(ExportedTest, ComputesWithSizes) {
  struct Case {
    std::string operation;
    json right;
    double value;
  };
  for (const Case& c : std::vector<Case>{{"_operator.add", {{"as_int", 3}}, 7},
                                         {"_operator.sub", {{"as_int", 7}}, -3},
                                         {"_operator.mul", {{"as_int", -2}}, -8},
                                         {"_operator.floordiv", {{"as_int", -3}}, -2},
                                         {"_operator.mod", {{"as_int", -3}}, -2},
                                         {"_operator.truediv", {{"as_int", 8}}, 0.5},
                                         {"_operator.pow", {{"as_int", 3}}, 64},
                                         {"_operator.pow", {{"as_float", 0.5}}, 2},
                                         {"torch.sym_max", {{"as_int", 5}}, 5},
                                         {"torch.sym_min", {{"as_float", 2.5}}, 2.5},
                                         {"_operator.ge", {{"as_int", 4}}, 1}}) {
    SCOPED_TRACE(c.operation);
    ExportedArchive archive;
    archive.nodes() = {
        A::node("torch.ops.aten.sym_size.int",
                {A::input("self", A::tensor("x")), A::input("dim", {{"as_int", 0}})},
                {{{"as_sym_int", {{"as_name", "n"}}}}}),
        A::node(c.operation,
                {A::input("a", {{"as_sym_int", {{"as_name", "n"}}}}), A::input("b", c.right)},
                {{{"as_sym_float", {{"as_name", "m"}}}}}),
        A::node("torch.ops.aten.scalar_tensor.default",
                {A::input("s", {{"as_sym_float", {{"as_name", "m"}}}})}, {A::tensor("tanh_")})};
    EXPECT_EQ(load(archive)->record({x_}).output().item<double>(), c.value);
  }
  archive_.nodes()[1] = A::node("_operator.floordiv",
                                {A::input("a", {{"as_int", 1}}), A::input("b", {{"as_int", 0}})},
                                {A::tensor("tanh_")});
  EXPECT_NE(problem_of(archive_).find("a divisor has to be not 0"), std::string::npos);
}

TEST_F(ExportedTest, NamesEveryOperatorThatIsMissing) {
  archive_.nodes()[0]["target"] = "torch.ops.aten.no_such.default";
  archive_.nodes()[1]["target"] = "torch.ops.mine.other.out";
  const std::string problem = problem_of(archive_);
  EXPECT_NE(problem.find("aten::no_such, mine::other.out"), std::string::npos) << problem;
  archive_.nodes()[0]["target"] = "torch.ops.aten.from_file.default";  // registered, and refused
  archive_.nodes()[1]["target"] = "torch.ops.higher_order.flex_attention";
  const std::string other = problem_of(archive_);
  EXPECT_NE(other.find("aten::from_file, the higher-order operator flex_attention"),
            std::string::npos)
      << other;
}

TEST_F(ExportedTest, RefusesBrokenPrograms) {
  struct Bad {
    std::string pointer;  // into program, or "/weights/..." into the weights' description
    json value;           // null: erased
    std::string message;
  };
  const std::string node = "/graph_module/graph/nodes/0", meta = "/weights/config/linear.weight";
  for (const Bad& bad : std::vector<Bad>{
           {"/schema_version/major", 7, "schema_version has to be 8"},
           {"/schema_version", nullptr, "schema_version"},
           {"/graph_module/graph/nodes", nullptr, "nodes"},
           {"/graph_module/graph/surplus", 1, "but got surplus"},
           {node + "/target", "no operator", "no operator"},
           {node + "/target", 3, "has to be a text"},
           {node + "/inputs/0/arg", A::tensor("tanh_"), "'tanh_', which is not"},
           {node + "/inputs/0/arg", A::tensor("nothing"), "'nothing', which is not"},
           {node + "/inputs/0/arg", {{"as_tensor", {{"name", "x"}}}, {"as_int", 1}}, "a union"},
           {node + "/inputs/0/arg", {{"as_riddle", 1}}, "as_riddle"},
           {node + "/inputs/0/name", "no_argument", "the argument 'no_argument'"},
           {node + "/inputs/1", nullptr, "argument 'weight' has to be given"},
           {node + "/outputs/0", A::tensor("x"), "'x', which is made twice"},
           {node + "/outputs", json::array(), "'linear', which is not"},
           {"/graph_module/signature/input_specs/0", nullptr, "input_specs has to be one for each"},
           {"/graph_module/signature/input_specs/0/parameter/parameter_name", "lost",
            "no tensor 'lost'"},
           {"/graph_module/signature/output_specs", json::array(), "output has to be"},
           {"/graph_module/graph/tensor_values", json::object(), "'x'"},
           {"/range_constraints/s0/max_val", "many", "an integer"},
           {meta + "/path_name", "../../etc/passwd", "has no entry"},
           {meta + "/path_name", "weight_9", "weight_9"},
           {meta + "/use_pickle", true, "pickle"},
           {meta + "/tensor_meta/dtype", 99, "dtype has to be one of"},
           {meta + "/tensor_meta/sizes/0/as_int", 3, "but 'net/data/weights/weight_0' holds 24"},
           {meta + "/tensor_meta/sizes/0/as_int", -1, ">= 0"},
           {meta + "/tensor_meta/sizes/0/as_int", 1LL << 62, "overflow"},
           {meta + "/tensor_meta/storage_offset/as_int", 1, "but 'net/data/weights/weight_0'"},
           {meta + "/tensor_meta/storage_offset/as_int", INT64_MAX, "overflow"},
           {meta + "/tensor_meta/strides/0/as_int", 1LL << 62, "weight_0"},
       }) {
    SCOPED_TRACE(bad.pointer + " " + bad.value.dump());
    ExportedArchive archive;
    const bool in_weights = bad.pointer.starts_with("/weights");
    json& document = in_weights ? archive.weights : archive.program;
    const json::json_pointer pointer(in_weights ? bad.pointer.substr(8) : bad.pointer);
    if (bad.value.is_null()) {
      json& parent = document.at(pointer.parent_pointer());
      if (parent.is_array()) {
        parent.erase(std::stoul(pointer.back()));
      } else {
        parent.erase(pointer.back());
      }
    } else {
      document[pointer] = bad.value;
    }
    const std::string problem = problem_of(archive);
    EXPECT_NE(problem.find(bad.message), std::string::npos) << "got: " << problem;
  }
  // Training mode is in the arguments of operators.
  archive_.nodes()[1] =
      A::node("torch.ops.aten.dropout.default",
              {A::input("input", A::tensor("linear")), A::input("p", {{"as_float", 0.5}}),
               A::input("train", {{"as_bool", true}})},
              {A::tensor("tanh_")});
  EXPECT_NE(problem_of(archive_).find("in evaluation mode"), std::string::npos);
}

TEST_F(ExportedTest, RefusesDeepNesting) {
  json graph = {{"inputs", json::array()}, {"outputs", json::array()}, {"nodes", json::array()}};
  for (int i = 0; i < 50; ++i) {
    json outer = {{"inputs", json::array()}, {"outputs", json::array()}};
    outer["nodes"] =
        json::array({A::node("torch.ops.higher_order.wrap_with_set_grad_enabled",
                             {A::input("", {{"as_bool", true}}),
                              A::input("", {{"as_graph", {{"name", "g"}, {"graph", graph}}}})},
                             json::array())});
    graph = std::move(outer);
  }
  archive_.nodes().push_back(graph["nodes"][0]);
  EXPECT_NE(problem_of(archive_).find("at most 32 deep"), std::string::npos);
}

TEST_F(ExportedTest, RefusesBadArchives) {
  const auto problem = [&](const std::map<std::string, std::string>& entries,
                           bool compressed = false) -> std::string {
    write_zip(path_, entries, compressed);
    try {
      load_exported(path_);
    } catch (const FileError& error) {
      return error.what();
    }
    return "";
  };
  auto entries = archive_.entries();
  EXPECT_EQ(problem(entries, /*compressed=*/true), "") << "compression is allowed";
  entries["net/models/model.json"] = "{\"graph_module\": ";
  EXPECT_NE(problem(entries).find("net/models/model.json: has to be a JSON object"),
            std::string::npos);
  entries["net/models/model.json"] = "{\"graph_module\": " + std::string(1'000'000, '[');
  EXPECT_NE(problem(entries).find("nest at most 1000 deep"), std::string::npos);
  entries.erase("net/models/model.json");
  EXPECT_NE(problem(entries).find("no entry 'models/model.json'"), std::string::npos);
  entries["serialized_exported_program.json"] = "{}";
  EXPECT_NE(problem(entries).find("export the model again, with 2.13"), std::string::npos);
  EXPECT_NE(problem({{"../models/model.json", "{}"}}).find("leaves the archive"),
            std::string::npos);
  EXPECT_NE(problem({{"bomb", std::string(64 << 20, '\0')}}, true).find("unpack to at most"),
            std::string::npos);
  EXPECT_THROW(load_exported(folder_ / "none.pt2"), FileError);
}

// Cut short anywhere, or with any byte changed, a file loads or is refused, and nothing else.
TEST_F(ExportedTest, SurvivesDamage) {
  archive_.write(path_);
  const std::string whole = read_file(path_);
  size_t refused = 0, tried = 0;
  const auto try_to_load = [&](const std::string& bytes) {
    write_file(path_, bytes);
    ++tried;
    try {
      load_program(path_)->record({x_});
    } catch (const Error&) {
      ++refused;
    }
  };
  for (size_t size = 0; size < whole.size(); size += 97) try_to_load(whole.substr(0, size));
  EXPECT_EQ(refused, tried);
  for (size_t at = 0; at < whole.size(); at += 13) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
    try_to_load(bytes);
  }
  EXPECT_GT(refused, tried / 2) << "checksums notice most of it";
}

}  // namespace
}  // namespace diffmask::exported_test
