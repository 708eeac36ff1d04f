module wharf.dev/benchmarks/stub

go 1.26.0
