"""Reference root and leaf: exact tests of the engine without a model.

With the perfect leaf the engine must score 1.00. With a real model as the leaf, the score measures that model's reading alone.
"""
