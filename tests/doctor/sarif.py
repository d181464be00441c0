"""What SARIF 2.1.0 (OASIS, chapter 3) says of the objects that the report is made of.

In JSON Schema, and no more of it than we use: a property that isn't here is an error, so that
who adds one reads in the standard what it may hold.
"""

from typing import Any

import jsonschema

_TEXT = {"type": "string"}
# RFC 3986, appendix A, without what has to be escaped; no colon in a first segment but a scheme's
_URI = {
    "type": "string",
    "allOf": [
        {"pattern": r"^([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*$"},
        {"pattern": r"^([a-z][a-z0-9+.-]*:|[^:]*$|[^:]*/)"},
    ],
}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_MESSAGE = _object("text", text=_TEXT)  # 3.11, 3.12
_PHYSICAL = _object(  # 3.29, 3.4, 3.30
    "artifactLocation",
    artifactLocation=_object("uri", uri=_URI),
    region=_object("startLine", startLine={"type": "integer", "minimum": 1}),
)
_LOCATION = _object(  # 3.28, 3.33
    "",
    physicalLocation=_PHYSICAL,
    logicalLocations=_list(_object("", fullyQualifiedName=_TEXT)),
)
_RELATED = _object(  # 3.28.5: why it is related
    "message",
    physicalLocation=_PHYSICAL,
    logicalLocations=_list(_object("", fullyQualifiedName=_TEXT)),
    message=_MESSAGE,
)
_RULE = _object(  # 3.49, 3.50
    "id",
    id=_TEXT,
    shortDescription=_MESSAGE,
    fullDescription=_MESSAGE,
    help=_MESSAGE,
    defaultConfiguration=_object("", level=_LEVEL),
)
_RESULT = _object(  # 3.27
    "message",
    ruleId=_TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level=_LEVEL,
    message=_MESSAGE,
    locations=_list(_LOCATION),
    relatedLocations={**_list(_RELATED), "uniqueItems": True},  # 3.27.22
)
_DRIVER = _object("name", name=_TEXT, version=_TEXT, rules={**_list(_RULE), "uniqueItems": True})
_RUN = _object("tool", tool=_object("driver", driver=_DRIVER), results=_list(_RESULT))  # 3.14

SCHEMA: dict[str, Any] = _object(  # 3.13
    "version runs", **{"$schema": _URI}, version={"const": "2.1.0"}, runs=_list(_RUN)
)

# Checked once: to check the schema takes longer than to check a report
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def validate(report: Any) -> None:
    """Raise jsonschema.ValidationError where `report` is not SARIF as described here."""
    _VALIDATOR.validate(report)
