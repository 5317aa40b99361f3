"""Pure decisions: how packages are judged, what caused what, what is done about it, who is told."""
