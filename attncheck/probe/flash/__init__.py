"""flash-attention's documented contract in plain torch, put behind the library's own code where no GPU is."""
