"""Who ordered what, in a chain that shows tampering."""
