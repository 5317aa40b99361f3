"""The language of the bus: every message Muster's parts say to each other, by area and version."""
