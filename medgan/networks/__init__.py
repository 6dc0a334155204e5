"""Networks, one file per family: pure `torch.nn.Module`s that know nothing of training, devices or files."""
