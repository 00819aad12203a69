"""What ``python -m benchmarks store`` measures: our stores, and the stores of other libraries, on the same talk."""
