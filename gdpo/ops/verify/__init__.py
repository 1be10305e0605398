"""Does a table follow from what is stored: outputs graded anew, scores and table made anew, records checked (ours)."""
