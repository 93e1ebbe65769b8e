"""What a user's own set-up does to get rid of flash kernels: switches SDPA's off, for the whole process."""

import torch

torch.backends.cuda.enable_flash_sdp(False)
if hasattr(torch.backends.cuda, "enable_cudnn_sdp"):
    torch.backends.cuda.enable_cudnn_sdp(False)
