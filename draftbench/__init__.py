"""Compares draft architectures for speculative decoding, all verified by SGLang's own runtime.

The packages below are links to the folders at the top of the repository, which so have one name everywhere.
"""
