#include "tune_cache.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

namespace ntksap {

namespace {

constexpr char kFirstLine[] = "ntksap engine choices 1";

struct Known {
  std::mutex mutex;
  std::map<std::string, Deal> deals;
  bool read = false, changed = false;
  bool foreign = false;  // the file is there and is not ours: it stays as it is
};

Known& known() {
  static Known* all = new Known;  // never destroyed: sessions may outlive static objects
  return *all;
}

// A line: key dense vectors packed block parts multiple. What does not read so is left out; `best_deal` checks the
// numbers.
void read_file(Known& all, const char* path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return;
  all.foreign = line != kFirstLine;
  if (all.foreign) return;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string key;
    Deal deal;
    if (words >> key >> deal.choice.dense >> deal.choice.vectors >> deal.choice.packed >> deal.choice.block >>
        deal.parts >> deal.multiple)
      all.deals.emplace(key, deal);
  }
}

bool write_file(const Known& all, const std::string& path) {
  std::ofstream file(path, std::ios::trunc);
  file << kFirstLine << '\n';
  for (const auto& entry : all.deals) {
    const Choice& c = entry.second.choice;
    file << entry.first << ' ' << c.dense << ' ' << c.vectors << ' ' << c.packed << ' ' << c.block << ' '
         << entry.second.parts << ' ' << entry.second.multiple << '\n';
  }
  file.close();
  return bool(file);
}

const char* file_name() {
  const char* name = std::getenv("NTKSAP_ENGINE_CACHE");
  return name && *name ? name : nullptr;
}

}  // namespace

bool recall(const std::string& key, Deal& deal) {
  Known& all = known();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (!all.read && file_name()) read_file(all, file_name());
  all.read = true;
  const auto found = all.deals.find(key);
  if (found == all.deals.end()) return false;
  deal = found->second;
  return true;
}

void remember(const std::string& key, const Deal& deal) {
  Known& all = known();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.deals[key] = deal;
  all.changed = true;
}

void save_deals() {
  Known& all = known();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (!all.changed || all.foreign || !file_name()) return;
  all.changed = false;
  const std::string beside = std::string(file_name()) + "." + std::to_string(getpid());
  if (!write_file(all, beside) || std::rename(beside.c_str(), file_name()) != 0) std::remove(beside.c_str());
}

}  // namespace ntksap
