"""What attention means: windows, masks, softmax terms and how two masks differ. Standard library only."""
