// c10d behind a C interface: the store of a rendezvous, process groups of Gloo and NCCL, and their
// collectives. It knows nothing of ranks' duties, time budgets or kinds of errors: Rust does.
//
// Every function that can fail returns null, or a message that `dist_free_message` takes back.
// Pointers that a function writes to `out` are owned by the caller.

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <c10/util/Logging.h>
#include <dlfcn.h>

// without it the header of Gloo's process group is empty
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

using Milliseconds = std::chrono::milliseconds;
using StorePtr = c10::intrusive_ptr<c10d::Store>;
using GroupPtr = c10::intrusive_ptr<c10d::Backend>;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;

namespace {

// Exceptions end here: none may reach Rust.
template <typename F>
char* guarded(F&& f) {
  try {
    f();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

// libtorch_cuda is loaded while the program runs, if at all, and the wheel lacks headers that
// ProcessGroupNCCL.hpp includes. So the constructors are found by their mangled names, and called
// on more memory than the classes need: 1112 and 248 bytes in libtorch 2.11.0. Another signature
// has another name, which is then not found. Afterwards the object is used through the virtual
// functions of its base class alone.
constexpr size_t kGroupBytes = 16384;
constexpr size_t kOptionsBytes = 4096;
constexpr const char* kOptionsConstructor = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
constexpr const char* kGroupConstructor =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34"
    "intrusive_target_default_null_typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE";

template <typename Base, typename... Args>
c10::intrusive_ptr<Base> construct(size_t bytes, const char* constructor, Args... args) {
  // An intrusive_ptr is passed by a hidden reference, whatever type it points to.
  auto* call = reinterpret_cast<void (*)(void*, Args...)>(dlsym(RTLD_DEFAULT, constructor));
  TORCH_CHECK(
      call,
      "libtorch_cuda is not loaded, or not that of libtorch 2.11.0: no symbol ",
      constructor);
  void* memory = ::operator new(bytes);
  std::memset(memory, 0, bytes);
  try {
    call(memory, std::move(args)...);
  } catch (...) {
    ::operator delete(memory);
    throw;
  }
  // The base lies at the object's start: single inheritance all the way down.
  return c10::intrusive_ptr<Base>::unsafe_steal_from_new(static_cast<Base*>(memory));
}

} // namespace

extern "C" {

void dist_free_message(char* message) {
  free(message);
}

const char* dist_nccl_constructor(int of_options) {
  return of_options ? kOptionsConstructor : kGroupConstructor;
}

// Python does this when torch is imported. Without it libtorch ignores TORCH_CPP_LOG_LEVEL.
void dist_init_logs() {
  c10::initLogging();
}

// Where the user has set no level, libtorch logs nothing while ranks join: what c10d would say at
// length is in the errors that it throws. Afterwards it logs errors, because NCCL's watchdog ends
// the process, and has no other way to say why.
void dist_quiet_logs(int is_joining) {
  if (getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
    FLAGS_caffe2_log_level = is_joining ? c10::GLOG_FATAL : c10::GLOG_ERROR;
  }
}

char* dist_store(const char* host, uint16_t port, int serves, int64_t timeout_ms, StorePtr** out) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves != 0;
    options.waitWorkers = false; // Rust counts the ranks, and names those that are missing
    options.timeout = Milliseconds(timeout_ms);
    options.multiTenant = true;
    *out = new StorePtr(c10::make_intrusive<c10d::TCPStore>(host, options));
  });
}

char* dist_store_prefixed(StorePtr* store, const char* prefix, StorePtr** out) {
  return guarded(
      [&] { *out = new StorePtr(c10::make_intrusive<c10d::PrefixStore>(prefix, *store)); });
}

char* dist_store_set(StorePtr* store, const char* key) {
  return guarded([&] { (*store)->set(key, std::vector<uint8_t>{1}); });
}

char* dist_store_add(StorePtr* store, const char* key, int64_t n, int64_t* out) {
  return guarded([&] { *out = (*store)->add(key, n); });
}

char* dist_store_wait(StorePtr* store, const char* key, int64_t timeout_ms) {
  return guarded([&] { (*store)->wait({key}, Milliseconds(timeout_ms)); });
}

char* dist_store_has(StorePtr* store, const char* key, int* out) {
  return guarded([&] { *out = (*store)->check({key}) ? 1 : 0; });
}

void dist_store_free(StorePtr* store) {
  delete store;
}

// Gloo listens at `address`, or, where it is null, where GLOO_SOCKET_IFNAME or the host's name say.
char* dist_gloo(
    StorePtr* store,
    int rank,
    int size,
    const char* address,
    int64_t timeout_ms,
    GroupPtr** out) {
  return guarded([&] {
    using Gloo = c10d::ProcessGroupGloo;
    auto options = address ? Gloo::Options::create(Milliseconds(timeout_ms))
                           : Gloo::Options::create_default(Milliseconds(timeout_ms));
    if (address) options->devices.push_back(Gloo::createDeviceForHostname(address));
    *out = new GroupPtr(c10::make_intrusive<Gloo>(*store, rank, size, options));
  });
}

// The caller has loaded libtorch_cuda.
char* dist_nccl(StorePtr* store, int rank, int size, int64_t timeout_ms, GroupPtr** out) {
  return guarded([&] {
    auto options = construct<c10d::Backend::Options>(kOptionsBytes, kOptionsConstructor, false);
    options->timeout = Milliseconds(timeout_ms);
    *out = new GroupPtr(construct<c10d::Backend>(
        kGroupBytes, kGroupConstructor, *store, rank, size, options));
  });
}

char* dist_set_timeout(GroupPtr* group, int64_t timeout_ms) {
  return guarded([&] { (*group)->setTimeout(Milliseconds(timeout_ms)); });
}

char* dist_shutdown(GroupPtr* group) {
  return guarded([&] { (*group)->shutdown(); });
}

void dist_group_free(GroupPtr* group) {
  delete group;
}

char* dist_all_reduce_sum(GroupPtr* group, at::Tensor* tensor, WorkPtr** out) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    *out = new WorkPtr((*group)->allreduce(tensors));
  });
}

char* dist_reduce_scatter_sum(
    GroupPtr* group, at::Tensor* output, at::Tensor* input, WorkPtr** out) {
  return guarded([&] { *out = new WorkPtr((*group)->_reduce_scatter_base(*output, *input)); });
}

char* dist_all_gather(GroupPtr* group, at::Tensor* output, at::Tensor* input, WorkPtr** out) {
  return guarded([&] { *out = new WorkPtr((*group)->_allgather_base(*output, *input)); });
}

char* dist_broadcast(GroupPtr* group, at::Tensor* tensor, int root, WorkPtr** out) {
  return guarded([&] {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    std::vector<at::Tensor> tensors{*tensor};
    *out = new WorkPtr((*group)->broadcast(tensors, options));
  });
}

// To rank 0, whose `outputs` are one tensor per rank; elsewhere there are none.
char* dist_gather(
    GroupPtr* group, at::Tensor* const* outputs, size_t n, at::Tensor* input, WorkPtr** out) {
  return guarded([&] {
    std::vector<at::Tensor> inputs{*input};
    std::vector<std::vector<at::Tensor>> gathered;
    if (n > 0) {
      gathered.emplace_back();
      for (size_t i = 0; i < n; ++i) gathered.back().push_back(*outputs[i]);
    }
    *out = new WorkPtr((*group)->gather(gathered, inputs));
  });
}

// The time limit is that of the group.
char* dist_wait(WorkPtr* work) {
  return guarded([&] { TORCH_CHECK((*work)->wait(), "the collective was aborted"); });
}

void dist_work_free(WorkPtr* work) {
  delete work;
}

} // extern "C"
