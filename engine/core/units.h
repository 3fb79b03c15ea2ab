// The engine's units as types. They cost nothing and cannot be mixed up.
//
//   PageIndex   a page of the migration's page space (geometry.h): all regions, one numbering
//   PageCount   how many pages
//   PageRun     consecutive pages of one region
//   ByteCount   how many bytes
//   PageSize    bytes per page of one region: 4 KiB, or the page of a hugetlbfs
//   VmmAddr     an address in the VMM's process: what a fault reports, what CONTINUE maps
//   GuestAddr   what the guest calls a physical address; only its own tables speak of it
//   HostAddr    an address in the engine's own mapping of guest RAM: the alias
//
// Crossing from one to another happens in geometry.h and nowhere else.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>

namespace faultline {

namespace internal {

/// A number that knows what it counts. Same kinds add and compare; nothing converts by itself.
template <class Tag>
class Quantity {
 public:
  constexpr Quantity() = default;
  constexpr explicit Quantity(uint64_t value) : value_(value) {}
  [[nodiscard]] constexpr uint64_t value() const { return value_; }

  friend constexpr auto operator<=>(Quantity, Quantity) = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return Quantity(a.value_ + b.value_);
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return Quantity(a.value_ - b.value_);
  }
  constexpr Quantity& operator+=(Quantity other) { return *this = *this + other; }
  constexpr Quantity& operator-=(Quantity other) { return *this = *this - other; }

 private:
  uint64_t value_ = 0;
};

/// A place: places differ by an Offset, and never add up.
template <class Tag, class Offset>
class Position {
 public:
  constexpr Position() = default;
  constexpr explicit Position(uint64_t value) : value_(value) {}
  [[nodiscard]] constexpr uint64_t value() const { return value_; }

  friend constexpr auto operator<=>(Position, Position) = default;
  friend constexpr Position operator+(Position a, Offset d) {
    return Position(a.value_ + d.value());
  }
  friend constexpr Offset operator-(Position a, Position b) { return Offset(a.value_ - b.value_); }
  constexpr Position& operator+=(Offset d) { return *this = *this + d; }
  constexpr Position& operator++() { return *this = Position(value_ + 1); }

 private:
  uint64_t value_ = 0;
};

}  // namespace internal

using PageCount = internal::Quantity<struct PageCountTag>;
using ByteCount = internal::Quantity<struct ByteCountTag>;
using PageIndex = internal::Position<struct PageIndexTag, PageCount>;
using VmmAddr = internal::Position<struct VmmAddrTag, ByteCount>;
using GuestAddr = internal::Position<struct GuestAddrTag, ByteCount>;
using HostAddr = internal::Position<struct HostAddrTag, ByteCount>;

/// A power of two from 4 KiB to 1 GiB.
class PageSize {
 public:
  constexpr PageSize() = default;
  constexpr explicit PageSize(uint64_t bytes) : bytes_(bytes) {}
  [[nodiscard]] constexpr uint64_t bytes() const { return bytes_; }
  [[nodiscard]] constexpr bool valid() const {
    return bytes_ >= 4096 && bytes_ <= (uint64_t{1} << 30) && (bytes_ & (bytes_ - 1)) == 0;
  }
  friend constexpr bool operator==(PageSize, PageSize) = default;

 private:
  uint64_t bytes_ = 4096;
};
/// Of all memory but hugetlbfs. x86-64 knows no smaller page.
inline constexpr PageSize kSmallPageSize{4096};

constexpr ByteCount operator*(PageCount count, PageSize size) {
  return ByteCount(count.value() * size.bytes());
}

/// Consecutive pages of one region. An empty run is legal as a value, never as a request.
struct PageRun {
  PageIndex first;
  PageCount count;

  [[nodiscard]] constexpr PageIndex end() const { return first + count; }
  [[nodiscard]] constexpr bool empty() const { return count.value() == 0; }
  [[nodiscard]] constexpr bool Contains(PageIndex page) const {
    return first <= page && page < end();
  }
  friend constexpr bool operator==(const PageRun&, const PageRun&) = default;
};

/// The most pages one request may name: a reply says with one bit per page whether bytes follow.
inline constexpr uint64_t kRunPagesMax = 64;
/// The most bytes one run may have, unless a single page is larger (hugetlbfs).
inline constexpr ByteCount kRunBytesMax{uint64_t{256} * 1024};

/// Durations and points of CLOCK_MONOTONIC, in nanoseconds.
using Nanos = std::chrono::nanoseconds;

}  // namespace faultline
