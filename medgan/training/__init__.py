"""The training loop and the objectives that it runs. The loop knows nothing of GANs; the objectives know nothing of
devices or tracking.
"""
