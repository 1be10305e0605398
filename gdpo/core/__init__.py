"""What every room uses: errors, files, records, stored results, provenance, the terminal. Imports no other room."""
