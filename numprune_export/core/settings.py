"""The settings base: immutable, and a key nobody knows is an error."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen settings model; attribute docstrings become the schema's descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )
