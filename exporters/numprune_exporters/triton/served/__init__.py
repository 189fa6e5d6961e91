"""Code that runs inside the server; it is copied unchanged into the model repository.

Needs numpy, tokenizers and the artifact's runtime; no torch, no pydantic, no other part of this
package.
"""
