"""MetaKL: pool -> knowledge units -> proficiency of the base models -> Algorithm 1 (paper, section on data)."""
