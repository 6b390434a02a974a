"""A root that does the obvious right thing and a leaf that is always right: the engine without a model, tested to the digit.

With the perfect leaf the engine must score 1.00; with a real model as the leaf, the score is that model's labelling alone.
"""
