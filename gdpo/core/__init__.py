"""What every room uses: errors, files, records, stored results, provenance, the terminal. Sees no other room."""
