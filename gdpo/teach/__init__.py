"""Groups: the teacher samples G completions a question, each graded into a reward in [0, 2] (paper, A Fig. 4)."""
