// What real QEMUs say of a guest's RAM and processors.
#include "qemu-integration/first_places.h"
#include "tests/qemu/hand_over_fixture.h"

namespace faultline::test {
namespace {

class FirstPlacesOfQemu : public HandOverTest {};

TEST_P(FirstPlacesOfQemu, ItsLayoutLeadsToTheGuestsRam) {
  StartSource(SharedRam(source_ram_.path()) + Guest());
  const auto text = source_->qmp().Human("info mtree -f");
  ASSERT_OK(text);
  const GuestLayout layout = GuestLayout::Parse(*text, source_->description().regions);
  const auto counter = layout.PlaceOf(GuestAddr(kCounterAddress));
  ASSERT_TRUE(counter);
  EXPECT_EQ(counter->region, 0U);
  EXPECT_EQ(counter->offset, ByteCount(kCounterAddress));
}

TEST_P(FirstPlacesOfQemu, AGuestInRealModeShowsNothingAndNothingHappensToIt) {
  StartSource(SharedRam(source_ram_.path()) + Guest());
  const FirstPlaces found =
      source_->LookForFirstPlaces([](RamPlace, std::span<std::byte>) { return true; });
  EXPECT_TRUE(found.changing.empty());
  EXPECT_TRUE(Runs(source_->description()));
}

INSTANTIATE_FOR_EACH_QEMU(FirstPlacesOfQemu);

}  // namespace
}  // namespace faultline::test
