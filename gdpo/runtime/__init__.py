"""How a step runs: in which environment, in how many processes and threads, and for how long."""
