// What was measured before: for the life of the process, and beyond it in the file that NTKSAP_ENGINE_CACHE names.
#pragma once

#include <string>

#include "tune.h"

namespace ntksap {

bool recall(const std::string& key, Deal& deal);
void remember(const std::string& key, const Deal& deal);

// Writes what is new to the file, whole or not at all. Without a file, or where it cannot be written, nothing happens.
void save_deals();

}  // namespace ntksap
