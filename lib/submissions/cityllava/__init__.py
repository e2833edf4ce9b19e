"""CityLLaVA (arXiv 2405.03194): first place of AI City Challenge 2024, Track 2, traffic safety description and analysis.

For each of five phases of a traffic event the model writes one caption about the pedestrian and one about the vehicle. Peculiar: it
sees a single frame per phase, once whole and once cut to the two boxes drawn into it, and is asked twice in one conversation; the
captions of the training set also become short questions and answers, sorted by a language model; and of LLaVA-1.6-34B only twelve
inserted decoder blocks, and the output head, are trained.
"""
