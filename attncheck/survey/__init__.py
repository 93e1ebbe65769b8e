"""The sweep over every model type of the installed transformers: settings, workers, results that survive a kill."""
