"""The servers that the runtime can put on an inherited socket."""
