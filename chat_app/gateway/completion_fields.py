"""What the fields of a chat completion have in common, whether they stand in its messages, its tools or beside them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Fields(BaseModel):
    """An object of a request: its types are taken strictly, and fields that it does not know are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")
