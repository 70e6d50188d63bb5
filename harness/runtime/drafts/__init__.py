"""The engine's side of the architectures that SGLang does not have: a model, and where needed a draft worker."""
