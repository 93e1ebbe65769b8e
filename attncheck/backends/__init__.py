"""One kernel library each: can it run here, with reasons."""
