"""The from-scratch world of the scales micro and tiny: skills with known knowledge units, and models that learn them."""
