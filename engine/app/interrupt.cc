#include "engine/app/interrupt.h"

#include <csignal>
#include <ctime>

namespace faultline {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

void OnSignal(int) { g_interrupted = 1; }

}  // namespace

void CatchInterrupts() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

bool Interrupted() { return g_interrupted != 0; }

void ForgetInterrupt() { g_interrupted = 0; }

}  // namespace faultline
