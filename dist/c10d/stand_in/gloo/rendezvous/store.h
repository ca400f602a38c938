// See ../algorithm.h.
#pragma once
#include <chrono>
#include <string>
#include <vector>
namespace gloo::rendezvous {
// the base of c10d's GlooStore, which is never made here
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string&, const std::vector<char>&) = 0;
  virtual std::vector<char> get(const std::string&) = 0;
  virtual void wait(const std::vector<std::string>&) = 0;
  virtual void wait(const std::vector<std::string>&, const std::chrono::milliseconds&);
};
} // namespace gloo::rendezvous
