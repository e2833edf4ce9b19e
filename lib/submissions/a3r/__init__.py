"""A3R: text-to-image retrieval of pedestrians and vehicles (CVPR 2023 foundation model challenge, track 2; arXiv 2306.06691).

Peculiar to it: vehicle captions are completed by the base model's own zero-shot choice, pictures are zero-padded to a square,
and the published checkpoint is an early stop (epoch 5) of a thirty-epoch schedule.
"""
