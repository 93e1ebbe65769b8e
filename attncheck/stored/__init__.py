"""Reports that were written as JSON, read back: measured on one machine, rendered on any other."""
