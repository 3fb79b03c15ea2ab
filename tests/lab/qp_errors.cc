// Loaded into faultline by LD_PRELOAD: puts its queue pairs into the error state at random, as a
// broken cable or a failing device would, without a hook in the program.
//
//   LAB_QP_ERRORS_MS    mean time between two errors (exponential)
//   LAB_QP_ERRORS_SEED  of the times and of the choice
//   LAB_QP_ERRORS_LOG   a line for each error is added there
#include <dlfcn.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace {

unsigned long Setting(const char* name, unsigned long otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoul(text, nullptr, 10);
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

class Breaker {
 public:
  void Add(ibv_qp* pair) {
    const std::lock_guard lock(mutex_);
    if (pairs_.empty() && !started_) std::thread([this] { Run(); }).detach();
    started_ = true;
    pairs_.push_back(pair);
  }
  /// Holding the lock while it is destroyed: none is broken that is gone.
  int Destroy(ibv_qp* pair, int (*destroy)(ibv_qp*)) {
    const std::lock_guard lock(mutex_);
    std::erase(pairs_, pair);
    return destroy(pair);
  }

 private:
  void Run() {
    std::mt19937_64 dice(Setting("LAB_QP_ERRORS_SEED", 1));
    std::exponential_distribution<double> pause(1.0 / double(Setting("LAB_QP_ERRORS_MS", 1000)));
    for (;;) {
      std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(pause(dice)));
      const std::lock_guard lock(mutex_);
      if (!pairs_.empty()) Break(pairs_[dice() % pairs_.size()]);
    }
  }

  void Break(ibv_qp* pair) {
    ibv_qp_attr now{};
    ibv_qp_init_attr made{};
    if (ibv_query_qp(pair, &now, IBV_QP_STATE, &made) != 0 || now.qp_state != IBV_QPS_RTS) return;
    ibv_qp_attr broken{};
    broken.qp_state = IBV_QPS_ERR;
    if (ibv_modify_qp(pair, &broken, IBV_QP_STATE) == 0) Log(pair);
  }

  void Log(const ibv_qp* pair) {
    const int file = open(std::getenv("LAB_QP_ERRORS_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (file < 0) return;
    dprintf(file, "pid %d queue pair %u\n", getpid(), pair->qp_num);
    close(file);
  }

  std::mutex mutex_;
  std::vector<ibv_qp*> pairs_;
  bool started_ = false;
};

Breaker& TheBreaker() {
  static auto* breaker = new Breaker;  // its thread outlives main()
  return *breaker;
}

}  // namespace

extern "C" {

int rdma_create_qp(rdma_cm_id* id, ibv_pd* domain, ibv_qp_init_attr* wanted) {
  static const auto kNext = Next<decltype(&rdma_create_qp)>("rdma_create_qp");
  const int result = kNext(id, domain, wanted);
  if (result == 0) TheBreaker().Add(id->qp);
  return result;
}

// librdmacm calls it too, for the queue pairs of its connections.
int ibv_destroy_qp(ibv_qp* pair) {
  static const auto kNext = Next<decltype(&ibv_destroy_qp)>("ibv_destroy_qp");
  return TheBreaker().Destroy(pair, kNext);
}

}  // extern "C"
