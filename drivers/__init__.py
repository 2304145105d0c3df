"""The field: everything that speaks to devices."""
