// A small exported program, written as torch.export.save writes it, to be bent and broken.
#pragma once
#include <zip.h>

#include <nlohmann/json.hpp>

#include "diffmask/core/error.hpp"

namespace diffmask {

/// Entries by name; packed with or without compression.
inline void write_zip(const std::string& path, const std::map<std::string, std::string>& entries,
                      bool compressed = false) {
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
  for (const auto& [name, text] : entries) {
    zip_source_t* source = zip_source_buffer(zip, text.data(), text.size(), 0);
    const zip_int64_t entry = zip_file_add(zip, name.c_str(), source, ZIP_FL_ENC_UTF_8);
    zip_set_file_compression(zip, static_cast<zip_uint64_t>(entry),
                             compressed ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  if (zip_close(zip) != 0) throw Error("zip_close failed");
}

/// f(x) = tanh(x W^T) for x (s0, 3), W (2, 3): modules "linear" and "act", the latter in place.
struct ExportedArchive {
  using json = nlohmann::json;

  static json tensor(const std::string& name) { return {{"as_tensor", {{"name", name}}}}; }
  static json input(const std::string& name, const json& argument) {
    return {{"name", name}, {"arg", argument}, {"kind", 1}};
  }
  // nlohmann takes {x} for x itself.
  static json list(const json& value) { return value.is_array() ? value : json::array({value}); }
  static json node(const std::string& target, const json& inputs, const json& outputs,
                   const std::string& module = "") {
    std::string stack = "L__self__,,Net";
    if (!module.empty())
      stack += ";L__self__" + module + "," + module + ",torch.nn.Module_" + module;
    return {{"target", target},
            {"inputs", list(inputs)},
            {"outputs", list(outputs)},
            {"metadata", {{"nn_module_stack", stack}}},
            {"name", "node_of_" + target}};
  }
  static json size(int64_t value) { return {{"as_int", value}}; }
  static json symbol(const std::string& name) {
    return {
        {"as_expr",
         {{"expr_str", "Symbol('" + name + "', positive=True, integer=True)"}, {"hint", nullptr}}}};
  }
  static json meta(const json& sizes, const json& strides, int dtype = 7) {
    return {{"dtype", dtype},
            {"sizes", sizes},
            {"requires_grad", false},
            {"device", {{"type", "cpu"}, {"index", nullptr}}},
            {"strides", strides},
            {"storage_offset", size(0)},
            {"layout", 7}};
  }

  json program, weights;
  std::vector<float> values = {1, -2, 3, 0.5, 0.25, -1};

  ExportedArchive() {
    const json graph = {
        {"inputs", {tensor("p_w"), tensor("x")}},
        {"outputs", {tensor("tanh_")}},
        {"nodes",
         {node("torch.ops.aten.linear.default",
               {input("input", tensor("x")), input("weight", tensor("p_w"))}, {tensor("linear")},
               "linear"),
          node("torch.ops.aten.tanh_.default", {input("self", tensor("linear"))}, {tensor("tanh_")},
               "act")}},
        {"tensor_values", {{"x", meta({symbol("s0"), size(3)}, {size(3), size(1)})}}},
        {"sym_int_values", json::object()},
        {"sym_bool_values", json::object()}};
    const std::string leaf = R"({"type": null, "context": null, "children_spec": []})";
    program = {
        {"graph_module",
         {{"graph", graph},
          {"signature",
           {{"input_specs",
             {{{"parameter", {{"arg", {{"name", "p_w"}}}, {"parameter_name", "linear.weight"}}}},
              {{"user_input", {{"arg", tensor("x")}}}}}},
            {"output_specs", {{{"user_output", {{"arg", tensor("tanh_")}}}}}}}},
          {"module_call_graph",
           {{{"fqn", ""}, {"signature", {{"out_spec", "[1, " + leaf + "]"}}}}}}}},
        {"opset_version", {{"aten", 10}}},
        {"range_constraints", {{"s0", {{"min_val", 2}, {"max_val", 5}}}}},
        {"schema_version", {{"major", 8}, {"minor", 20}}},
        {"guards_code", json::array()}};
    weights = {{"config",
                {{"linear.weight",
                  {{"path_name", "weight_0"},
                   {"is_param", true},
                   {"use_pickle", false},
                   {"tensor_meta", meta({size(2), size(3)}, {size(3), size(1)})}}}}}};
  }

  json& graph() { return program["graph_module"]["graph"]; }
  json& nodes() { return graph()["nodes"]; }

  std::map<std::string, std::string> entries() const {
    return {{"net/models/model.json", program.dump()},
            {"net/data/weights/model_weights_config.json", weights.dump()},
            {"net/data/weights/weight_0",
             {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}},
            {"net/data/constants/model_constants_config.json", R"({"config": {}})"}};
  }
  void write(const std::string& path) const { write_zip(path, entries()); }
};

}  // namespace diffmask
