"""MLLM-DataEngine (arXiv 2308.13566) for LLaVA-1.5-7B: a model's own mistakes decide which training data are made next.

A round evaluates the model, weighs every type of question by how often it is answered wrong, and has a language model write new
questions of those types, with some of the mistakes as examples; what survives a filter joins the instruction mix and the model is
trained again. Peculiar: the generator of the second version was never published, only its 220k records and the trained adapters;
the code of the engine is that of the first version, which was made for another model.
"""
