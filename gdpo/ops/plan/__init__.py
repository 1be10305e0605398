"""What a scale takes before anything is spent: jobs, runs, tokens, time, memory, money; `gdpo plan`."""
