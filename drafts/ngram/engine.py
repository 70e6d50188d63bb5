"""SGLang's n-gram trie is C++ that is compiled at its first use, with ninja and a C++ compiler.

A header of it (0.5.17, ngram_corpus/result.h) uses size_t without including <cstddef>, which GCC 12 refuses. Ninja may
lie beside this Python and not on the path.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
os.environ["CXX"] = os.environ.get("CXX", "c++") + " -include cstddef"
