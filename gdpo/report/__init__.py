"""Tables, figures, claims and the paper, from scores and samples alone: nothing is trained here."""
