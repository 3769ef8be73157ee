"""Retrieval: what a unit means, and where a concept is.

``search.AtlasSearcher`` holds the indices of one atlas, ``vocabulary.Vocabulary`` the concepts to choose from, and
``results`` what they answer. Import from the modules: ``results`` costs neither FAISS nor SciPy.
"""
