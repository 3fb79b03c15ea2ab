// Reading JSON that somebody else wrote: a missing or wrongly typed member is the given default,
// never an exception.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace faultline {

using Json = nlohmann::json;

/// The member, or null if `object` is none or has no such member.
inline const Json& Member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

inline std::string StringOf(const Json& value, std::string otherwise = {}) {
  return value.is_string() ? value.get<std::string>() : std::move(otherwise);
}

inline int64_t IntOf(const Json& value, int64_t otherwise = 0) {
  return value.is_number_integer() ? value.get<int64_t>() : otherwise;
}

inline uint64_t UnsignedOf(const Json& value, uint64_t otherwise = 0) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  const int64_t number = IntOf(value, -1);
  return number >= 0 ? static_cast<uint64_t>(number) : otherwise;
}

inline bool BoolOf(const Json& value) { return value.is_boolean() && value.get<bool>(); }

}  // namespace faultline
