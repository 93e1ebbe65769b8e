"""attncheck: does the attention that runs equal the attention that the model declares?"""

__version__ = "0.1.0"
