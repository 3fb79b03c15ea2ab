"""The parts of perf/compare. README.md in perf/ says what it measures and how to read it."""
