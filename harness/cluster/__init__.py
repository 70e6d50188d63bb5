"""A suite's launches on several devices: one launch on one device at a time, its records back as they are made.

`spread` hands launches out and merges what comes back, `seat` and `launches` run one on its device, and `on_ray` alone
knows Ray.
"""
