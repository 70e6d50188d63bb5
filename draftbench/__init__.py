"""Compares draft architectures for speculative decoding, all verified by SGLang's own runtime.

What lies beside this file are links to the top of the repository, whose parts so have one name everywhere.
"""
