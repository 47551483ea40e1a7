#include "diffmask/mask/positions.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <string_view>

namespace diffmask {
namespace {

constexpr const char* kRule =
    "a letter for each axis: B once at most for the examples, F or C once at most for the "
    "features, "
    "and others, each once, for positions, as in 'TBF', 'BCDHW', 'NF' or '(B4)TF'";

// What named axes mean. `rows`: how many rows, one after another, the axis B has for an example.
struct Axes {
  std::string letters;  // in the state's order
  int64_t rows = 1;

  std::optional<int64_t> find(std::string_view any) const {
    const size_t at = letters.find_first_of(any);
    return at == letters.npos ? std::nullopt : std::optional(static_cast<int64_t>(at));
  }
  std::optional<int64_t> batch() const { return find("B"); }
  std::optional<int64_t> features() const { return find("FC"); }
  int64_t size() const { return static_cast<int64_t>(letters.size()); }
};

Axes parse(const std::string& names) {
  Axes axes;
  const auto valid = [&](bool holds) {
    require(holds, "positions.axes", kRule, fmt::format("'{}'", names));
  };
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == '(') {
      const size_t end = names.find(')', i);
      valid(end != names.npos && names.compare(i, 2, "(B") == 0 && end - i > 2 && end - i < 12 &&
            std::all_of(names.begin() + static_cast<std::ptrdiff_t>(i) + 2,
                        names.begin() + static_cast<std::ptrdiff_t>(end),
                        [](unsigned char c) { return std::isdigit(c) != 0; }));
      axes.rows = std::stoll(names.substr(i + 2, end - i - 2));
      valid(axes.rows >= 1);
      axes.letters += 'B';
      i = end;
      continue;
    }
    valid(names[i] >= 'A' && names[i] <= 'Z');
    axes.letters += names[i];
  }
  const auto count = [&](std::string_view any) {
    return std::count_if(axes.letters.begin(), axes.letters.end(),
                         [&](char c) { return any.find(c) != any.npos; });
  };
  for (const char letter : axes.letters) valid(count(std::string_view(&letter, 1)) == 1);
  valid(count("FC") <= 1);
  valid(axes.size() - count("BFC") >= 1 || axes.rows > 1);
  return axes;
}

// Of an arranged state: the position axes, in their order.
std::vector<int64_t> position_axes(const Axes& axes) {
  std::vector<int64_t> found;
  for (int64_t i = 0; i < axes.size(); ++i) {
    const char letter = axes.letters[static_cast<size_t>(i)];
    if (letter != 'B' && letter != 'F' && letter != 'C') found.push_back(i);
  }
  return found;
}

void check(const Positions& positions, const Axes& axes, const at::Tensor& state) {
  const auto owner = [&]() -> std::string {
    if (!positions.axes.empty()) return fmt::format("as its axes are named '{}'", positions.axes);
    using Layout = Positions::Layout;
    return fmt::format("as its positions are {}'s",
                       positions.layout == Layout::sequence ? "a sequence"
                       : positions.layout == Layout::image  ? "an image"
                                                            : "a vector");
  };
  require(state.dim() == axes.size(), "state",
          fmt::format("of shape ({}), {}", fmt::join(axes.letters, ", "), owner()),
          shape_string(state.sizes()));
  const auto batch = axes.batch();
  require(axes.rows == 1 || state.size(*batch) % axes.rows == 0, "state",
          fmt::format("of {} rows for each example, {}", axes.rows, owner()),
          shape_string(state.sizes()));
}

// The letters of the arranged state.
std::string arranged_names(const Axes& axes) {
  std::string names = "B";
  if (axes.rows > 1) {
    const std::string_view free = "NKMGPQRSTUVWXYZ";
    names += free[free.find_first_not_of(axes.letters)];
  }
  for (const char letter : axes.letters) {
    if (letter != 'B') names += letter;
  }
  return names;
}

// From the arranged order to the state's own; `batch` is where its examples are.
at::Tensor put_back(const Axes& axes, const at::Tensor& arranged, int64_t batch) {
  if (!axes.batch()) return arranged.squeeze(0);
  if (axes.rows == 1) return batch == 0 ? arranged : arranged.movedim(0, batch);
  return arranged.movedim({0, 1}, {batch, batch + 1}).flatten(batch, batch + 1);
}

// One number per position, as large as the state along the position axes. Shape: values (B, P),
// arranged (B, ...) -> arranged's axes but the features'.
at::Tensor along_positions(const at::Tensor& values, const Axes& axes, const at::Tensor& arranged,
                           int64_t patch) {
  const std::vector<int64_t> positions = position_axes(axes);
  if (positions.size() == 1 && patch == 1) return values;
  std::vector<int64_t> shape = {values.size(0)};
  for (const int64_t axis : positions) shape.push_back(arranged.size(axis) / patch);
  at::Tensor result = values.reshape(shape);
  for (size_t i = 1; patch > 1 && i < shape.size(); ++i) {
    result = result.repeat_interleave(patch, static_cast<int64_t>(i));
  }
  return result;
}

}  // namespace

Positions Positions::of(std::string axes) {
  Positions positions;
  positions.axes = std::move(axes);
  positions.validate();
  return positions;
}

void Positions::validate() const {
  require(patch >= 1, "positions.patch", ">= 1", patch);
  const bool whole = axes.empty() && layout != Layout::image;
  require(!whole || patch == 1, "positions.patch",
          fmt::format("1 for {}", layout == Layout::sequence ? "a sequence" : "a vector"), patch);
  parse(names());
}

std::string Positions::names() const {
  if (!axes.empty()) return axes;
  if (layout == Layout::sequence) return "BTF";
  if (layout == Layout::image) return "BCHW";
  require(layout == Layout::units, "positions.layout", "one of the enumeration's",
          "another number");
  return "BP";
}

bool Positions::batch_first() const {
  const Axes own = parse(names());
  return own.rows == 1 && own.batch() == 0;
}

bool Positions::unbatched() const { return !parse(names()).batch(); }

at::Tensor Positions::arrange(const at::Tensor& state) const {
  const Axes own = parse(names());
  check(*this, own, state);
  const auto batch = own.batch();
  if (!batch) return state.unsqueeze(0);
  if (own.rows == 1) return *batch == 0 ? state : state.movedim(*batch, 0);
  std::vector<int64_t> shape = state.sizes().vec();
  shape[static_cast<size_t>(*batch)] /= own.rows;
  shape.insert(shape.begin() + *batch + 1, own.rows);
  return state.reshape(shape).movedim({*batch, *batch + 1}, {0, 1});
}

at::Tensor Positions::restore(const at::Tensor& arranged) const {
  const Axes own = parse(names());
  return put_back(own, arranged, own.batch().value_or(0));
}

Positions Positions::arranged() const {
  if (batch_first()) return *this;
  Positions result = *this;
  result.axes = arranged_names(parse(names()));
  return result;
}

int64_t Positions::examples(const at::Tensor& state) const { return arrange(state).size(0); }

at::Tensor Positions::features(const at::Tensor& state) const {
  const at::Tensor first = arrange(state);
  const Axes axes = parse(arranged().names());
  // Cut each position axis into patches, and bring all to (B, F, patches' cells, positions).
  std::vector<int64_t> shape = {first.size(0)}, order = {0}, cells, places;
  for (int64_t axis = 1; axis < axes.size(); ++axis) {
    const bool is_position = axis != axes.features();
    const auto here = static_cast<int64_t>(shape.size());
    if (!is_position) {
      shape.push_back(first.size(axis));
      order.push_back(here);
      continue;
    }
    require(first.size(axis) % patch == 0, "state",
            layout == Layout::image && this->axes.empty()
                ? fmt::format("of a height and width that patches of {} divide", patch)
                : fmt::format("of position axes that patches of {} divide", patch),
            shape_string(state.sizes()));
    shape.push_back(first.size(axis) / patch);
    places.push_back(here);
    if (patch == 1) continue;
    shape.push_back(patch);
    cells.push_back(here + 1);
  }
  int64_t count = 1;
  for (const int64_t place : places) count *= shape[static_cast<size_t>(place)];
  order.insert(order.end(), cells.begin(), cells.end());
  order.insert(order.end(), places.begin(), places.end());
  const int64_t width = first.numel() / std::max<int64_t>(count * first.size(0), 1);
  const at::Tensor cut = patch == 1 ? first : first.reshape(shape);
  return cut.permute(order).reshape({first.size(0), width, count}).transpose(1, 2);
}

at::Tensor Positions::expand(const at::Tensor& values, const at::Tensor& state) const {
  const Axes own = parse(names()), axes = parse(arranged().names());
  at::Tensor result = along_positions(values, axes, arrange(state), patch);
  if (axes.features()) result = result.unsqueeze(*axes.features());
  return put_back(own, result, own.batch().value_or(0));
}

at::Tensor Positions::in_place(const at::Tensor& values, const at::Tensor& state) const {
  const Axes own = parse(names()), axes = parse(arranged().names());
  const at::Tensor result = along_positions(values, axes, arrange(state), patch);
  int64_t batch = own.batch().value_or(0);
  if (own.features() && *own.features() < batch) --batch;
  return put_back(own, result, batch);
}

at::Tensor Positions::expand_vector(const at::Tensor& vector) const {
  const Axes own = parse(names());
  const std::vector<int64_t> positions = position_axes(own);
  if (!own.features() && (positions.size() != 1 || own.rows > 1)) return vector;
  const int64_t axis = own.features().value_or(positions.front());
  std::vector<int64_t> shape(static_cast<size_t>(own.size() - axis), 1);
  shape[0] = -1;
  return vector.view(shape);
}

int64_t Positions::channels(const at::Tensor& state) const {
  const Axes own = parse(names());
  check(*this, own, state);
  if (own.features()) return state.size(*own.features());
  const std::vector<int64_t> positions = position_axes(own);
  return positions.size() == 1 && own.rows == 1 ? state.size(positions.front()) : 1;
}

at::Tensor Positions::channel_values(const at::Tensor& state, const at::Tensor& mask) const {
  const int64_t count = channels(state);
  const at::Tensor all = features(state);
  if (!parse(names()).features() && count > 1) return all.squeeze(2);
  // Patches hold several cells of each channel.
  const at::Tensor chosen = all.index({mask});
  const at::Tensor cells = chosen.reshape({chosen.size(0), count, -1});
  return cells.transpose(1, 2).flatten(0, 1);
}

}  // namespace diffmask
