// SIGINT and SIGTERM as a flag. Before the switch an interrupted migration is undone; afterwards
// each side holds what exists nowhere else, and the signal is answered with an explanation.
#pragma once

namespace faultline {

/// Installs the handlers, and ignores SIGPIPE. Once, before threads start.
void CatchInterrupts();
/// True once a signal has arrived. Any thread.
bool Interrupted();
/// Forgets a signal that could not be obeyed.
void ForgetInterrupt();

}  // namespace faultline
