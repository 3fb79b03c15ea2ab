// Set-up and close. Nothing here is on the fault path.
#include "engine/tcp/tcp_channel.h"

#include "engine/core/check.h"

namespace faultline {
namespace {

/// A shut-down socket completes its receive and its send at once; what is waited for beyond that
/// is a copy that is running now, which may have to allocate guest memory.
constexpr Nanos kQuietStep = std::chrono::milliseconds(10);
constexpr int kQuietSteps = 3000;

}  // namespace

TcpChannel::TcpChannel(tcp::UniqueFd socket, LandingArea& area, Nanos silence_max,
                       Unpacker* unpacker, UringReactor& reactor)
    : StreamChannel(std::move(socket), area, silence_max, unpacker), reactor_(reactor) {
  FAULTLINE_CHECK(socket_.valid());
  reactor_.Attach(*this);
}

TcpChannel::~TcpChannel() { Close(); }

void TcpChannel::Close() {
  if (closed_) return;
  closing_ = true;
  ::shutdown(socket_.get(), SHUT_RDWR);
  if (InKernel() && reactor_.MayPump()) {
    if (receiving_) reactor_.QueueCancel(*this, kReceive);
    if (sending_) reactor_.QueueCancel(*this, kSend);
    if (watching_end_) reactor_.QueueCancel(*this, kEnd);
    for (int step = 0; InKernel() && step < kQuietSteps; ++step) reactor_.Pump(kQuietStep);
    // A receive that never ends could still write into a page that is asked for again: better to
    // stop here, with the guest waiting, than to corrupt it.
    FAULTLINE_CHECK(!InKernel());
  }
  reactor_.Detach(*this);
  Seal();
}

}  // namespace faultline
