"""Side-by-side measurements: every figure stands beside its peer's from the same run on the same cores."""
