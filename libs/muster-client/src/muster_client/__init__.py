"""The SDK for controllers and consumers, and the muster command."""
