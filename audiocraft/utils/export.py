"""The peer's name for exporting; the work is done where models are known, in `models/export.py`.

The names are looked up when they are asked for, so that importing this room imports none above it.
"""

import typing as tp

if tp.TYPE_CHECKING:
    from ..models.export import export_encodec, export_lm, export_model, export_pretrained_compression_model

__all__ = ["export_encodec", "export_lm", "export_model", "export_pretrained_compression_model"]


def __getattr__(name: str) -> tp.Any:
    if name in __all__:
        from ..models import export

        return getattr(export, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
