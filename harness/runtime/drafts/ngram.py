"""SGLang's n-gram trie is C++ that is compiled at its first use; a header of it (0.5.17, ngram_corpus/result.h) uses
size_t without including <cstddef>, which GCC 12 refuses."""

from __future__ import annotations

import os

os.environ["CXX"] = os.environ.get("CXX", "c++") + " -include cstddef"
