"""The from-scratch world of micro and tiny: skills with known knowledge units, and models that learn them."""
