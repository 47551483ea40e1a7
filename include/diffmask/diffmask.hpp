#pragma once
/// \file
/// All of DiffMask but the zoo, for programs that use it. (The library's own headers never include
/// this one. Eigen's views of results, which cost a unit a second more, are in report/eigen.hpp.)
///
///     auto model = diffmask::load_program("model.pt2");
///     diffmask::DiffMask method(model, {.sites = model->select("encoder.layer.*")});
///     diffmask::Summary summary = method.fit(data, {.epsilon = 0.1});
///     diffmask::Attribution attribution = method.attribute(batch);

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/model/staged.hpp"
#include "diffmask/model/tapped.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/version.hpp"
