"""Pure decisions about presence: values in, values out, no clock and no wire."""
