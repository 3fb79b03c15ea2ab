// The whole engine, thousands of times, each time with other bad luck.
//
//   simulation_test                     the quick run
//   simulation_test --count N           more of it
//   simulation_test --seed S --page P   one migration again, and what happened to one page
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/simulation/migration.h"
#include "tests/simulation/world.h"

namespace faultline::simulation {
namespace {

struct Arguments {
  uint64_t first_seed = 1;
  uint64_t count = SIMULATION_COUNT;
};
Arguments arguments;

TEST(Simulation, EveryLawHoldsInEveryMigration) {
  const auto start = std::chrono::steady_clock::now();
  Outcome sum;
  uint64_t steps_max = 0;
  for (uint64_t i = 0; i < arguments.count; ++i) {
    const uint64_t seed = arguments.first_seed + i;
    const Outcome outcome = RunMigration(seed);
    ASSERT_EQ(outcome.violation, "") << "replay: simulation_test --seed " << seed;
    sum.pages += outcome.pages;
    sum.faults += outcome.faults;
    sum.deaths += outcome.deaths;
    sum.cuts += outcome.cuts;
    sum.steps += outcome.steps;
    steps_max = std::max(steps_max, outcome.steps);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf(
      "seeds %lu to %lu: %.0f migrations/s; %lu pages, %lu faults, %lu engine deaths, "
      "%lu link cuts, %lu steps (at most %lu in one)\n",
      arguments.first_seed, arguments.first_seed + arguments.count - 1,
      static_cast<double>(arguments.count) / took.count(), sum.pages, sum.faults, sum.deaths,
      sum.cuts, sum.steps, steps_max);
}

}  // namespace
}  // namespace faultline::simulation

int main(int argc, char** argv) {
  using faultline::PageIndex;
  using faultline::simulation::arguments;
  using faultline::simulation::World;
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--seed") arguments = {value, 1};
    if (name == "--page") World::TracedPage() = PageIndex(value);
    if (name == "--count") arguments.count = value;
    if (name == "--first") arguments.first_seed = value;
  }
  return RUN_ALL_TESTS();
}
