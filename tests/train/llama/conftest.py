"""The tests here are collected only where llama-cpp-python can be imported: it has to be compiled, which CI
does not do. `pip install 'spellbound[bench]'` brings it."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("llama_cpp") else ["test_*.py"]
