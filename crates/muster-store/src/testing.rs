//! A fresh database of either engine, for a test or a benchmark.
