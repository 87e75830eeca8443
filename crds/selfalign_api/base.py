"""What all types of the API share: closed and immutable models, bounded scalars, lists that are maps by a key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
TEMPLATE_MAX_CHARACTERS = 16 * 1024


class ApiModel(BaseModel):
    """A part of the API: camelCase in YAML, snake_case in Python, no further fields, immutable, no conversions.

    The docstring under a field is its description in the CRD. Under spec, a method field that is None has the recipe's
    value, a `compute` field that is None the profile's.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True)
class MapBy:
    """Marks a list as a map by the field `key` of its entries (`x-kubernetes-list-type: map`): no key twice."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The list's schema, then the check."""
        return core_schema.no_info_after_validator_function(self._unique, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The list's JSON schema with the two fields that make it a map for Kubernetes."""
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _unique(self, entries: tuple[ApiModel, ...]) -> tuple[ApiModel, ...]:
        seen = set()
        for entry in entries:
            value = entry.model_dump(mode="json")[self.key]
            if value in seen:
                raise PydanticCustomError(
                    "twice", "two entries have {key}: {value}; keep one", {"key": self.key, "value": value}
                )
            seen.add(value)
        return entries


def _timestamp(text: str) -> str:
    """RFC 3339, as Kubernetes writes times: 2026-11-24T10:00:00Z."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError("timestamp", "is no time; write it as 2026-11-24T10:00:00Z")
    return text


Count = Annotated[int, Field(ge=1, le=INT32_MAX)]
LongCount = Annotated[int, Field(ge=1, le=INT64_MAX)]
Seconds = Annotated[int, Field(ge=0, le=INT32_MAX)]
Percent = Annotated[int, Field(ge=0, le=100)]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")]
Text = Annotated[str, Field(min_length=1, max_length=256)]
LongText = Annotated[str, Field(max_length=4096)]
Url = Annotated[str, Field(min_length=1, max_length=1024)]
Template = Annotated[str, Field(min_length=1, max_length=TEMPLATE_MAX_CHARACTERS)]
Timestamp = Annotated[str, AfterValidator(_timestamp), Field(json_schema_extra={"format": "date-time"})]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]

# A map that the schema leaves open: what stands in it belongs to Kubernetes, vLLM or DeepSpeed, not to us.
FreeForm = Annotated[dict[str, JsonValue], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
