"""What runs inside the server: copied into the model repository as it is, and run from there.

Needs numpy, tokenizers and the artifact's runtime; neither torch, pydantic nor the rest of this
package.
"""
