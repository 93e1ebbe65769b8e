"""Reading the attention of a model that is in use: bounded in memory, and leaving everything as it was."""
