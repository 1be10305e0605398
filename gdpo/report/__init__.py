"""Tables as selections of runs: they read scores and samples, and train nothing."""
